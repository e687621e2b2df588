"""Secrets leave the environment as soon as they are read; the language model's key leaves the process altogether.

The environment that a process was started with stays readable below ``/proc`` for all processes of its user, and the
processes that it starts inherit it. So each command that serves takes its secrets (`Settings` marks them) out of both,
and hides itself.
"""

import contextlib
import ctypes
import os
import sys
from dataclasses import fields

from cellworker.confinement import hide_process
from cellworker.engine.annotators.keeper_client import descriptor, start_keeper, use_keeper
from cellworker.engine.annotators.language_model import language_model
from cellworker.settings import Settings

__all__ = ["drop_key", "forget_secrets", "keep_key", "keeper_of"]

_KEEPER = "CELLWORKER_KEEPER_FD"
_MODEL = frozenset({"CASSIA_URL", "CASSIA_MODEL", "CASSIA_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "EGRESS"})
_SECRET = tuple(item.name for item in fields(Settings) if item.metadata["secret"])


def forget_secrets() -> None:
    """Take the secret settings out of this process's environment, and hide the process from others of its user.

    Read `Settings` before.
    """
    hide_process()
    for name in _SECRET:
        _wipe(name.upper())
        os.environ.pop(name.upper(), None)


def keep_key() -> None:
    """Give the language model's key to a keeper process, and replace this process by one without it.

    A text that was in memory once may stay there, so this process is replaced by one that never had it: the
    same program, with the same number. It finds the keeper, and so do the processes that are given `keeper_of`.
    Call it first of all. Nothing happens without a key, and where there is no Linux.
    """
    number = os.environ.pop(_KEEPER, "")
    if number.isdecimal():
        with contextlib.suppress(OSError):  # the variable may belong to another program
            use_keeper(int(number))
    key = os.environ.get("CASSIA_KEY", "")
    if not key or sys.platform != "linux":
        return
    # These alone: the process that goes on reports errors in other settings.
    given = {name: value for name, value in os.environ.items() if name in _MODEL}
    model = language_model(Settings.from_environment(given))
    if not model.reachable:
        drop_key()
    others = {name: value for name, value in os.environ.items() if name.lower() not in _SECRET}
    keeper = start_keeper(
        {"key": key, "url": model.url, "model": model.model},
        {name: value for name, value in others.items() if not name.startswith("AWS_")},
    )
    keeper.set_inheritable(True)
    os.environ[_KEEPER] = str(keeper.fileno())
    drop_key()


def drop_key() -> None:
    """Replace this process by one without the language model's key; nothing happens where it has none."""
    if os.environ.pop("CASSIA_KEY", "") and sys.platform == "linux":
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 our own program


def keeper_of() -> tuple[list[int], dict[str, str]]:
    """Return the descriptors and variables that a child process must inherit to find the keeper."""
    number = descriptor()
    return ([], {}) if number is None else ([number], {_KEEPER: str(number)})


def _wipe(name: str) -> None:
    """Overwrite a variable's text where the system put it when the process began: that is what ``/proc`` shows."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_void_p
    place = getenv(name.encode())
    if place:
        ctypes.memset(place, 0, len(ctypes.string_at(place)))
