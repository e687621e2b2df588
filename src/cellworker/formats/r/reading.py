"""Reading an object that R saved as `.rds`, `.rda`, `.qs` or `.qs2`; recognised by content."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cellworker.formats.common.findings import Findings
from cellworker.formats.r import qs2
from cellworker.formats.r.choosing import choose_object
from cellworker.formats.r.old_classes import in_new_layout
from cellworker.formats.r.qs.header import MAGIC
from cellworker.formats.r.qs.reader import read_qs
from cellworker.formats.r.rds.limits import OPENED_BEFORE, Limits
from cellworker.formats.r.rds.model import RValue
from cellworker.formats.r.rds.reader import read_rds
from cellworker.formats.r.rds.stream import ByteStream
from cellworker.formats.r.values import describe, named

__all__ = ["SavedObject", "is_plain_rds", "read_object"]

_USUAL = b"X\n"
ONE_OBJECT = "another object of the file, of which one is converted"


@dataclass(frozen=True, slots=True)
class SavedObject:
    """An object, and the SHA-256 of the file that it was saved in, in hex.

    `name` is that of the object in the file, "" where the file holds this object alone. `passed_over` says in words
    what the file holds beside it.
    """

    root: RValue
    sha256: str
    name: str = ""
    passed_over: tuple[str, ...] = ()


def read_object(
    path: Path,
    spool: Path,
    limits: Limits,
    on_bytes: Callable[[int, int], None],
    *,
    exact: bool = False,
    wanted: str = "",
    findings: Findings | None = None,
) -> SavedObject:
    """Read the object of a file that is served.

    Parameters
    ----------
    path, spool, limits, on_bytes, exact
        As for `read_rds` and `read_qs`.
    wanted
        The name of the object, in a file that may hold several; "" chooses (`choose_object`).
    findings
        Where the choice is reported; by default nowhere.

    Raises
    ------
    WorkerError
        As there.
    PartBrokenError
        When the file does not hold one such object.
    """
    root, sha256, is_workspace = _read(path, spool, limits, on_bytes, exact=exact)
    chosen = choose_object(root, wanted, findings or Findings(), is_workspace=is_workspace)
    others = [(name, value) for name, value in named(root) if name != chosen.name] if chosen.name else []
    passed_over = tuple(f"{name or 'an object'} ({describe(value)}): {ONE_OBJECT}" for name, value in others)
    return SavedObject(in_new_layout(chosen.value), sha256, chosen.name, passed_over)


def _read(
    path: Path, spool: Path, limits: Limits, on_bytes: Callable[[int, int], None], *, exact: bool
) -> tuple[RValue, str, bool]:
    begins = _begins(path)
    if begins.startswith(qs2.MAGIC):
        packed = read_rds(path, spool, limits, on_bytes, exact=exact, choose=qs2.codec)
        return packed.root, packed.sha256, packed.is_workspace
    if begins.startswith(MAGIC) or path.suffix.lower() == ".qs":
        found = read_qs(path, spool, limits, on_bytes, exact=exact)
        return found.root, found.sha256, False
    file = read_rds(path, spool, limits, on_bytes, exact=exact)
    return file.root, file.sha256, file.is_workspace


def is_plain_rds(path: Path) -> bool:
    """Tell a file of `saveRDS` in its usual form, which can be copied as it is; any other is written anew."""
    if _begins(path).startswith((MAGIC, qs2.MAGIC)):
        return False
    stream = ByteStream(path, OPENED_BEFORE)
    try:
        stream.fill(len(_USUAL))
        return stream.take(len(_USUAL)) == _USUAL
    finally:
        stream.close()


def _begins(path: Path) -> bytes:
    try:
        with path.open("rb", buffering=0) as file:
            return file.read(len(MAGIC))
    except OSError:
        return b""  # the reader says why
