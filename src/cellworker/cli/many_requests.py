"""`cellworker call --requests`: many requests, one opening; a line of JSON in, a line of JSON out."""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from cellworker.cli.output import check_apart, check_place, replacing
from cellworker.cli.progress import Bar
from cellworker.cli.times import Times
from cellworker.engine.contexts import make_context
from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.opening.store_guard import opened_sound
from cellworker.protocol.pagination import Pagination
from cellworker.protocol.validation import convert
from cellworker.protocol.written_fields import refuse_unknown_fields
from cellworker.settings import Settings
from cellworker.tasks import catalog
from cellworker.tasks.steps import answer
from cellworker.tasks.task import Task

__all__ = ["Request", "answer_many", "read_requests"]

_INVALID = ErrorCode.INVALID_INPUT


@dataclass(frozen=True, slots=True)
class Request:
    """One line: its number from 1, the task, the checked body, the pagination."""

    line: int
    task: Task
    body: Any
    pagination: dict[str, Any] | None


def read_requests(file: str) -> list[Request]:
    """Read requests, one JSON object a line: a body, or ``{"body": ..., "pagination": ...}``; empty lines are skipped.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the line, before anything is opened.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise WorkerError(_INVALID, f"--requests {file}: not text in UTF-8") from error
    except OSError as error:
        raise WorkerError(_INVALID, f"--requests {file}: {error.strerror}") from error
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise WorkerError(_INVALID, f"--requests {file}: holds no request")
    return [_read(number, line, f"--requests {file}, line {number}") for number, line in lines]


def _read(number: int, line: str, place: str) -> Request:
    try:
        value = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise WorkerError(_INVALID, f"{place}: not JSON: {error}") from None
    body, pagination = value, None
    if isinstance(value, dict) and isinstance(value.get("body"), dict) and value.keys() <= {"body", "pagination"}:
        body, pagination = value["body"], value.get("pagination")
    if not isinstance(body, dict) or not isinstance(body.get("name"), str):
        raise WorkerError(_INVALID, f'{place}: expected a body with a name, as {{"name": "ListGenes", "limit": 3}}')
    try:
        task = catalog.find(body["name"])
        refuse_unknown_fields(task.name, body, task.body)
        checked = task.read_body(body)
        if pagination is not None:
            convert(pagination, Pagination, "pagination")
            refuse_unknown_fields(task.name, pagination, Pagination, path="pagination")
    except WorkerError as error:
        raise WorkerError(error.code, f"{place}: {error.message}") from None
    if task.file_result:
        raise WorkerError(_INVALID, f"{place}: the result of {task.name} is a file; ask for it alone, with --out FILE")
    return Request(number, task, checked, pagination)


def answer_many(requests: list[Request], path: Path, settings: Settings, options: argparse.Namespace) -> int:
    """Answer requests in order; one that fails does not stop the others, and makes the exit status 1.

    Each line is ``{"line", "name", "result"}``, or with ``"error": {"code", "message"}`` instead of the result.
    """
    check_apart(options.out, path)
    times, failed = Times(shown=options.verbose), False
    with (
        contextlib.suppress(BrokenPipeError),  # who has read enough gets the status so far
        _lines(options.out) as write,
        tempfile.TemporaryDirectory(prefix="cellworker-") as scratch,
        Bar(quiet=options.quiet) as bar,
    ):
        with times.step("opening"):
            opened = opened_sound(lambda: open_experiment(path, settings, bar), lambda found: found.experiment)
        context = make_context(settings, bar, Path(scratch))
        for request in requests:
            head = {"line": request.line, "name": request.task.name}
            with times.step(f"line {request.line}, {request.task.name}"):
                try:
                    result = answer(
                        request.task, request.body, opened.experiment, context, catalog.find,
                        cell_sets=opened.cell_sets, pagination=request.pagination,
                    )  # fmt: skip
                except WorkerError as error:
                    failed = True
                    write(orjson.dumps({**head, "error": {"code": str(error.code), "message": error.message}}) + b"\n")
                    continue
            assert isinstance(result, bytes)
            # The result's own bytes: what the wire carries.
            write(orjson.dumps(head)[:-1] + b',"result":' + result + b"}\n")
    return 1 if failed else 0


@contextlib.contextmanager
def _lines(out: str | None) -> Iterator[Callable[[bytes], object]]:
    if out in (None, "-"):

        def to_stdout(line: bytes) -> None:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()

        yield to_stdout
        return
    target = Path(str(out))
    check_place("--out", target)
    with replacing(target) as file:
        yield file.write
