"""Cell sets for tasks: small ones are parsed here, large ones in a child process with limits."""

import asyncio
import tempfile
import weakref
from pathlib import Path

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.packed_cell_sets import LARGE_BYTES, unpack
from cellworker.formats.opening.sandbox import run_sandboxed

__all__ = ["CellSetsFile", "CellSetsReader", "whole"]

_MEMORY_BYTES = 1 << 30
_TIMEOUT_S = 120.0
_BYTES_FOR_EACH = 2
"""Written for each byte read: an id and its comma take two bytes of text, and four as a number."""


class CellSetsFile:
    """A cell_sets.json that is too large for memory: a temporary file, removed together with this object."""

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile(prefix="cellworker-cell-sets-", delete=False) as file:
            self.path = Path(file.name)
        weakref.finalize(self, self.path.unlink, missing_ok=True)

    @classmethod
    def of(cls, content: bytes) -> "CellSetsFile":
        """Write content to a temporary file."""
        made = cls()
        made.path.write_bytes(content)
        return made


def whole(content: bytes | CellSetsFile) -> bytes:
    """Return the text."""
    return content if isinstance(content, bytes) else content.path.read_bytes()


class CellSetsReader:
    """Reads cell sets off the event loop; caches the last ones, since they change seldom and may be large.

    The gateway holds the names of the sets; the ids of large ones are in a mapped file, of which only the parts that
    requests use come into memory.
    """

    def __init__(self) -> None:
        self._last: tuple[bytes | CellSetsFile, CellSets] = (b"", CellSets.empty())
        self._lock = asyncio.Lock()

    async def read(self, content: bytes | CellSetsFile) -> CellSets:
        """Return the sets in the form that the platform's requests use.

        Raises
        ------
        WorkerError
            ``CELL_SETS_INVALID``, also for sets that take more memory or time to read than they may.
        """
        async with self._lock:
            known, parsed = self._last
            if content is known or (isinstance(content, bytes) and content == known):
                return parsed
            parsed = (await asyncio.to_thread(_read, content)).for_wire()
            self._last = (content, parsed)
            return parsed


def _read(content: bytes | CellSetsFile) -> CellSets:
    if isinstance(content, bytes):
        if len(content) <= LARGE_BYTES:
            return CellSets.parse(content)
        content = CellSetsFile.of(content)
    with tempfile.TemporaryDirectory(prefix="cellworker-cell-sets-") as folder:
        target = Path(folder) / "ids"
        try:
            packed = run_sandboxed(
                "cellworker.experiment.packed_cell_sets:pack",
                {"source": str(content.path), "target": str(target)},
                memory_bytes=_MEMORY_BYTES,
                timeout_s=_TIMEOUT_S,
                max_file_bytes=_BYTES_FOR_EACH * content.path.stat().st_size,
            )
        except WorkerError as error:
            if error.code is ErrorCode.CELL_SETS_INVALID:
                raise
            raise WorkerError(ErrorCode.CELL_SETS_INVALID, _TOO_MUCH) from error
        return unpack(packed, target)


_TOO_MUCH = (
    f"The cell sets cannot be read within {_MEMORY_BYTES >> 30} GB of memory and {_TIMEOUT_S:g} seconds: "
    "they are damaged, or there are too many. Please remove sets that are not used."
)
