"""Requests from the command line: bodies and paginations in JSON, with their fields checked."""

import json
import sys
from pathlib import Path
from typing import Any

from cellworker.errors import ErrorCode, WorkerError
from cellworker.protocol.pagination import Pagination
from cellworker.protocol.validation import convert
from cellworker.protocol.written_fields import refuse_unknown_fields
from cellworker.tasks.task import Task

__all__ = ["read_json", "request_body", "request_pagination"]

_INVALID = ErrorCode.INVALID_INPUT


def read_json(option: str, text: str | None) -> dict[str, Any]:
    """Read an option's JSON object: given as it is, as ``@FILE``, or as ``@-`` for standard input; absent is empty.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the option, and for JSON the place where it goes wrong.
    """
    if text is None:
        return {}
    place = option
    if text.startswith("@"):
        place = f"{option} ({'standard input' if text == '@-' else text[1:]})"
        try:
            text = sys.stdin.read() if text == "@-" else Path(text[1:]).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise WorkerError(_INVALID, f"{place}: not text in UTF-8") from error
        except OSError as error:
            raise WorkerError(_INVALID, f"{place}: {error.strerror}") from error
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise WorkerError(
            _INVALID, f"{place}: not JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from error
    except RecursionError as error:
        raise WorkerError(_INVALID, f"{place}: nested too deeply") from error
    if not isinstance(value, dict):
        raise WorkerError(
            _INVALID, f'{place}: expected an object like {{"genes": ["LYZ"]}}, found {type(value).__name__}'
        )
    return value


def request_body(task: Task, text: str | None) -> dict[str, Any]:
    """Return ``--body`` without its name, after checking that a name in it is the task's, and its fields are too."""
    body = read_json("--body", text)
    name = body.pop("name", task.name)
    if name != task.name:
        raise WorkerError(_INVALID, f"--body: its name is {name!r}, but the task asked for is {task.name}")
    refuse_unknown_fields(task.name, body, task.body)
    return body


def request_pagination(task: Task, text: str | None) -> dict[str, Any] | None:
    """Return ``--pagination`` after checking its fields; None without the option."""
    if text is None:
        return None
    pagination = read_json("--pagination", text)
    convert(pagination, Pagination, "--pagination")
    refuse_unknown_fields(task.name, pagination, Pagination, path="--pagination")
    return pagination
