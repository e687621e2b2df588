"""Ports for servers: of the tests' process (as ``cloud.ports``) and of the servers' own programs (as ``ports``)."""

import contextlib
import fcntl
import os
import random
import socket
from pathlib import Path

_FIRST, _BEHIND = 20_000, 32_000
"""Below the ports that the kernel gives to clients: a port is free after a restart, too."""
_LOCKS = Path(f"/tmp/cellworker-test-ports-{os.getuid()}").open("a+b")  # noqa: SIM115
"""Its bytes are locked as long as this process lives. No other code opens this file: closing any descriptor of a file
ends all of a process's locks on it."""
_taken: set[int] = set()


def free_port() -> int:
    """Return a port that is free, and that no other process of the tests gets as long as this one lives.

    A port is used some time after it was found: meanwhile another process could find the same one.
    """
    while True:
        port = random.SystemRandom().randrange(_FIRST, _BEHIND)  # not the generator that Hypothesis seeds
        if port in _taken:
            continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            fcntl.lockf(_LOCKS, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            probe.bind(("127.0.0.1", port))
            _taken.add(port)
            return port
