"""The sample experiment that comes with cellworker: 548 real immune cells, see ``immune/README.md``."""

from pathlib import Path

__all__ = ["SAMPLE_ID", "sample_path"]

SAMPLE_ID = "sample"
"""The experiment id of the sample."""


def sample_path() -> Path:
    """Return the folder that holds the sample's ``r.rds`` and ``cell_sets.json``."""
    return Path(__file__).with_name("immune")
