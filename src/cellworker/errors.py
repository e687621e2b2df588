"""The errors that a user can cause, with the code on the wire and a message that says what to do."""

from enum import StrEnum

from cellworker.plain_text import one_line

__all__ = ["UNEXPECTED", "ErrorCode", "WorkerError"]

UNEXPECTED = "An unexpected error occurred while performing the work."
"""The user's message for a bug; the log has the traceback."""


class ErrorCode(StrEnum):
    """Codes that clients match on.

    The ``R_WORKER_*`` codes and ``PYTHON_WORKER_ERROR`` are the original's, letter for letter; the others exist where
    the original had none.
    """

    PYTHON_WORKER_ERROR = "PYTHON_WORKER_ERROR"
    """A bug: the log has the traceback, the user gets the generic message."""
    INVALID_INPUT = "INVALID_INPUT"
    """An invalid request; the message names the field."""
    R_WORKER_GENE_NOT_FOUND = "R_WORKER_GENE_NOT_FOUND"
    """The experiment has none of the requested genes."""
    R_WORKER_EMPTY_CELL_SET = "R_WORKER_EMPTY_CELL_SET"
    """No cell is left after filtering."""
    R_WORKER_COLUMN_NOT_FOUND = "R_WORKER_COLUMN_NOT_FOUND"
    """The experiment lacks a column of cell metadata."""
    R_WORKER_TRAJECTORY_ANALYSIS_EMPTY_ROOT_NODES = "R_WORKER_TRAJECTORY_ANALYSIS_EMPTY_ROOT_NODES"
    """No root node is chosen."""
    R_WORKER_NO_GENE_SYMBOLS = "R_WORKER_NO_GENE_SYMBOLS"
    """The experiment has ids but no gene symbols."""
    R_WORKER_CASSIA_ERROR = "R_WORKER_CASSIA_ERROR"
    """The language-model annotation failed."""
    R_WORKER_UNHANDLED_ERROR = "R_WORKER_UNHANDLED_ERROR"
    """The engine failed in a way without a code of its own."""
    REDUCTION_NOT_FOUND = "REDUCTION_NOT_FOUND"
    """The experiment lacks the requested saved embedding."""
    DESIGN_NOT_TESTABLE = "DESIGN_NOT_TESTABLE"
    """The groups lack samples for a comparison between samples."""
    REQUEST_EXPIRED = "REQUEST_EXPIRED"
    """The request timed out before work began."""
    REQUEST_CANCELLED = "REQUEST_CANCELLED"
    """The client disconnected or cancelled."""
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    """The computation exceeded its time limit."""
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    """The computation exceeded its memory budget."""
    TASK_CRASHED = "TASK_CRASHED"
    """The computing process died."""
    ENGINE_BUSY = "ENGINE_BUSY"
    """Too many requests are waiting."""
    RESULT_NOT_STORED = "RESULT_NOT_STORED"
    """The result was computed but could not be stored."""
    DISK_FULL = "DISK_FULL"
    """The disk has no space for a file."""
    EXPERIMENT_UNREADABLE = "EXPERIMENT_UNREADABLE"
    """The file is not an experiment, is damaged, or is hostile."""
    EXPERIMENT_UNSUPPORTED = "EXPERIMENT_UNSUPPORTED"
    """The file is valid but holds something that is not supported."""
    EXPERIMENT_NOT_FOUND = "EXPERIMENT_NOT_FOUND"
    """There is no experiment at the given path."""
    EXPERIMENT_OUT_OF_DATE = "EXPERIMENT_OUT_OF_DATE"
    """The experiment's file changed and is being read again."""
    CELL_SETS_INVALID = "CELL_SETS_INVALID"
    """The cell-sets file breaks the format's rules."""
    CELL_SETS_UPDATE_FAILED = "CELL_SETS_UPDATE_FAILED"
    """The platform refused the new cell sets."""


class WorkerError(Exception):
    """An error with a wire code and a message for the user.

    Parameters
    ----------
    code
        The code that clients match.
    message
        What happened and what to do, in a biologist's words. It holds no secret, and no path of the server that the
        user did not name.
    """

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        # Messages hold names from files, and terminals show tracebacks. The wire carries `message` unchanged.
        return one_line(f"{self.code}: {self.message}")
