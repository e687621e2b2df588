"""Structured logs: one JSON object per line on stderr, for the engine and the gateway alike.

A log call names an event and its facts; bodies and headers are never given to it. What looks like a credential is
blanked even so, in facts and in tracebacks, since an error's text can carry what a user typed.
"""

import json
import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Literal

__all__ = ["configure", "log", "redact"]

_SECRET_NAMES = re.compile(r"auth|token|secret|password|cookie|credential|api_?key|signed_?url", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"  # JSON web tokens
    r"|\bBearer\s+\S+"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS key ids
    r"|X-Amz-(?:Signature|Credential|Security-Token)=[^&\s\"]+"
    r"|sk-[\w-]{16,}",
    re.IGNORECASE,
)
_BLANK = "[redacted]"


def log(logger: logging.Logger, level: int, event: str, **facts: Any) -> None:  # noqa: ANN401
    """Log an event, in a few words, with its facts.

    Parameters
    ----------
    logger
        Whose event it is.
    level
        As in `logging`.
    event
        What happened; the same words each time, so that it can be counted.
    facts
        JSON-able values. ``error``, an exception, adds its traceback.
    """
    if not logger.isEnabledFor(level):
        return
    error = facts.pop("error", None)
    if isinstance(error, BaseException):
        logger.log(level, event, extra={"facts": facts}, exc_info=error)
    else:
        logger.log(level, event, extra={"facts": facts if error is None else {**facts, "error": error}})


def redact(text: str) -> str:
    """Blank what looks like a credential."""
    return _SECRET_TEXT.sub(_BLANK, text)


def configure(level: str = "INFO", *, style: Literal["json", "text"] = "json") -> None:
    """Send all logs to stderr, as JSON lines or as text for a person at a terminal; replaces earlier handlers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if style == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": redact(record.getMessage()),
            **_facts(record),
        }
        if record.exc_info:
            line["traceback"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False, default=lambda value: redact(str(value)))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        facts = " ".join(f"{name}={value}" for name, value in _facts(record).items())
        text = f"{clock} {record.levelname.lower():7} {redact(record.getMessage())} {facts}".rstrip()
        return f"{text}\n{redact(self.formatException(record.exc_info))}" if record.exc_info else text


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts = getattr(record, "facts", {})
    return {name: _BLANK if _SECRET_NAMES.search(name) else _clean(value) for name, value in facts.items()}


def _clean(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {str(name): _BLANK if _SECRET_NAMES.search(str(name)) else _clean(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value if isinstance(value, int | float | None) else redact(str(value))
