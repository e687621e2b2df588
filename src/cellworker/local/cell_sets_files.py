"""Cell sets kept in files: read from beside the experiment, changed there where that is allowed."""

import asyncio
import os
from pathlib import Path
from typing import Any

import orjson

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.gateway.cell_set_patches import applied, examine
from cellworker.local.files import write_whole
from cellworker.local.merge import merge_cell_sets

__all__ = ["FileCellSets"]


class FileCellSets:
    """The cell sets of the one experiment that is served.

    Parameters
    ----------
    path
        The cell_sets.json; it need not exist where `initial` is given.
    own_copy
        Where changed cell sets go when the folder of `path` may not be written to. Once there, they are what is read.
    initial
        What holds as long as there is no file.
    keep_original
        Never write to `path`, even where it is possible.
    """

    def __init__(
        self, path: Path, own_copy: Path, initial: CellSets | None = None, *, keep_original: bool = False
    ) -> None:
        self._path = path
        self._own_copy = own_copy
        self._initial = initial
        self._keep_original = keep_original
        self._lock = asyncio.Lock()

    async def read(self, experiment_id: str) -> bytes:  # noqa: ARG002 - there is one experiment
        """Return the current cell_sets.json."""
        return await asyncio.to_thread(self.current)

    async def patch(
        self,
        experiment_id: str,  # noqa: ARG002
        operations: list[dict[str, Any]],
        authorization: str | None = None,  # noqa: ARG002 - whoever reaches this machine may change its files
        *,
        again: bool = False,
    ) -> None:
        """Apply operations of contract 5.22, whole or not at all; where `again`, not what was applied already.

        Raises
        ------
        WorkerError
            ``CELL_SETS_UPDATE_FAILED`` naming what was refused.
        """
        async with self._lock:
            await asyncio.to_thread(self._patch, operations, again=again)

    def current(self) -> bytes:
        """Return the current cell_sets.json."""
        for path in (self._own_copy, self._path):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                continue
        if self._initial is None:
            raise WorkerError(ErrorCode.CELL_SETS_INVALID, "The experiment has no cell_sets.json beside it.")
        return self._initial.encode()

    def _patch(self, operations: list[dict[str, Any]], *, again: bool) -> None:
        content = self.current()
        if again and applied(content, examine(operations).inserted):
            return
        document = orjson.loads(content)
        if not isinstance(document, dict):
            raise WorkerError(
                ErrorCode.CELL_SETS_UPDATE_FAILED, "The cell sets were not changed: the file is no object."
            )
        write_whole(self.saved_in, orjson.dumps(merge_cell_sets(document, operations)))

    @property
    def saved_in(self) -> Path:
        """The file that the next change is written to."""
        beside = not self._keep_original and not self._own_copy.exists() and _may_write(self._path)
        return self._path if beside else self._own_copy


def _may_write(path: Path) -> bool:
    """Whether a file may be replaced; root may do anything, so what is marked read-only counts as well."""
    marked = all(place.stat().st_mode & 0o222 for place in (path, path.parent) if place.exists())
    return marked and os.access(path.parent, os.W_OK)
