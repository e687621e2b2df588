"""Unpacks zip archives (Zarr stores, matrix folders) into the spool folder, after checks of names and sizes."""

import errno
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.kinds import ROOTS
from cellworker.formats.foreign.shown import Reading, refused

__all__ = ["unpacked"]

_MAX_MEMBERS: Final = 1_000_000
_MAX_DEPTH: Final = 64
_BLOCK: Final = 1 << 20
_AGAIN: Final = "copy the file here again, or pack it again"
_ENCRYPTED: Final = 0x1


def unpacked(path: Path, folder: Path, reading: Reading) -> Path:
    """Unpack an archive into a folder, and return where in it the experiment is.

    Only ordinary files with plain relative names are written, never more bytes than the archive's directory says, and
    these count for what reading the file may write to the disk.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _readable(path):
        archive = zipfile.ZipFile(path)
    with archive:
        members = archive.infolist()
        _check(path, members, reading)
        for member in members:
            if not member.is_dir():
                _extract(path, archive, member, folder)
    roots = [item.parent for name in ROOTS for item in folder.rglob(name)]
    if roots:
        return min(roots, key=lambda place: len(place.parts))
    inner = [item for item in folder.iterdir() if item.name != "__MACOSX"]
    return inner[0] if len(inner) == 1 and inner[0].is_dir() else folder


def _check(path: Path, members: list[zipfile.ZipInfo], reading: Reading) -> None:
    if len(members) > _MAX_MEMBERS:
        raise refused(path, f"more than {_MAX_MEMBERS:,} files", "unpack it and open what is in it")
    names = set()
    for member in members:
        parts = PurePosixPath(member.filename).parts
        mode = member.external_attr >> 16
        strange = (
            member.filename.startswith("/") or "\\" in member.filename or "\0" in member.filename
            or ".." in parts or len(parts) > _MAX_DEPTH or not parts
        )  # fmt: skip
        if strange or (mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) and stat.S_IFMT(mode)):
            shown = member.filename.encode("unicode_escape").decode()[:80]
            raise refused(path, f"{shown} in it is no ordinary file below its folder", _AGAIN)
        if member.flag_bits & _ENCRYPTED:
            raise refused(path, "it is encrypted", "unpack it and open what is in it")
        if parts in names:
            raise refused(path, f"{member.filename!r} is in it twice", _AGAIN)
        names.add(parts)
    total = sum(member.file_size for member in members)
    if total > reading.max_bytes:
        raise refused(path, f"{total / 1e9:,.1f} GB when unpacked", "raise LOAD_MAX_GB if it is sound")
    reading.scratch.claim(total + 512 * len(members))


def _extract(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder.joinpath(*PurePosixPath(member.filename).parts)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            for block in _pieces(path, archive, member):
                out.write(block)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            message = f"there is no room to unpack {path.name} beside the store: free some space, or set STORE_DIR"
            raise WorkerError(ErrorCode.DISK_FULL, message) from error
        raise refused(path, f"{member.filename!r} in it cannot be written ({error.strerror})", _AGAIN) from None


def _pieces(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    left = member.file_size
    with _readable(path):
        source = archive.open(member)
    with source:
        while True:
            with _readable(path):
                block = source.read(_BLOCK)
            if not block:
                return
            left -= len(block)
            if left < 0:
                raise refused(path, f"{member.filename!r} is longer than its size says", _AGAIN)
            yield block


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what the modules zipfile, zlib, bz2 and lzma raise for damaged content into a sentence."""
    try:
        yield
    except (MemoryError, WorkerError):
        raise
    except Exception as error:  # noqa: BLE001 - each of them has errors of its own, and zipfile trusts what it seeks to
        raise refused(path, f"its archive is damaged ({type(error).__name__}: {error})", _AGAIN) from None
