"""Structured logs: one JSON object per line on stderr, for the engine and the gateway.

A log call names an event and its facts, never bodies and headers. Text that looks like a credential is blanked in facts
and in tracebacks, since an error's text can hold a user's input.

Facts of a `context` are in each line logged inside it, also by libraries, so the ETag finds all lines of a request.
"""

import contextlib
import json
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal

from cellworker.plain_text import one_line, shown

__all__ = ["blank", "configure", "context", "log", "redact"]

_SECRET_NAMES = re.compile(r"auth|token|secret|password|cookie|credential|api_?key|signed_?url", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"  # JSON web tokens
    r"|\bBearer\s+\S+"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS key ids
    r"|X-Amz-(?:Signature|Credential|Security-Token)=[^&\s\"]+"
    r"|sk-[\w-]{16,}"
    r"|\bbedrock-api-key-[\w+/=-]+|\bABSK[\w+/=-]{16,}"  # of Amazon Bedrock
    r"|(?<=://)[^/\s@]+(?=@)"  # user and password in an address, such as that of Redis
    r"|\bSignature=[^&\s,\"]+",  # in headers and in signed addresses
    re.IGNORECASE,
)
_NAMED_SECRET = re.compile(
    r"((?:authorization|authjwt|password|secret_access_key|session_token)[\\\"']*\s*[:=]\s*[\\\"']*)"
    r"(?!expected\b)"  # messages about a wrong field also name the field
    r"(?:(?:Basic|Bearer|Digest|AWS4-HMAC-SHA256)\s+)?[^\s\\\"',}&]+",
    re.IGNORECASE,
)
_BLANK = "[redacted]"
# At DEBUG, these loggers and their children print headers, credentials and bodies.
_TALKATIVE = ("aiobotocore", "boto3", "botocore", "opentelemetry", "redis", "requests", "s3transfer", "urllib3")

_context: ContextVar[Mapping[str, Any]] = ContextVar("context", default=MappingProxyType({}))


def log(logger: logging.Logger, level: int, event: str, **facts: Any) -> None:  # noqa: ANN401
    """Log an event with its facts.

    Parameters
    ----------
    logger
        The module's logger.
    level
        As in `logging`.
    event
        The event in a few words, always the same ones, so that it can be counted.
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


@contextlib.contextmanager
def context(**facts: Any) -> Iterator[None]:  # noqa: ANN401
    """Add facts to each line logged inside the block, in this task of the event loop and in those that it starts.

    Parameters
    ----------
    facts
        As for `log`, whose own facts take precedence. They are added to the facts of enclosing blocks.
    """
    token = _context.set({**_context.get(), **_blanked(facts)})
    try:
        yield
    finally:
        _context.reset(token)


def redact(text: str) -> str:
    """Blank text that looks like a credential."""
    return _SECRET_TEXT.sub(_BLANK, _NAMED_SECRET.sub(rf"\1{_BLANK}", text))


def configure(level: str = "INFO", *, style: Literal["json", "text"] = "json") -> None:
    """Send all logs to stderr, as JSON lines or as text for a terminal; this replaces earlier handlers.

    Libraries that print credentials at DEBUG log from INFO up, whatever `level` is.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if style == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(max(root.level, logging.INFO))


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
        return one_line(json.dumps(line, ensure_ascii=False, default=lambda value: redact(str(value))))


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%H:%M:%S")
        facts = " ".join(f"{name}={one_line(value)}" for name, value in _facts(record).items())
        text = f"{clock} {record.levelname.lower():7} {redact(record.getMessage())} {facts}".rstrip()
        if record.exc_info:
            text = f"{text}\n{redact(self.formatException(record.exc_info))}"
        # Further lines are indented, so that none can look like an event.
        return shown(text).replace("\n", "\n    ")


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {**_context.get(), **_blanked(getattr(record, "facts", {}))}


def _blanked(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _BLANK if _SECRET_NAMES.search(name) else blank(value) for name, value in facts.items()}


def blank(value: Any) -> Any:  # noqa: ANN401
    """Return JSON-able data with all values blanked that look like credentials, by name or text."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {str(name): _BLANK if _SECRET_NAMES.search(str(name)) else blank(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [blank(item) for item in value]
    return value if isinstance(value, int | float | None) else redact(str(value))
