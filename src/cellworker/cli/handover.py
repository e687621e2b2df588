"""Secrets leave the environment as soon as they are read, and reach a process that we start through a pipe.

The environment that a process was started with stays readable below ``/proc`` for all processes of its user, and the
processes that it starts inherit it. So each command that serves takes its secrets (`Settings` marks them) out of both,
and hides itself.
"""

import contextlib
import ctypes
import json
import os
from collections.abc import Iterator
from dataclasses import fields

from cellworker.confinement import hide_process
from cellworker.settings import Settings

__all__ = ["forget_secrets", "hand_over", "take_secrets"]

_DESCRIPTOR = "CELLWORKER_SECRETS_FD"
_SECRET = tuple(item.name for item in fields(Settings) if item.metadata["secret"])


def take_secrets() -> dict[str, str]:
    """Return what the process that started this one handed over: secret settings by their names; empty if nothing."""
    number = os.environ.pop(_DESCRIPTOR, "")
    if not number.isdecimal():
        return {}
    try:
        with os.fdopen(int(number), "rb") as pipe:
            given = json.loads(pipe.read())
    except (OSError, ValueError):  # a name that somebody else uses
        return {}
    return {name: str(given[name]) for name in _SECRET if name in given} if isinstance(given, dict) else {}


def forget_secrets() -> None:
    """Take the secret settings out of this process's environment, and hide the process from others of its user.

    Read `Settings` before.
    """
    hide_process()
    for name in _SECRET:
        _wipe(name.upper())
        os.environ.pop(name.upper(), None)


@contextlib.contextmanager
def hand_over(secrets: dict[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Make a pipe that holds secrets, for a process to be started.

    Parameters
    ----------
    secrets
        Values of secret settings by their names, much less than the 64 kB that a pipe takes.

    Yields
    ------
    int
        The descriptor that the process has to inherit.
    dict of str to str
        What its environment needs, with which `take_secrets` finds it.
    """
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(secrets).encode())
        yield reading, {_DESCRIPTOR: str(reading)}
    finally:
        os.close(reading)


def _wipe(name: str) -> None:
    """Overwrite a variable's text where the system put it when the process began: that is what ``/proc`` shows."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    place = getenv(name.encode())
    if place:
        ctypes.memset(place, 0, len(ctypes.string_at(place)))
