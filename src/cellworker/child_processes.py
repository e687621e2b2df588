"""How the processes that make others hear of their children's ends, collect them and kill them.

Whoever makes worker processes or readers imports little before it forks: this module takes the system's calls alone.
"""

import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess

__all__ = ["ChildSignals", "collect", "end_process", "kill_group"]

_MAX_END_S = 1.0


class ChildSignals:
    """Becomes readable when a child has ended, for a selector; there is one in a process, made in its main thread."""

    def __init__(self) -> None:
        self._ours, self._signals = socket.socketpair()
        for end in (self._ours, self._signals):
            end.setblocking(False)  # noqa: FBT003
        signal.signal(signal.SIGCHLD, lambda *_: None)
        # A full buffer tells enough: the children are gone through one by one.
        signal.set_wakeup_fd(self._signals.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._ours.fileno()

    def clear(self) -> None:
        """Take what is readable, before the children are collected."""
        with suppress(BlockingIOError):
            self._ours.recv(4096)

    def close(self) -> None:
        """Hear of no child any more; a forked child calls it, which has no children yet."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._ours.close()
        self._signals.close()


def collect(pid: int) -> int | None:
    """Collect a child that has ended, and kill what it started.

    Returns
    -------
    int or None
        Minus the signal, or the exit code; None while it runs.
    """
    if hasattr(os, "waitid"):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        # Until it is collected no other process can get its number: only its descendants are killed.
        kill_group(pid)
    collected, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if collected else None


def kill_group(pid: int) -> None:
    """Kill a child that is not collected yet, and what it started; one without a group of its own so far alone."""
    for send in (os.killpg, os.kill):
        with suppress(ProcessLookupError, PermissionError):
            send(pid, signal.SIGKILL)


def end_process(process: "subprocess.Popen[bytes]") -> None:
    """Wait until a process has ended that was told to end; kill it after a second."""
    from subprocess import TimeoutExpired  # noqa: PLC0415 - only the callers of other processes have it

    try:
        process.wait(_MAX_END_S)
    except TimeoutExpired:
        process.kill()
        process.wait()
