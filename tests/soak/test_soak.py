"""Everything at once, for minutes: ``make soak MINUTES=10``; two minutes as one of the tests.

``SOAK_SEED`` repeats the kills of an earlier run.
"""

import os
import random
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
for folder in (TESTS, TESTS / "faults", TESTS / "soak"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

from soaking import Soak  # noqa: E402
from world import open_platform, open_world  # noqa: E402


@pytest.mark.soak
async def test_nothing_is_lost_doubled_or_left_whatever_is_killed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    minutes = float(os.environ.get("SOAK_MINUTES", "2"))
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(1 << 32))
    with capsys.disabled():
        print(f"\nsoak of {minutes:g} minutes, SOAK_SEED={seed}", flush=True)
    with open_platform(tmp_path / "platform") as platform:
        async with open_world(tmp_path / "world", platform) as world:
            soak = Soak(world, minutes * 60, seed)
            await soak.run()
            await soak.judge()
            with capsys.disabled():
                print(soak, flush=True)
            assert len(soak.sent) > 100 * minutes
