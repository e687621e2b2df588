"""Confines a process irrevocably: no connections, no other processes, hidden from others (Linux, without privileges).

It uses three tools of the kernel: filters of system calls (seccomp, kernel 3.17) and Landlock (kernel 5.13), which hold
for all child processes and cannot be undone; and a flag that keeps other processes of the same user from inspecting the
process (prctl(2), PR_SET_DUMPABLE).

A Kubernetes network policy holds for a whole pod, and many containers forbid namespaces. Unlike these, the three tools
can treat the process that reads untrusted files and the one that talks to the cloud differently.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Final

__all__ = ["confine_reader", "hide_process", "landlock_missing", "refuse_connections", "show_process"]

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_SET_MODE_FILTER: Final = 1
# For all threads. Without SPEC_ALLOW, older kernels disable speculative loads, which slows everything down.
_ALL_THREADS, _SPEC_ALLOW = 1, 4
_X32: Final = 0x40000000
_AF_UNIX: Final = 1
_CLONE_THREAD: Final = 0x00010000

# System call numbers and audit architectures: linux/audit.h and the kernel's tables for both machines. Numbers from 424
# on are the same everywhere.
_MACHINES: Final = {
    "x86_64": {
        "audit": 0xC000003E, "seccomp": 317, "socket": 41, "clone": 56, "kill": 62, "fcntl": 72, "tgkill": 234,
        "prlimit64": 302,
    },
    "aarch64": {
        "audit": 0xC00000B7, "seccomp": 277, "socket": 198, "clone": 220, "kill": 129, "fcntl": 25, "tgkill": 131,
        "prlimit64": 261,
    },
}  # fmt: skip
_READER_MAY_NOT: Final = {
    "x86_64": {
        "fork": 57, "vfork": 58, "execve": 59, "execveat": 322, "ptrace": 101, "process_vm_readv": 310,
        "process_vm_writev": 311, "kcmp": 312, "perf_event_open": 298, "bpf": 321, "userfaultfd": 323,
        "add_key": 248, "request_key": 249, "keyctl": 250, "mount": 165, "umount2": 166, "pivot_root": 155,
        "chroot": 161, "unshare": 272, "setns": 308, "tkill": 200, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo":
        297, "init_module": 175, "finit_module": 313, "delete_module": 176, "kexec_load": 246,
        "kexec_file_load": 320, "open_by_handle_at": 304, "name_to_handle_at": 303, "move_pages": 279,
        "migrate_pages": 256, "socketpair": 53, "shmget": 29, "shmat": 30, "shmctl": 31, "msgget": 68, "msgsnd": 69,
        "msgrcv": 70, "msgctl": 71, "semget": 64, "semop": 65, "semctl": 66, "semtimedop": 220, "mq_open": 240,
        "mq_unlink": 241, "setpriority": 141, "ioprio_set": 251, "sched_setparam": 142, "sched_setscheduler": 144,
        "sched_setaffinity": 203, "sched_setattr": 314,
    },
    "aarch64": {
        "execve": 221, "execveat": 281, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271,
        "kcmp": 272, "perf_event_open": 241, "bpf": 280, "userfaultfd": 282, "add_key": 217, "request_key": 218,
        "keyctl": 219, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268,
        "tkill": 130, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "init_module": 105, "finit_module": 273,
        "delete_module": 106, "kexec_load": 104, "kexec_file_load": 294, "open_by_handle_at": 265,
        "name_to_handle_at": 264, "move_pages": 239, "migrate_pages": 238, "socketpair": 199, "shmget": 194,
        "shmat": 196, "shmctl": 195, "msgget": 186, "msgsnd": 189, "msgrcv": 188, "msgctl": 187, "semget": 190,
        "semop": 193, "semctl": 191, "semtimedop": 192, "mq_open": 180, "mq_unlink": 181,
        "setpriority": 140, "ioprio_set": 30, "sched_setparam": 118, "sched_setscheduler": 119,
        "sched_setaffinity": 122, "sched_setattr": 274,
    },
}  # fmt: skip
"""Includes `socketpair`: a pair of datagram sockets can send to every socket in a folder. Includes calls that use what
another process made (`shmat`), since its number can be guessed."""
_READER_MAY_NOT_ANYWHERE: Final = {
    "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount":
    432, "fspick": 433, "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440, "mount_setattr": 442,
    "process_mrelease": 448,
}  # fmt: skip
_IO_URING: Final = (425, 426, 427)
"""They make sockets and open files without the filtered system calls."""
_CLONE3: Final = 435
"""Its flags are in memory, which a filter cannot read; libraries use `clone` where it is missing."""
_SET_OWNER, _SET_OWNER_EX = 8, 15
"""Commands of `fcntl` that make the system send another process a signal, even SIGKILL, when a pipe gets data."""
_UNKNOWN: Final = 463
"""The first number unused in Linux 6.12: nothing here needs later system calls."""

# Instructions of classic BPF, and the offsets in struct seccomp_data that they read.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000

_Step = tuple[int, int, str, str]
"""Instruction, value, and the targets if it holds and if not; "" is the next instruction."""

# linux/landlock.h; all three numbers are the same on every machine.
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_LANDLOCK_VERSION, _LANDLOCK_BENEATH = 1, 1
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_REFER: Final = 1 << 13
"""Renaming from one folder to another, which Landlock refuses unless it is allowed (from version 2 on)."""
_MAKE_DEVICES_AND_SOCKETS: Final = 1 << 6 | 1 << 9 | 1 << 11
_TCP: Final = 1 << 0 | 1 << 1
_ABSTRACT_SOCKETS_AND_SIGNALS: Final = 1 << 0 | 1 << 1
_ABOUT_THE_MACHINE: Final = ("cpuinfo", "meminfo", "stat", "filesystems", "version", "sys", "loadavg", "uptime")

_CAPABILITIES_VERSION: Final = 0x20080522
_KEPT_CAPABILITIES: Final = 0b1111
"""CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER: root needs them to read other users' files."""


def refuse_connections() -> str:
    """Make the system refuse this process and its children every new socket that is not local.

    Open sockets stay usable, so listen first.

    Returns
    -------
    str
        Empty, or the reason why the filter does not hold: another system than Linux, or a container that forbids
        seccomp.
    """
    machine = _MACHINES.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        return f"{sys.platform} {platform.machine()} is not supported"
    steps: list[_Step] = [
        (_EQUAL, _IO_URING[0], "refuse", ""),
        (_EQUAL, machine["socket"], "", "allow"),
        (_LOAD, _FIRST_ARGUMENT, "", ""),
        (_EQUAL, _AF_UNIX, "allow", "refuse"),
    ]
    return _install(machine, steps)


def confine_reader() -> str:
    """Leave this process only its files: no network, no other process, no program to start.

    It may still make threads, end itself, and open files; below ``/proc``, only files about itself and the machine.
    Call it before the first thread.

    Returns
    -------
    str
        Empty, or why the filter does not hold; see `refuse_connections`. Landlock is an addition; see
        `landlock_missing`.
    """
    if sys.platform != "linux":
        return f"{sys.platform} is not supported"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _enter_landlock()
    _drop_capabilities()
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        return f"{platform.machine()} is not supported"
    return _install(machine, _reader_steps(platform.machine(), machine))


def landlock_missing() -> str:
    """Return what a process that reads files may still do because the kernel has no Landlock; empty where it has.

    On other systems than Linux `confine_reader` says that nothing holds.
    """
    if sys.platform != "linux" or _landlock_version(ctypes.CDLL(None, use_errno=True)) >= 1:
        return ""
    return (
        "This kernel has no Landlock (Linux 5.13, switched on): the process that reads files may read /run/secrets, "
        "and what /proc shows of processes that are not hidden."
    )


def hide_process() -> None:
    """Keep other processes of the same user from reading this process: its memory, environment and open files.

    A program that it starts (execve) is not hidden; a forked process is.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def show_process() -> None:
    """Undo `hide_process`: a hidden process may not write to its own files below ``/proc``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _reader_steps(name: str, machine: dict[str, int]) -> list[_Step]:
    refused = [*_READER_MAY_NOT[name].values(), *_READER_MAY_NOT_ANYWHERE.values(), *_IO_URING, machine["socket"]]
    own = os.getpid()
    steps: list[_Step] = [(_AT_LEAST, _UNKNOWN, "missing", ""), (_EQUAL, _CLONE3, "missing", "")]
    steps += [(_EQUAL, number, "refuse", "") for number in sorted(refused)]
    # Each of these ends in a decision, so it may overwrite the loaded number of the call.
    for call, test, value in (
        ("clone", _ANY_BIT, _CLONE_THREAD),
        ("kill", _EQUAL, own),
        ("tgkill", _EQUAL, own),
        ("prlimit64", _EQUAL, 0),
    ):
        steps += [
            (_EQUAL, machine[call], "", f"not {call}"),
            (_LOAD, _FIRST_ARGUMENT, "", ""),
            (test, value, "allow", "refuse"),
            (0, 0, f"not {call}", ""),
        ]
    return [
        *steps,
        (_EQUAL, machine["fcntl"], "", "allow"),
        (_LOAD, _SECOND_ARGUMENT, "", ""),
        (_EQUAL, _SET_OWNER, "refuse", ""),
        (_EQUAL, _SET_OWNER_EX, "refuse", "allow"),
    ]


def _install(machine: dict[str, int], steps: list[_Step]) -> str:
    program = _program(machine["audit"], steps)
    instructions = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(instructions)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    number, flags = ctypes.c_long(machine["seccomp"]), ctypes.c_long(_ALL_THREADS | _SPEC_ALLOW)
    failed = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.syscall(
        number, ctypes.c_long(_SET_MODE_FILTER), flags, header
    )
    return os.strerror(ctypes.get_errno()) if failed else ""


def _program(audit: int, steps: list[_Step]) -> bytes:
    """Return a filter: first the common rules, then `steps`; calls that no rule decides are allowed."""
    first: list[_Step] = [
        (_LOAD, _ARCHITECTURE, "", ""),
        (_EQUAL, audit, "", "refuse"),
        (_LOAD, _NUMBER, "", ""),
        (_AT_LEAST, _X32, "refuse", ""),
    ]
    decisions = {"allow": _ALLOW, "refuse": _ERROR | errno.EACCES, "missing": _ERROR | errno.ENOSYS}
    places: dict[str, int] = {}
    plain: list[_Step] = []
    for step in first + steps:
        if step[0]:
            plain.append(step)
        else:  # the name of a target
            places[step[2]] = len(plain)
    places |= {name: len(plain) + at for at, name in enumerate(decisions)}
    code = b""
    for at, (what, value, then, otherwise) in enumerate(plain):
        jumps = [places[target] - at - 1 if target else 0 for target in (then, otherwise)]
        code += struct.pack("=HBBI", what, *jumps, value)
    return code + b"".join(struct.pack("=HBBI", _RETURN, 0, 0, value) for value in decisions.values())


def _enter_landlock() -> None:
    """Enter a Landlock domain: processes in it cannot inspect processes outside, even those of the same user.

    All files stay readable, except those below ``/proc`` that describe other processes.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = _landlock_version(libc)
    if version < 1:
        return
    folders = _READ_FILE | _READ_DIR | (_REFER if version >= 2 else 0)
    files = folders | _EXECUTE | _MAKE_DEVICES_AND_SOCKETS
    handled = struct.pack("=QQQ", files, _TCP, _ABSTRACT_SOCKETS_AND_SIGNALS)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), handled, ctypes.c_size_t(size), ctypes.c_uint(0))
    if rules < 0:
        return
    try:
        for path in _readable():
            _allow(libc, rules, path, folders)
        libc.syscall(ctypes.c_long(_LANDLOCK_RESTRICT), ctypes.c_int(rules), ctypes.c_uint(0))
    finally:
        os.close(rules)


def _landlock_version(libc: ctypes.CDLL) -> int:
    """Return the version of Landlock; below 1 where there is none."""
    libc.syscall.restype = ctypes.c_long
    none, size, flags = None, ctypes.c_size_t(0), ctypes.c_uint(_LANDLOCK_VERSION)
    return int(libc.syscall(ctypes.c_long(_LANDLOCK_CREATE), none, size, flags))


def _readable() -> list[str]:
    """Return the readable paths: all except other processes and the tokens that Kubernetes puts into containers."""
    there = [f"/{name}" for name in os.listdir("/") if name not in ("proc", "run")]  # noqa: PTH208 - names are enough
    if os.path.isdir("/run"):  # noqa: PTH112
        there += [f"/run/{name}" for name in os.listdir("/run") if name != "secrets"]  # noqa: PTH208
    return [*there, f"/proc/{os.getpid()}", *(f"/proc/{name}" for name in _ABOUT_THE_MACHINE)]


def _allow(libc: ctypes.CDLL, rules: int, path: str, in_folders: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        allowed = in_folders if os.path.isdir(path) else _READ_FILE  # noqa: PTH112 - beside os.open
        rule = struct.pack("=Qi", allowed, place)
        libc.syscall(
            ctypes.c_long(_LANDLOCK_ADD), ctypes.c_int(rules), ctypes.c_int(_LANDLOCK_BENEATH), rule, ctypes.c_uint(0)
        )
    finally:
        os.close(place)


def _drop_capabilities() -> None:
    """Drop the capabilities of root except those for reading and writing files."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITIES_VERSION, 0))
    data = ctypes.create_string_buffer(24)
    if libc.capget(header, data) != 0:
        return
    effective, permitted, _, *_ = struct.unpack("=6I", data.raw)
    kept = struct.pack("=6I", effective & _KEPT_CAPABILITIES, permitted & _KEPT_CAPABILITIES, 0, 0, 0, 0)
    libc.capset(header, ctypes.create_string_buffer(kept, len(kept)))
