"""A cache of the steps' results, named after all inputs of the step: a run that was stopped continues from there."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellworker.formats.common.whole_files import write_whole
from cellworker.version import __version__

__all__ = ["Keeper"]

Arrays = dict[str, NDArray[Any]]
_VERSION = 2
"""Raised whenever a step's result changes for the same inputs."""


class Keeper:
    """Keeps arrays in a folder.

    Parameters
    ----------
    folder
        The folder; made when the first step is done.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @staticmethod
    def key(*parts: object) -> str:
        """Return a name for everything that a step depends on."""
        text = json.dumps([_VERSION, __version__, *parts], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    def step(self, name: str, key: str, make: Callable[[], Arrays]) -> Arrays:
        """Return a step's result, from now or from an earlier run; a damaged one is made again."""
        path = self._folder / f"{name}-{key}.npz"
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as found:
                    return {field: found[field] for field in found.files}
            except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError):
                path.unlink(missing_ok=True)
        made = make()
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob(f"{name}-*.npz"):
            old.unlink(missing_ok=True)
        write_whole(path, _packed(made))
        return made


def _packed(arrays: Arrays) -> bytes:
    import io  # noqa: PLC0415

    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]  # names are ours
    return out.getvalue()
