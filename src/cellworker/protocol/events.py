"""Events for clients during a request: names, heartbeats and notices (contract, section 3)."""

import re
from enum import StrEnum
from typing import Any

from cellworker.errors import WorkerError
from cellworker.protocol.envelope import WorkRequest

__all__ = [
    "Status", "cell_sets_event", "error_notice", "experiment_event", "heartbeat", "heartbeat_event",
    "progress_heartbeat", "result_event", "success_notice", "task_title",
]  # fmt: skip

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TYPE = "WorkResponse"


class Status(StrEnum):
    """Stages of a request in heartbeats."""

    STARTED = "STARTED_TASK"
    DOWNLOADING = "DOWNLOAD_EXPERIMENT"
    LOADING = "LOAD_TO_MEMORY"
    COMPRESSING = "COMPRESSING_DATA"
    UPLOADING = "UPLOADING_DATA"
    FINISHED = "FINISHED_TASK"


_TEXTS = {
    Status.STARTED: "Working on the requested task {}",
    Status.DOWNLOADING: "Accessing the Seurat object for your analysis",
    Status.LOADING: "Accessing the Seurat object for your analysis",
    Status.COMPRESSING: "Compressing the results for the requested task {}",
    Status.UPLOADING: "Finalizing results for the requested task {}",
    Status.FINISHED: "Displaying results for the requested task {}",
}


def task_title(name: str) -> str:
    """Return a task's name in words: without ``Get``, a space before each capitalised word; acronyms stay whole."""
    return _WORD_START.sub(" ", name.replace("Get", ""))


def heartbeat_event(experiment_id: str) -> str:
    """Name of the event that carries heartbeats."""
    return f"Heartbeat-{experiment_id}"


def result_event(etag: str) -> str:
    """Name of the event that carries a result or a notice."""
    return f"WorkResponse-{etag}"


def experiment_event(experiment_id: str) -> str:
    """Name of the event for a changed experiment, sent to all clients."""
    return f"ExperimentUpdates-{experiment_id}"


def cell_sets_event(experiment_id: str) -> str:
    """Name of the event for changed cell sets, which the local run sends to all pages."""
    return f"CellSets-{experiment_id}"


def heartbeat(status: Status, task: str) -> dict[str, Any]:
    """Return the heartbeat of a stage."""
    return {"type": _TYPE, "status_code": str(status), "user_message": _TEXTS[status].format(task_title(task))}


def progress_heartbeat(task: str, stage: str = "", fraction: float | None = None) -> dict[str, Any]:
    """Return the heartbeat of a computation: its stage in words, and percent done (0 to 100) or null."""
    percent = None if fraction is None else round(100 * min(1.0, max(0.0, fraction)))
    return {
        "type": _TYPE,
        "status_code": str(Status.STARTED),
        "user_message": stage or _TEXTS[Status.STARTED].format(task_title(task)),
        "progress_percent": percent,
    }


def success_notice(request: WorkRequest, *, cacheable: bool) -> dict[str, Any]:
    """Return the notice of a request that succeeded; it holds the envelope without secrets."""
    response = {"cacheable": cacheable, "error": False, "signedUrl": request.signed_url}
    return {"request": request.redacted(), "response": response, "type": _TYPE}


def error_notice(request: WorkRequest, error: WorkerError) -> dict[str, Any]:
    """Return the notice of a request that failed."""
    response = {
        "cacheable": False,
        "error": True,
        "signedUrl": request.signed_url,
        "errorCode": str(error.code),
        "userMessage": request.scrub(error.message),
    }
    return {"request": request.redacted(), "response": response, "type": _TYPE}
