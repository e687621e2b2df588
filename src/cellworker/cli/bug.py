"""Saves the traceback of a bug. It imports next to nothing, so that it works when nothing else does."""

import os
import tempfile
import traceback
from pathlib import Path

__all__ = ["save_traceback"]


def save_traceback(error: BaseException) -> Path:
    """Save a traceback, with credentials blanked, for a bug report; return its file."""
    from cellworker.logs import redact  # noqa: PLC0415

    descriptor, name = tempfile.mkstemp(prefix="cellworker-error-", suffix=".log")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(redact("".join(traceback.format_exception(error))))
    return Path(name)
