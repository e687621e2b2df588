"""Lets tests import this folder's helpers as ``cloud.servers``."""

import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))
