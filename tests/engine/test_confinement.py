"""A process that gave up its connections cannot open any."""

import json
import subprocess
import sys

from .conftest import linux_only

pytestmark = linux_only

TRIAL = """
import json, os, socket, threading
from cellworker.engine.workers.confinement import give_up_connections

listener = socket.create_server(("127.0.0.1", 0))
told = {}

def attempt(name, act):
    try:
        act()
        told[name] = "ok"
    except OSError as error:
        told[name] = type(error).__name__

go, gone = threading.Event(), threading.Event()
def older_thread():
    go.wait()
    attempt("thread", lambda: socket.socket(socket.AF_INET))
    gone.set()
threading.Thread(target=older_thread, daemon=True).start()

told["holds"] = give_up_connections()
go.set()
gone.wait()
attempt("tcp", lambda: socket.socket(socket.AF_INET))
attempt("udp", lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
attempt("local", lambda: socket.socketpair())
reader, writer = os.pipe()
if os.fork() == 0:
    attempt("child", lambda: socket.create_connection(listener.getsockname()))
    os.write(writer, json.dumps(told).encode())
    os._exit(0)
os.close(writer)
print(os.read(reader, 10_000).decode())
"""


def test_every_socket_but_local_ones_is_refused_in_all_threads_and_children() -> None:
    done = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    assert told == {
        "holds": True,
        "thread": "PermissionError",
        "tcp": "PermissionError",
        "udp": "PermissionError",
        "local": "ok",
        "child": "PermissionError",
    }
