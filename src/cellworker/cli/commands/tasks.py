"""`cellworker tasks`."""

import argparse
import json
from typing import TypedDict

from cellworker.plain_text import say
from cellworker.tasks import catalog

__all__ = ["TaskRow", "command", "task_rows"]


class TaskRow(TypedDict):
    """The facts about one task; `ours` marks tasks that the platform does not have."""

    task: str
    about: str
    ours: bool


def task_rows() -> list[TaskRow]:
    """Return every task, those of the platform first, in the contract's order."""
    return [{"task": task.name, "about": task.about, "ours": task.ours} for task in catalog.TASKS.values()]


def command(options: argparse.Namespace) -> int:
    """Print the tasks, as text or JSON."""
    rows = task_rows()
    if options.json:
        say(*json.dumps(rows, indent=2).split("\n"))
        return 0
    for row in rows:
        say(f"{row['task']:<36} {row['about']}{' (ours)' if row['ours'] else ''}")
    return 0
