"""Results in a folder: one file per ETag, its tags beside it."""

import asyncio
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import orjson

from cellworker.formats.common.half_written import sweep
from cellworker.formats.common.whole_files import write_whole
from cellworker.identifiers import ETag
from cellworker.local.files import place_file

__all__ = ["DiskResults"]

_TAGS = ".tags.json"


class DiskResults:
    """Keeps results under `folder`.

    Parameters
    ----------
    folder
        Made when the first result comes. Temporary files of a run that was killed are removed at once.
    base_url
        Where the results are served, without the ETag.
    max_bytes
        The least recently used results are removed beyond it; None keeps all.
    """

    def __init__(self, folder: Path, base_url: str = "/results/", max_bytes: int | None = None) -> None:
        self.folder = folder
        self.base_url = base_url
        self._max_bytes = max_bytes
        self._bytes = 0
        self._pruning = threading.Lock()
        self._prune(None)
        sweep(folder)
        for leftover in folder.glob(".*.tmp"):  # as versions before 0.2 wrote them
            if leftover.is_file():
                leftover.unlink(missing_ok=True)

    async def exists(self, etag: ETag) -> bool:
        """Whether a result is stored."""
        return self.find(etag) is not None

    async def get(self, etag: ETag) -> bytes | None:
        """Return a stored result unchanged; None when there is none."""
        path = self.find(etag)
        return None if path is None else await asyncio.to_thread(path.read_bytes)

    async def put(self, etag: ETag, content: bytes | Path, tags: Mapping[str, str]) -> None:
        """Store a result; a file is moved. The tags are written before the result, so that no result lacks them."""
        await asyncio.to_thread(self._put, etag, content, dict(tags))

    async def url(self, etag: ETag) -> str:
        """Return the address of a result for clients."""
        return f"{self.base_url}{etag}"

    def find(self, etag: ETag) -> Path | None:
        """Return the file of a stored result."""
        path = self._path(etag)
        if path is None or not path.is_file():
            return None
        with suppress(OSError):
            os.utime(path)  # the time of its last use
        return path

    def tags(self, etag: ETag) -> dict[str, str]:
        """Return the tags of a stored result; empty when there is none."""
        path = self._path(etag)
        try:
            tags = orjson.loads(Path(f"{path}{_TAGS}").read_bytes()) if path else {}
        except (OSError, orjson.JSONDecodeError):
            return {}
        return tags if isinstance(tags, dict) else {}

    def _put(self, etag: ETag, content: bytes | Path, tags: dict[str, str]) -> None:
        path = self._path(etag)
        if path is None:
            message = f"{etag!r} cannot be the name of a result"
            raise ValueError(message)
        write_whole(Path(f"{path}{_TAGS}"), orjson.dumps(tags))
        if isinstance(content, Path):
            place_file(content, path)
        else:
            write_whole(path, content)
        self._bytes += path.stat().st_size
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            self._prune(path)

    def _prune(self, keep: Path | None) -> None:
        """Remove the least recently used results, down to nine tenths of the limit; never the newest."""
        if self._max_bytes is None:
            return
        with self._pruning:
            found = []
            for path in self.folder.glob("*"):
                with suppress(OSError):
                    if not path.name.endswith(_TAGS):
                        status = path.stat()
                        found.append((status.st_mtime_ns, status.st_size, path))
            total = sum(size for _, size, _ in found)
            goal = total if total <= self._max_bytes else self._max_bytes * 9 // 10
            for _, size, path in sorted(found):
                if total <= goal:
                    break
                if path != keep:
                    # A client that is fetching it has it open, and still gets all of it.
                    path.unlink(missing_ok=True)
                    Path(f"{path}{_TAGS}").unlink(missing_ok=True)
                    total -= size
            self._bytes = total

    def _path(self, etag: ETag) -> Path | None:
        """Only ETags lead to files, and none to another's tags: clients choose the names."""
        return self.folder / ETag(etag) if ETag.fits(etag) and not etag.endswith(_TAGS) else None
