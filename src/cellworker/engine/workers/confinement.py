"""The engine gives up opening network connections.

A Kubernetes network policy holds for a whole pod: it cannot tell the engine, which reads untrusted files, from the
gateway beside it, which must reach the cloud. So the engine takes the right from itself before it reads anything: Linux
refuses every socket but local ones to it and to all its children, for good (seccomp, kernel 3.17 or newer).
"""

import ctypes
import errno
import logging
import os
import platform
import struct
import sys

from cellworker.logs import log

__all__ = ["give_up_connections"]

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
# For all threads; without SPEC_ALLOW older kernels switch off speculative loads, which slows everything down.
_ALL_THREADS, _SPEC_ALLOW = 1, 4

# System call numbers and audit architectures: linux/audit.h and the kernel's tables for both machines.
_MACHINES = {
    "x86_64": {"audit": 0xC000003E, "seccomp": 317, "socket": 41},
    "aarch64": {"audit": 0xC00000B7, "seccomp": 277, "socket": 198},
}
_IO_URING_SETUP = 425
_X32 = 0x40000000
_AF_UNIX = 1

# Instructions of classic BPF, and where struct seccomp_data has what they look at.
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000

_logger = logging.getLogger(__name__)


def give_up_connections() -> bool:
    """Have the system refuse this process and its children every new socket that is not local.

    Sockets that are open already stay: listen first. It cannot be taken back.

    Returns
    -------
    bool
        Whether it holds. It does not on other systems than Linux, or where a container forbids seccomp; the log says
        so, and the engine serves nevertheless.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        log(_logger, logging.INFO, "connections are not given up", reason=f"{sys.platform} {platform.machine()}")
        return False
    program = _program(machine)
    instructions = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    number, flags = ctypes.c_long(machine["seccomp"]), ctypes.c_long(_ALL_THREADS | _SPEC_ALLOW)
    failed = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        number, ctypes.c_long(_SET_MODE_FILTER), flags, header
    )
    if failed:
        log(_logger, logging.WARNING, "connections are not given up", reason=os.strerror(ctypes.get_errno()))
    return not failed


def _program(machine: dict[str, int]) -> bytes:
    """Return the filter: local sockets and everything that makes no socket pass, the rest fails with EACCES."""
    refuse, allow = "refuse", "allow"
    steps: list[tuple[int, int, str | None, str | None]] = [
        (_LOAD, _ARCHITECTURE, None, None),
        (_EQUAL, machine["audit"], None, refuse),
        (_LOAD, _NUMBER, None, None),
        (_AT_LEAST, _X32, refuse, None),
        (_EQUAL, _IO_URING_SETUP, refuse, None),  # which would make sockets without the system call
        (_EQUAL, machine["socket"], None, allow),
        (_LOAD, _FIRST_ARGUMENT, None, None),
        (_EQUAL, _AF_UNIX, allow, refuse),
    ]
    places = {refuse: len(steps), allow: len(steps) + 1}
    code = b""
    for at, (what, value, then, otherwise) in enumerate(steps):
        jumps = [0 if target is None else places[target] - at - 1 for target in (then, otherwise)]
        code += struct.pack("=HBBI", what, *jumps, value)
    code += struct.pack("=HBBI", _RETURN, 0, 0, _REFUSE | errno.EACCES)
    return code + struct.pack("=HBBI", _RETURN, 0, 0, _ALLOW)
