"""Names on the command line that are not known: what is meant is said."""

import argparse
import difflib
from collections.abc import Iterable, Sequence

from cellworker.errors import ErrorCode, WorkerError
from cellworker.tasks import catalog
from cellworker.tasks.task import Task

__all__ = ["known_task", "unknown_arguments"]


def known_task(name: str) -> Task:
    """Return a task by the name on the command line.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming TASK, and a name that is like what was said.
    """
    if name in catalog.TASKS:
        return catalog.TASKS[name]
    near = _near(name, catalog.TASKS)
    hint = f"; did you mean {near!r}?" if near else ";"
    message = f"TASK: there is no task {name!r}{hint} 'cellworker tasks' lists them"
    raise WorkerError(ErrorCode.INVALID_INPUT, message)


def unknown_arguments(unknown: Sequence[str], command: argparse.ArgumentParser) -> str:
    """Return what to say of arguments that a command does not have."""
    options = [option for action in command._actions for option in action.option_strings]  # noqa: SLF001 argparse offers no other way
    said = next((argument for argument in unknown if argument.startswith("-")), "")
    near = _near(said.partition("=")[0], options) if said else ""
    hint = f"; did you mean {near}?" if near else ""
    return f"unrecognized arguments: {' '.join(unknown)}{hint}"


def _near(said: str, known: Iterable[str]) -> str:
    by_small = {name.lower(): name for name in known}
    found = difflib.get_close_matches(said.lower(), by_small, 1)
    return by_small[found[0]] if found else ""
