"""Reads the object of any file that can hold a Seurat object: R's files, and h5Seurat."""

from collections.abc import Callable
from pathlib import Path

from cellworker.formats.common.findings import Findings
from cellworker.formats.common.kinds import content_hash, is_hdf5
from cellworker.formats.r import reading
from cellworker.formats.r.rds.limits import OPENED_BEFORE, Limits
from cellworker.formats.r.reading import SavedObject
from cellworker.formats.seurat.h5.reader import read_h5seurat

__all__ = ["read_exactly", "read_object"]


def read_object(
    path: Path,
    spool: Path,
    limits: Limits,
    on_bytes: Callable[[int, int], None],
    *,
    exact: bool = False,
    wanted: str = "",
    findings: Findings | None = None,
    threads: int = 1,
) -> SavedObject:
    """Read the object of a file that is served; see `cellworker.formats.r.reading.read_object`."""
    if not is_hdf5(path):
        return reading.read_object(path, spool, limits, on_bytes, exact=exact, wanted=wanted, findings=findings)
    sha256 = content_hash(path)
    found = read_h5seurat(path, spool, limits, threads, exact=exact)
    on_bytes(1, 1)
    return SavedObject(found.root, sha256, passed_over=found.passed_over)


def read_exactly(path: Path, spool: Path, on_bytes: Callable[[int, int], None], name: str = "") -> SavedObject:
    """Read a file that was opened before, every value in double precision; `name` is that of the object opened."""
    return read_object(path, spool, OPENED_BEFORE, on_bytes, exact=True, wanted=name)
