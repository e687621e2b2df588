"""The cell sets of the local run: read beside the experiment, changed there or in a person's own work."""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import orjson

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.formats.common.whole_files import write_whole
from cellworker.formats.opening.own_work import OwnWorkFile, may_write, version_of
from cellworker.gateway.core.cell_set_patches import applied, examine
from cellworker.gateway.core.ports import Claim, NotHeldError
from cellworker.identifiers import ExperimentId
from cellworker.local.door.cell_sets import ChangedMeanwhileError
from cellworker.local.own_classes import patched

__all__ = ["FileCellSets", "readable"]


class FileCellSets:
    """The cell sets of the one experiment that is served.

    Parameters
    ----------
    path
        The cell_sets.json; it need not exist.
    own
        The person's own work, and the cell sets to start from without any.
    keep_original
        Whether `path` is never written to.
    """

    def __init__(self, path: Path, own: OwnWorkFile, *, keep_original: bool = False) -> None:
        self._path = path
        self._own = own
        self._keep_original = keep_original
        self._lock = asyncio.Lock()

    async def read(self, experiment_id: ExperimentId) -> bytes:  # noqa: ARG002 - there is one experiment
        """Return the current cell_sets.json."""
        return await asyncio.to_thread(self.current)

    async def patch(
        self,
        experiment_id: ExperimentId,  # noqa: ARG002
        operations: list[dict[str, Any]],
        authorization: str | None = None,  # noqa: ARG002 - a local user may change the files anyway
        *,
        claim: Claim | None = None,
    ) -> None:
        """Apply operations of contract 5.22, whole or not at all; with a claim, not what was applied already.

        Raises
        ------
        WorkerError
            ``CELL_SETS_UPDATE_FAILED`` naming what was refused.
        NotHeldError
            When the claim was lost; nothing was changed then.
        """
        async with self._lock:
            if claim is not None and not await claim.take():
                raise NotHeldError
            await asyncio.to_thread(self._patch, operations, look=claim is not None)

    async def change(self, operations: list[dict[str, Any]], expected: str | None) -> str:
        """Apply operations to the expected version, and return the new version; see `VersionedCellSets`."""
        async with self._lock:
            return await asyncio.to_thread(self._patch, operations, expected=expected)

    async def version(self) -> str:
        """Name the current content, without reading it."""
        return await asyncio.to_thread(self._version)

    def current(self) -> bytes:
        """Return the current cell_sets.json."""
        work = self._own.read()
        if work is not None:
            return work.cell_sets.encode()
        if not self._keep_original:
            with contextlib.suppress(FileNotFoundError):
                return self._path.read_bytes()
        return self._own.base.encode()

    def _version(self) -> str:
        if (version := self._own.version()) is not None:
            return version
        with contextlib.suppress(FileNotFoundError):
            if not self._keep_original:
                return version_of(self._path)
        return "base"

    def _patch(self, operations: list[dict[str, Any]], *, look: bool = False, expected: str | None = None) -> str:
        with self._own.alone():
            if expected is not None and expected != self._version():
                raise ChangedMeanwhileError
            content = self.current()
            if look and applied(content, examine(operations).inserted):
                return self._version()
            document = orjson.loads(content)
            if not isinstance(document, dict):
                raise WorkerError(
                    ErrorCode.CELL_SETS_UPDATE_FAILED, "The cell sets were not changed: the file is no object."
                )
            changed = readable(orjson.dumps(patched(document, operations)))
            if self._in_place():
                write_whole(self._path, changed)
            else:
                self._own.write(changed)
            return self._version()

    @property
    def saved_in(self) -> Path:
        """The file that the next change is written to."""
        return self._path if self._in_place() else self._own.place()

    def _in_place(self) -> bool:
        return not self._keep_original and self._path.exists() and self._own.read() is None and may_write(self._path)


def readable(content: bytes) -> bytes:
    """Return content that the reader of cell sets accepts; refuse other content, at which every task would fail.

    Raises
    ------
    WorkerError
        ``CELL_SETS_UPDATE_FAILED``.
    """
    try:
        CellSets.parse(content)
    except WorkerError as error:
        message = f"The cell sets were not changed. {error.message}"
        raise WorkerError(ErrorCode.CELL_SETS_UPDATE_FAILED, message) from None
    return content
