"""`cellworker tasks`."""

import argparse
import json
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, TypedDict

from cellworker.cli.task_fields import fields_of
from cellworker.cli.task_methods import METHODS_OF_TASKS
from cellworker.cli.unknown_names import known_task
from cellworker.plain_text import say
from cellworker.tasks import catalog
from cellworker.tasks.task import Task

__all__ = ["TaskRow", "command", "explained", "task_rows"]

_WIDTH = 100


class TaskRow(TypedDict):
    """The facts about one task; `ours` marks tasks that the platform does not have."""

    task: str
    about: str
    ours: bool


def task_rows() -> list[TaskRow]:
    """Return every task, those of the platform first, in the contract's order."""
    return [{"task": task.name, "about": task.about, "ours": task.ours} for task in catalog.TASKS.values()]


def explained(task: Task) -> dict[str, Any]:
    """Return the description of one task: its fields with types, allowed values and defaults, method, source."""
    method = METHODS_OF_TASKS[task.name]
    return {
        "task": task.name,
        "about": task.about,
        "ours": task.ours,
        "result": "file" if task.file_result else "cell sets" if task.patch else "JSON",
        "tables": task.to_tables is not None,
        "method": method.words,
        "reference": method.reference,
        "fields": [asdict(field) for field in fields_of(task.body)],
    }


def command(options: argparse.Namespace) -> int:
    """Print the tasks, or explain one, as text or JSON."""
    if options.task is not None:
        facts = explained(known_task(options.task))
        say(*(json.dumps(facts, indent=2).split("\n") if options.json else _lines(facts)))
        return 0
    rows = task_rows()
    if options.json:
        say(*json.dumps(rows, indent=2).split("\n"))
        return 0
    for row in rows:
        say(f"{row['task']:<36} {row['about']}{' (ours)' if row['ours'] else ''}")
    return 0


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"{facts['task']}: {facts['about']}"
    yield ""
    fields = facts["fields"]
    width = max((len(field["name"]) for field in fields), default=0)
    for field in fields:
        default = "required" if field["default"] is None else f"default {field['default']}"
        yield f"  {field['name']:<{width}}  {field['type']}; {default}"
    if not fields:
        yield "  It has no fields."
    yield ""
    yield from textwrap.wrap(f"Method: {facts['method']}", _WIDTH)
    if facts["reference"]:
        yield from textwrap.wrap(f"Source: {facts['reference']}", _WIDTH)
    yield f"Result: {facts['result']}{', also as tables' if facts['tables'] else ''}"
    required = {field["name"]: "..." for field in fields if field["default"] is None and "." not in field["name"]}
    body = f" --body '{json.dumps(required)}'" if required else ""
    yield f"Ask it: cellworker call {facts['task']} --experiment FILE{body}"
