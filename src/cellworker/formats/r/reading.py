"""Reading an object that R saved as `.rds` or `.qs`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cellworker.formats.r.qs.header import MAGIC
from cellworker.formats.r.qs.reader import read_qs
from cellworker.formats.r.rds.limits import Limits
from cellworker.formats.r.rds.model import RValue
from cellworker.formats.r.rds.reader import read_rds

__all__ = ["SavedObject", "begins_as_qs", "read_exactly", "read_object"]


@dataclass(frozen=True, slots=True)
class SavedObject:
    """An object, and the SHA-256 of the file that it was saved in, in hex."""

    root: RValue
    sha256: str


def read_object(
    path: Path, spool: Path, limits: Limits, on_bytes: Callable[[int, int], None], *, exact: bool = False
) -> SavedObject:
    """Read a file: as `.qs` where it is named so or begins so, else as `.rds`.

    Parameters
    ----------
    path, spool, limits, on_bytes, exact
        As for `read_rds` and `read_qs`.

    Raises
    ------
    WorkerError
        As there.
    """
    if path.suffix.lower() == ".qs" or begins_as_qs(path):
        found = read_qs(path, spool, limits, on_bytes, exact=exact)
        return SavedObject(found.root, found.sha256)
    file = read_rds(path, spool, limits, on_bytes, exact=exact)
    return SavedObject(file.root, file.sha256)


def read_exactly(path: Path, spool: Path, on_bytes: Callable[[int, int], None]) -> SavedObject:
    """Read a file that was opened before, every value in double precision.

    Parameters
    ----------
    path, spool, on_bytes
        As for `read_rds`.
    """
    # The limit that the user set was looked at when the experiment was opened.
    limits = Limits(max_inflated_bytes=1 << 50)
    if begins_as_qs(path):
        found = read_qs(path, spool, limits, on_bytes, exact=True)
        return SavedObject(found.root, found.sha256)
    file = read_rds(path, spool, limits, on_bytes, exact=True)
    return SavedObject(file.root, file.sha256)


def begins_as_qs(path: Path) -> bool:
    """Say whether a file holds the qs format."""
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False  # the reader says why
