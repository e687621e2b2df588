"""A cache in files of arrays that are expensive to compute, for later requests of the same engine."""

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

__all__ = ["kept"]

Arrays = Mapping[str, NDArray[Any]]

_MAX_FILES = 16
_MAX_BYTES = 512 << 20
_ENDING = ".npz"


def kept(folder: Path | None, key: str, make: Callable[[], Arrays]) -> Arrays:
    """Return the cached arrays of a key; compute and cache them first where there are none.

    The least recently used files are removed beyond 16 files or 512 MB. A damaged file is made again;
    one that cannot be written is skipped.

    Parameters
    ----------
    folder
        The folder of the files; None caches nothing.
    key
        A plain file name that names everything the arrays depend on.
    make
        Computes the arrays.
    """
    if folder is None:
        return make()
    path = folder / f"{key}{_ENDING}"
    known = _read(path)
    if known is not None:
        return known
    arrays = make()
    with suppress(OSError):
        _write(path, arrays)
        _tidy(folder)
    return arrays


def _read(path: Path) -> Arrays | None:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        os.utime(path)
    except Exception:  # noqa: BLE001 whatever a damaged file makes of the reader
        return None
    return arrays


def _write(path: Path, arrays: Arrays) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with staging.open("wb") as file:
            cast("Any", np.savez)(file, **arrays)
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def _tidy(folder: Path) -> None:
    files = []
    for path in folder.glob(f"*{_ENDING}"):
        with suppress(FileNotFoundError):  # another process cleans up too
            about = path.stat()
            files.append((about.st_mtime_ns, about.st_size, path))
    files.sort(reverse=True)
    size = 0
    for number, (_, bytes_, path) in enumerate(files):
        size += bytes_
        if number and (number >= _MAX_FILES or size > _MAX_BYTES):
            path.unlink(missing_ok=True)
