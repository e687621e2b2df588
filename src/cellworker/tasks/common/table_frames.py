"""What results look like as tables: columns by name, for data frames and files."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Tables"]

Tables = dict[str, Mapping[str, Sequence[Any]]]
"""Tables by name; each maps column names to columns of one length, in order."""
