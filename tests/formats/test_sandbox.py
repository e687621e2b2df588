"""The child process that reads untrusted files: whatever happens in it, the parent gets an answer or one sentence."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.common.stages import OPENING
from cellworker.formats.opening import reader_nursery, reader_processes, sandbox
from cellworker.formats.opening.sandbox import run_sandboxed

GIB = 1 << 30
linux = pytest.mark.skipif(sys.platform != "linux", reason="the system holds this on Linux only")

CHILD = """
import ctypes, os, signal, socket, stat, subprocess, sys, threading, time
from cellworker.errors import ErrorCode, WorkerError

def echo(**kwargs): return kwargs
def surroundings():
    return {
        "environ": dict(os.environ), "stdin": sys.stdin.read(), "pid": os.getpid(), "group": os.getpgid(0),
        "parent": os.getppid(), "folder": os.getcwd(), "threads": threading.active_count(),
    }
def opened():
    found = []
    for descriptor in range(3, 1000):
        try: kind = "pipe" if stat.S_ISFIFO(os.fstat(descriptor).st_mode) else "other"
        except OSError: continue
        # Debian's libffi, which ctypes calls, keeps its own file open for trampolines.
        if kind == "pipe" or not os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2].startswith("libffi.so"):
            found.append(kind)
    return found
def counting(progress):
    progress("reading", 0.25)
    time.sleep(0.06)
    progress("reading", 0.5)
    progress("writing", None)
    return "done"
def waiting(path): return open(path).read()
def stalling(path, progress):
    progress("writing", 0.5)
    # Opened for reading, a pipe with a name makes wait until it is opened for writing: as a disk that stalls.
    return open(path).read()
def refusing(): raise WorkerError(ErrorCode.CELL_SETS_INVALID, "no good")
def recursing(): return recursing()
def raising(): raise KeyError("secret detail")
def filling():
    kept = []
    while True: kept.append(bytearray(1 << 22))
def filling_with_numpy():
    import numpy
    return numpy.ones(1 << 40).sum()
def filling_in_a_thread():
    stack = [threading.Thread(target=time.sleep, args=(60,), daemon=True) for _ in range(10_000)]
    for thread in stack: thread.start()
def mapping(path):
    import numpy
    return int(numpy.memmap(path, "u1", "r")[::65536].sum())
def crashing(): ctypes.string_at(0)
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def leaving(): os._exit(3)
def spinning():
    while True: pass
def sleeping(path):
    with open(path, "w") as file: file.write(str(os.getpid()))
    time.sleep(300)
def unspeakable(): return object()
def ends_at(path, size):
    try:
        with open(path, "wb") as file: file.seek(size - 1), file.write(b"x")
    except OSError: return "refused"
    return "written"
def held(path, is_all):
    from cellworker.formats.common.write_limit import WriteLimit
    import resource
    limit = WriteLimit(0, 1.0, 1 << 40)
    limit.hold(is_all=is_all)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    told = [ends_at(path, before), ends_at(path, before + 1)]
    limit.admit(1)
    told.append(ends_at(path, before + 1))
    try: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 40))
    except (OSError, ValueError): told.append("cannot be raised")
    else: told.append("can be raised")
    return told
def lengthy(): return "x" * (5 << 20)
def talking():
    print("to stdout")
    sys.stderr.write("e" * 300_000)
    return 1
def looking(parent, path):
    import resource
    told = {}
    def attempt(name, act):
        try: told[name] = act() or "ok"
        except OSError: told[name] = "refused"
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    def call(*arguments):
        if libc.syscall(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments)) < 0:
            raise OSError(ctypes.get_errno(), "refused")
    numbers = {"x86_64": (101, 310, 311, 312, 272, 165, 29), "aarch64": (117, 270, 271, 272, 97, 40, 194)}
    ptrace, readv, writev, kcmp, unshare, mount, shmget = numbers[os.uname().machine]
    attempt("own file", lambda: open(path).read())
    def moved():
        os.mkdir(path + ".folder")
        os.rename(path, path + ".folder/moved")
    attempt("own thread", lambda: threading.Thread(target=int).start())
    attempt("own renaming", moved)
    attempt("own limits", lambda: resource.getrlimit(resource.RLIMIT_NOFILE) and None)
    attempt("own memory", lambda: open("/proc/self/statm").read() and None)
    for name in ("environ", "mem", "maps"):
        attempt(name, lambda: open(f"/proc/{parent}/{name}", "rb").read(1) and None)
    attempt("files", lambda: os.listdir(f"/proc/{parent}/fd") and None)
    attempt("listing", lambda: os.listdir("/proc") and None)
    attempt("tcp", lambda: socket.socket().close())
    attempt("udp", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close())
    attempt("local socket", lambda: socket.socket(socket.AF_UNIX).close())
    attempt("netlink", lambda: socket.socket(socket.AF_NETLINK).close())
    attempt("program", lambda: subprocess.Popen([sys.executable, "-c", ""]) and None)
    attempt("execve", lambda: os.execv(sys.executable, [sys.executable, "-c", ""]))
    attempt("fork", lambda: os._exit(0) if os.fork() == 0 else None)
    attempt("signal", lambda: os.kill(parent, 0))
    attempt("signal to all", lambda: os.kill(-1, 0))
    attempt("handle", lambda: os.pidfd_open(parent) and None)
    attempt("its limits", lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE) and None)
    attempt("ptrace", lambda: call(ptrace, 16, parent, 0, 0))
    attempt("read", lambda: call(readv, parent, None, 0, None, 0, 0))
    attempt("write", lambda: call(writev, parent, None, 0, None, 0, 0))
    attempt("compare", lambda: call(kcmp, os.getpid(), parent, 0, 0, 0))
    attempt("pidfd_getfd", lambda: call(438, 0, 0, 0))
    attempt("io_uring", lambda: call(425, 1, ctypes.create_string_buffer(120)))
    attempt("clone3", lambda: call(435, None, 0))
    attempt("name space", lambda: call(unshare, 0x10000000))
    attempt("mount", lambda: call(mount, None, b"/", None, 0, None))
    attempt("shared memory", lambda: call(shmget, 0, 4096, 0o1600))
    return told
def calling(port):
    try: socket.create_connection(("127.0.0.1", port), timeout=2)
    except OSError: return "refused"
    return "connected"
"""


PARENT = """
import sys
sys.path.insert(0, sys.argv[1])
from cellworker.formats.opening.sandbox import run_sandboxed
pids = sys.argv[1] + "/pids"
if sys.argv[2] == "forked":
    run_sandboxed("child_functions:echo", {}, memory_bytes=1 << 30, timeout_s=100, max_file_bytes=1 << 30)
run_sandboxed("child_functions:sleeping", {"path": pids}, memory_bytes=1 << 30, timeout_s=100, max_file_bytes=1 << 30)
"""


@pytest.fixture(autouse=True, params=["started", "forked"])
def way(request, monkeypatch):
    """How the child is made: everything holds for both ways."""
    if request.param == "started":
        monkeypatch.setattr(reader_processes._nursery, "fork", lambda _order: None)
    else:
        monkeypatch.setattr(reader_processes._nursery, "_is_first", False)
    return request.param


@pytest.fixture(autouse=True)
def child_module(tmp_path, monkeypatch):
    (tmp_path / "child_functions.py").write_text(CHILD)
    monkeypatch.syspath_prepend(tmp_path)


def run(name, memory_bytes=GIB, timeout_s=20.0, max_file_bytes=1 << 40, on_progress=None, **kwargs):
    return run_sandboxed(
        f"child_functions:{name}", kwargs, memory_bytes=memory_bytes, timeout_s=timeout_s,
        max_file_bytes=max_file_bytes, on_progress=on_progress,
    )  # fmt: skip


def refused(name, **kwargs):
    with pytest.raises(WorkerError) as caught:
        run(name, **kwargs)
    return caught.value


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(holds, seconds=120):
    end = time.monotonic() + seconds
    while not (is_so := holds()) and time.monotonic() < end:
        threading.Event().wait(0.01)
    return is_so


def _gone_within(pids, seconds):
    return _until(lambda: not any(map(_alive, pids)), seconds)


def test_arguments_and_results_pass_both_ways():
    assert run("echo", a=[1, {"b": None}], c="é") == {"a": [1, {"b": None}], "c": "é"}
    assert len(run("lengthy")) == 5 << 20


def test_starting_takes_little_time():
    run("echo")
    begin = time.perf_counter()
    run("echo")
    assert time.perf_counter() - begin < 5  # 0.05 s on a quiet machine


def test_the_child_has_no_credentials_and_a_group_of_its_own(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    found = run("surroundings")
    assert "AWS_SECRET_ACCESS_KEY" not in found["environ"]
    assert found["environ"]["PATH"] == "/bin:/usr/bin"
    assert found["stdin"] == ""
    assert found["group"] == found["pid"] != os.getpid()
    assert found["threads"] == 1


@linux
def test_the_child_has_nothing_open_but_its_pipes():
    run("echo")
    assert run("opened") == ["pipe", "pipe"]


def test_the_child_works_where_the_caller_works_now(tmp_path, monkeypatch):
    run("echo")
    monkeypatch.chdir(tmp_path)
    assert Path(run("surroundings")["folder"]) == tmp_path.resolve()


def test_progress_arrives_in_order():
    seen = []
    assert run("counting", on_progress=lambda what, part: seen.append((what, part))) == "done"
    new = [told for told, before in zip(seen, [(OPENING, None), *seen], strict=False) if told != before]
    assert new == [("reading", 0.25), ("reading", 0.5), ("writing", None)]


def test_a_child_that_stalls_is_heard_of_with_its_last_stage_and_fraction(tmp_path):
    pipe, seen, threads = tmp_path / "pipe", [], threading.active_count()
    os.mkfifo(pipe)

    def listen(what, part):
        seen.append((what, part))
        if seen.count(("writing", 0.5)) == 3:
            pipe.write_text("done")

    assert run("stalling", path=str(pipe), on_progress=listen) == "done"
    assert set(seen) - {(OPENING, None)} == {("writing", 0.5)}
    assert threading.active_count() == threads


@linux
def test_a_child_that_stalls_ends_when_its_listener_has_gone(tmp_path):
    seen = []
    os.mkfifo(tmp_path / "pipe")

    def leave(what, part):
        seen.append((what, part))
        if seen.count(("writing", 0.5)) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run("stalling", path=str(tmp_path / "pipe"), on_progress=leave)


def test_a_child_that_has_said_nothing_yet_is_heard_of(tmp_path):
    pipe, seen = tmp_path / "pipe", []
    os.mkfifo(pipe)

    def listen(what, part):
        seen.append((what, part))
        if len(seen) == 2:
            pipe.write_text("done")

    assert run("waiting", path=str(pipe), on_progress=listen) == "done"
    assert set(seen) == {(OPENING, None)}


def test_the_childs_own_refusal_keeps_code_and_sentence():
    problem = refused("refusing")
    assert (problem.code, problem.message) == (ErrorCode.CELL_SETS_INVALID, "no good")


@pytest.mark.parametrize("name", ["recursing", "raising", "unspeakable", "leaving", "absent"])
def test_any_other_failure_is_one_sentence_and_its_traceback_is_in_the_log(name, caplog):
    problem = refused(name)
    assert problem.code is ErrorCode.EXPERIMENT_UNREADABLE
    assert "secret" not in problem.message
    assert "Traceback" not in problem.message
    assert name == "leaving" or "Traceback" in caplog.text


@linux
@pytest.mark.parametrize("name", ["filling", "filling_with_numpy", "filling_in_a_thread"])
def test_too_much_memory_is_refused_naming_limit_and_setting(name):
    problem = refused(name, memory_bytes=GIB // 4)
    assert problem.code is ErrorCode.OUT_OF_MEMORY
    assert "0.25 GB" in problem.message
    assert "LOAD_MEMORY_GB" in problem.message


@linux
def test_maps_of_files_do_not_count_as_memory(tmp_path):
    with (tmp_path / "large").open("wb") as file:
        file.truncate(GIB // 2)
    assert run("mapping", memory_bytes=GIB // 4, path=str(tmp_path / "large")) == 0


def test_a_crash_is_one_sentence():
    problem = refused("crashing")
    assert problem.code is ErrorCode.EXPERIMENT_UNREADABLE
    assert "crash" in problem.message


def test_a_kill_by_the_system_is_reported_as_lack_of_memory():
    assert refused("killed").code is ErrorCode.OUT_OF_MEMORY


def test_the_deadline_holds_for_a_child_that_never_listens():
    begin = time.perf_counter()
    problem = refused("spinning", timeout_s=0.5)
    assert problem.code is ErrorCode.DEADLINE_EXCEEDED
    assert "0.5 seconds" in problem.message
    assert "LOAD_TIMEOUT_S" in problem.message
    assert time.perf_counter() - begin < 10


@linux
def test_the_deadline_ends_the_child(tmp_path):
    assert refused("sleeping", timeout_s=1.5, path=str(tmp_path / "pids")).code is ErrorCode.DEADLINE_EXCEEDED
    assert _gone_within((tmp_path / "pids").read_text().split(), 5)


@linux
def test_an_error_in_the_progress_callback_ends_the_child_and_comes_out():
    class CancelledError(Exception):
        pass

    def cancel(*_args):
        raise CancelledError

    with pytest.raises(CancelledError):
        run("counting", on_progress=cancel)


@linux
def test_the_child_dies_with_its_parent(tmp_path, way):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), way])
    pids = tmp_path / "pids"
    end = time.monotonic() + 20
    while not (pids.exists() and pids.read_text()) and time.monotonic() < end:
        threading.Event().wait(0.02)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert _gone_within([pids.read_text()], 5)


def test_what_the_child_prints_does_not_disturb(caplog):
    assert run("talking") == 1
    assert "eee" in caplog.text


@linux
def test_the_child_reaches_nothing_but_its_files(tmp_path, monkeypatch):
    monkeypatch.setenv("CASSIA_KEY", "hush")
    kept = tmp_path / "kept"
    kept.write_text("content")
    told = run("looking", parent=os.getpid(), path=str(kept))
    assert told.pop("own file") == "content"
    assert (
        told.pop("own thread") == told.pop("own renaming") == told.pop("own limits") == told.pop("own memory") == "ok"
    )
    assert set(told.values()) == {"refused"}, told


@linux
def test_the_child_reaches_no_network():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert run("calling", port=server.getsockname()[1]) == "refused"


@linux
@pytest.mark.parametrize("way", ["forked"], indirect=True)
class TestTheNursery:
    """The process from which all children but the first are forked."""

    @pytest.fixture(autouse=True)
    def own_nursery(self, way, monkeypatch):
        nursery = reader_processes._Nursery()
        monkeypatch.setattr(reader_processes, "_nursery", nursery)
        yield nursery
        nursery.close()

    def test_the_first_child_is_started_and_the_later_ones_are_forked_from_one_process(self, own_nursery):
        first, second, third = (run("surroundings")["parent"] for _ in range(3))
        assert first == os.getpid()
        assert second == third == own_nursery._process.pid

    def test_one_that_was_killed_is_started_again(self, own_nursery):
        run("echo")
        before = run("surroundings")["parent"]
        os.kill(before, signal.SIGKILL)
        own_nursery._process.wait()
        assert run("surroundings")["parent"] not in {before, os.getpid()}

    def test_one_that_hangs_is_ended_and_the_child_started_without_it(self, own_nursery, monkeypatch):
        run("echo")
        hanging = run("surroundings")["parent"]
        monkeypatch.setattr(reader_processes, "_MAX_ANSWER_S", 0.2)
        os.kill(hanging, signal.SIGSTOP)
        assert run("surroundings")["parent"] == os.getpid()
        assert not _alive(hanging)

    def test_one_that_is_killed_takes_its_child_along_and_the_caller_is_told(self, own_nursery, tmp_path):
        run("echo")
        parent = run("surroundings")["parent"]
        path = tmp_path / "pid"
        with ThreadPoolExecutor() as pool:
            problem = pool.submit(refused, "sleeping", path=str(path))
            assert _until(lambda: path.exists() and path.read_text())
            os.kill(parent, signal.SIGKILL)
            assert problem.result().code is ErrorCode.OUT_OF_MEMORY
        assert _gone_within([path.read_text()], 60)

    def test_one_without_work_ends_by_itself(self, own_nursery):
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        code = "from cellworker.formats.opening import reader_nursery as n; n.IDLE_S = 0.01; n.main()"
        with mine, its:
            command = [sys.executable, "-c", code, str(its.fileno())]
            assert subprocess.run(command, pass_fds=(its.fileno(),), timeout=120, check=False).returncode == 0

    def test_many_children_at_a_time_get_their_own_answers(self, own_nursery):
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda i: run("echo", i=i)["i"], range(24))) == list(range(24))

    def test_a_process_forked_from_the_caller_uses_one_of_its_own(self, own_nursery, tmp_path):
        run("echo")
        mine = run("surroundings")["parent"]
        if (pid := os.fork()) == 0:
            status = 1
            with suppress(BaseException):
                seen = [run("surroundings")["parent"] for _ in range(2)]
                status = int(mine in seen)
                reader_processes._nursery.close()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert run("surroundings")["parent"] == mine

    def test_it_has_one_thread_with_all_that_readers_import(self, own_nursery):
        modules = [name for first, later in reader_nursery._LATER.items() for name in (first, *later)]
        code = f"import os, sys; [__import__(name) for name in {modules}]; sys.exit(len(os.listdir('/proc/self/task')))"
        environment = reader_processes._environment()
        assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 1


def test_the_child_writes_no_file_beyond_its_limit(tmp_path):
    path = str(tmp_path / "written")
    assert run("ends_at", path=path, size=1 << 20, max_file_bytes=1 << 20) == "written"
    assert run("ends_at", path=path, size=(1 << 20) + 1, max_file_bytes=1 << 20) == "refused"


def test_what_one_file_may_write_is_held_by_the_system_and_grows_only_where_other_files_may_come(tmp_path):
    path = str(tmp_path / "written")
    assert run("held", path=path, is_all=True) == ["written", "refused", "refused", "cannot be raised"]
    # The max of all files holds here, which is that of the parent.
    assert run("held", path=path, is_all=False) == ["written", "refused", "written", "can be raised"]
    assert run("held", path=path, is_all=False, max_file_bytes=1 << 30)[-1] == "cannot be raised"


def test_a_kernel_without_landlock_is_told_of_once(monkeypatch, caplog):
    monkeypatch.setattr(sandbox, "landlock_missing", lambda: "This kernel has no Landlock.")
    sandbox._tell_of_landlock.cache_clear()
    for _ in range(2):
        run("echo")
    sandbox._tell_of_landlock.cache_clear()
    assert [record.message for record in caplog.records].count("This kernel has no Landlock.") == 1
