"""Ports for servers: of the tests' process (as ``cloud.ports``) and of the servers' own programs (as ``ports``)."""

import contextlib
import random
import socket


def free_port() -> int:
    """A port that is free now, below the ports that the kernel gives to clients: it is free after a restart too."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
