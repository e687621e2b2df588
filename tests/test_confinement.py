"""What a process gave up, tried by itself: without a privilege, and with one tool of the kernel after the other."""

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tools are Linux's")

SECRET = "sesame-0123456789"

# A parent with a secret in its first environment, and a child that looks at it. Both are nobody where the test is root.
TRIAL = '''
import ctypes, fcntl, json, os, signal, socket, sys, tempfile, time
from cellworker import confinement
from cellworker.cli.handover import forget_secrets

def attempt(act):
    try: return act()
    except OSError: return "refused"

def content(pid):
    with open(f"/proc/{pid}/environ", "rb") as file: return file.read()

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
REFUSED = ctypes.c_void_p(-1).value

def send_local(path):
    first, second = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    return "sent" if first.sendto(b"hello", path) else "?"

def signal_by_pipe(pid):
    reader, writer = os.pipe()
    fcntl.fcntl(reader, fcntl.F_SETOWN, pid)
    return "ok"

def reaches(confine):
    """A local socket, a shared segment and a process, all of this user's, that were there before."""
    path = tempfile.mkdtemp() + "/socket"
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind(path)
    segment = libc.shmget(0, 4096, 0o1600)
    reader, writer = os.pipe()
    # A lower number than that of `nice make test` is refused by the kernel itself.
    nice = max(1, os.getpriority(os.PRIO_PROCESS, 0))
    parent, child = os.getpid(), os.fork()
    if child == 0:
        confine()
        told = {
            "socket": attempt(lambda: send_local(path)),
            "memory": "refused" if libc.shmat(segment, None, 0) == REFUSED else "attached",
            "signal": attempt(lambda: signal_by_pipe(parent)),
            "priority": attempt(lambda: os.setpriority(os.PRIO_PROCESS, parent, nice) or "ok"),
            "own pipe": attempt(lambda: fcntl.fcntl(writer, fcntl.F_GETFL) & 0 or "ok"),
        }
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    told = json.loads(os.read(reader, 10_000))
    os.waitpid(child, 0)
    libc.shmctl(segment, 0, None)
    os.unlink(path)
    os.rmdir(os.path.dirname(path))
    return told

def looks(confine):
    reader, writer = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        confinement.show_process()
        confine()
        told = {
            "environ": attempt(lambda: "SECRET" if os.environb[b"HUSH"] in content(parent) else "blank"),
            "memory": attempt(lambda: str(len(open(f"/proc/{parent}/maps").read()) > 0)),
            "fork": attempt(lambda: os._exit(0) if os.fork() == 0 else "ok"),
        }
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    told = json.loads(os.read(reader, 10_000))
    os.waitpid(child, 0)
    return told

def landlock_alone():
    confinement._install = lambda *_: ""
    assert confinement.confine_reader() == ""

def filter_alone():
    confinement._enter_landlock = lambda: None
    assert confinement.confine_reader() == ""

if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
confinement.show_process()
told = {"nothing": looks(lambda: None), "landlock": looks(landlock_alone)}
confinement.hide_process()
told["hidden"] = looks(lambda: None)
told["hidden, filter"] = looks(filter_alone)
told["free reaches"] = reaches(lambda: None)
told["filter reaches"] = reaches(filter_alone)
print(json.dumps(told))
'''


def trial(script: str, **environment: str) -> dict[str, dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def landlock() -> bool:
    import ctypes

    libc = ctypes.CDLL(None)
    return libc.syscall(ctypes.c_long(444), None, ctypes.c_size_t(0), ctypes.c_uint(1)) >= 1


def test_each_tool_alone_keeps_others_from_looking_in() -> None:
    told = trial(TRIAL, HUSH=SECRET)
    assert told["nothing"] == {"environ": "SECRET", "memory": "True", "fork": "ok"}  # or the test could not fail
    if landlock():
        assert (told["landlock"]["environ"], told["landlock"]["memory"]) == ("refused", "refused")
    assert (told["hidden"]["environ"], told["hidden"]["memory"]) == ("refused", "refused")
    assert set(told["hidden, filter"].values()) == {"refused"}
    assert told["free reaches"] == {
        "socket": "sent",
        "memory": "attached",
        "signal": "ok",
        "priority": "ok",
        "own pipe": "ok",
    }
    refused = {"socket": "refused", "memory": "refused", "signal": "refused", "priority": "refused", "own pipe": "ok"}
    assert told["filter reaches"] == refused


def test_a_filter_of_both_machines_decides_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the programs in a small machine of our own: one of the two is never run by the kernel that tests run on."""
    import struct

    from cellworker import confinement

    def decision(program: bytes, audit: int, number: int, argument: int = 0, second: int = 0) -> int:
        data = struct.pack("=IIQQQQQQQ", number, audit, 0, argument, second, 0, 0, 0, 0)
        steps = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
        at = accumulator = 0
        while True:
            what, then, otherwise, value = steps[at]
            at += 1
            if what == confinement._LOAD:
                (accumulator,) = struct.unpack_from("=I", data, value)
            elif what == confinement._RETURN:
                return value
            else:
                holds = {
                    confinement._EQUAL: accumulator == value,
                    confinement._AT_LEAST: accumulator >= value,
                    confinement._ANY_BIT: bool(accumulator & value),
                }[what]
                at += then if holds else otherwise

    allow, refuse, missing = 0x7FFF0000, 0x00050000 | 13, 0x00050000 | 38
    for name, machine in confinement._MACHINES.items():
        program = confinement._program(machine["audit"], confinement._reader_steps(name, machine))
        ask = lambda number, *arguments: decision(program, machine["audit"], number, *arguments)  # noqa: B023, E731
        for call, number in {**confinement._READER_MAY_NOT[name], **confinement._READER_MAY_NOT_ANYWHERE}.items():
            assert ask(number) == refuse, call
        assert ask(machine["socket"], 1) == ask(machine["socket"], 2) == refuse
        assert ask(machine["clone"], 0x3D0F00) == allow  # a thread, as libraries make them
        assert ask(machine["clone"], 17) == refuse
        for call in ("kill", "tgkill"):
            assert (ask(machine[call], os.getpid()), ask(machine[call], 1)) == (allow, refuse)
        asked_of_fcntl = [ask(machine["fcntl"], 3, command) for command in (1, 2, 3, 4, 8, 15)]
        assert asked_of_fcntl == [allow] * 4 + [refuse] * 2  # F_SETOWN, F_SETOWN_EX
        assert (ask(machine["prlimit64"], 0), ask(machine["prlimit64"], 7)) == (allow, refuse)
        assert ask(435) == ask(463) == ask(500) == missing
        assert ask(0x40000000 | 1) == refuse
        assert decision(program, 0x40000003, 1) == refuse  # the same machine's older tongue, i386 or arm
        other = {number for calls in (confinement._READER_MAY_NOT[name],) for number in calls.values()}
        other |= {*machine.values(), *confinement._READER_MAY_NOT_ANYWHERE.values(), *confinement._IO_URING, 435}
        assert {ask(number) for number in range(463) if number not in other} == {allow}


FORGETTING = """
import json, os
from cellworker.cli.handover import forget_secrets
from cellworker.settings import Settings

settings = Settings.from_environment()
forget_secrets()
first = open("/proc/self/environ", "rb").read() if os.geteuid() == 0 else None
told = {"kept": settings.journal_key, "again": Settings.from_environment().journal_key, "other": os.environ["HUSH"]}
told["first"] = None if first is None else os.environb[b"HUSH"] in first.replace(b"HUSH=", b"", 1)
print(json.dumps(told))
"""


def test_a_secret_is_forgotten_after_it_was_read() -> None:
    told = trial(FORGETTING, JOURNAL_KEY=SECRET, HUSH="something else")
    assert told["kept"] == SECRET
    assert told["again"] == ""
    assert told["other"] == "something else"
    assert told["first"] in (True, None)


SHOWN = """
import os, sys
from cellworker.cli.handover import forget_secrets
forget_secrets()
print("ready", flush=True)
sys.stdin.read()
"""


def test_the_first_environment_shows_no_secret_to_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root sees what is hidden")
    environment = {**os.environ, "CASSIA_KEY": SECRET, "JOURNAL_KEY": SECRET, "ACCESS_TOKEN": SECRET, "KEPT": "kept"}
    child = subprocess.Popen(
        [sys.executable, "-c", SHOWN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"ready\n"
    with open(f"/proc/{child.pid}/environ", "rb") as file:
        content = file.read()
    child.stdin.close()
    child.stdout.close()
    child.wait()
    assert b"KEPT=kept" in content
    assert SECRET.encode() not in content
