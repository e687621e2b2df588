"""Requests saved for a developer (the setting `debug_step`), and read again by ``cellworker replay``."""

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from cellworker.errors import ErrorCode, WorkerError
from cellworker.identifiers import FileName
from cellworker.logs import blank, log
from cellworker.settings import Settings
from cellworker.tasks.task import Task
from cellworker.version import __version__

__all__ = ["RequestSaver", "SavedRequest", "read_saved"]

_ALL = "all"
_STEP = "step"
_MAX_WORD = 100
_MAX_BYTES = 1 << 30

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SavedRequest:
    """A request as the engine got it, and its experiment."""

    task: str
    request: dict[str, Any]
    experiment: Path
    like_original: bool


class RequestSaver:
    """Saves requests under ``DATA_DIR/debug``, one JSON file each.

    Parameters
    ----------
    settings
        `debug_step` is the name or the engine path of a task, or ``all``; empty saves nothing. A file
        ``DATA_DIR/debug/step`` with such a word wins over it while it exists, so that it can change while the
        worker runs.
    experiment
        Where the experiment is.
    """

    def __init__(self, settings: Settings, experiment: Path) -> None:
        self._wanted = settings.debug_step.casefold()
        self._folder = settings.data_dir / "debug"
        self._like_original = settings.like_original
        self._experiment = experiment
        self._numbers = count(1)

    def save(self, task: Task, request: bytes) -> Path | None:
        """Save a request, if it is wanted, with everything blanked that looks like a secret.

        Returns
        -------
        pathlib.Path or None
            The file; None where none was wanted, or none could be written: the request continues either way.
        """
        wanted = self._now_wanted()
        if not wanted or wanted not in (_ALL, task.name.casefold(), task.path.casefold()):
            return None
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%S}-{os.getpid()}-{next(self._numbers)}-{task.name}.json"
        saved = {
            "cellworker": __version__,
            "saved": now.isoformat(timespec="milliseconds"),
            "task": task.name,
            "experiment": str(self._experiment.absolute()),
            "likeOriginal": self._like_original,
        }
        path = self._folder / FileName(name)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(orjson.dumps({**saved, "request": blank(orjson.loads(request))}))
        except (OSError, orjson.JSONDecodeError) as error:
            log(_logger, logging.WARNING, "request not saved", path=str(path), reason=str(error))
            return None
        log(_logger, logging.INFO, "request saved", path=str(path), replay=f"cellworker replay {path}")
        return path

    def _now_wanted(self) -> str:
        try:
            with (self._folder / _STEP).open(encoding="utf-8", errors="replace") as file:
                return file.read(_MAX_WORD).strip().casefold()
        except OSError:  # the usual case: there is no such file
            return self._wanted


def read_saved(path: Path) -> SavedRequest:
    """Read a saved request.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` when the file is none.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise WorkerError(ErrorCode.INVALID_INPUT, f"{path} is too large to be a saved request.")
        saved = orjson.loads(path.read_bytes())
        task, request = saved["task"], saved["request"]
        experiment, like_original = Path(saved["experiment"]), saved["likeOriginal"] is True
    except OSError as error:
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{path} cannot be read: {error.strerror}.") from None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = f"{path} is not a request that DEBUG_STEP saved: a JSON object with task, request and experiment."
        raise WorkerError(ErrorCode.INVALID_INPUT, message) from None
    if not isinstance(task, str) or not isinstance(request, dict):
        raise WorkerError(ErrorCode.INVALID_INPUT, f"{path}: expected a task's name and its request.")
    return SavedRequest(task, request, experiment, like_original)
