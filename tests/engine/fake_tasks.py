"""Tasks that misbehave on purpose. They wait on named pipes, never on a clock; the store is a text file."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from cellworker.errors import ErrorCode, WorkerError
from cellworker.settings import Settings
from cellworker.tasks.context import ClusterQuestion
from cellworker.tasks.task import Context, Task


@dataclass
class Misc:
    experiment_id: str = "exp-1"


@dataclass
class Data:
    n_genes: int = 7


@dataclass
class TextExperiment:
    text: str
    n_cells: int = 3
    data: Data = field(default_factory=Data)
    misc: Misc = field(default_factory=Misc)
    store: Path = field(default_factory=Path)
    n_bytes: int = 1
    is_whole: bool = True

    @property
    def file_id(self) -> str:
        return self.text

    @property
    def is_in_place(self) -> bool:
        return self.store.exists()


@dataclass
class FakeOpened:
    experiment: TextExperiment
    store: Path
    source: Path


def open_source(path: Path, settings: Settings, on_progress: Any) -> FakeOpened:
    """Make a store of a text file; one that says ``bad`` is refused, ``wait PIPE`` waits, ``bug`` is one."""
    if not path.exists():
        raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, f"There is no experiment at {path.name}.")
    text = path.read_text()
    on_progress("Reading", 0.5)
    if text == "bad":
        raise WorkerError(ErrorCode.EXPERIMENT_UNREADABLE, "The file is damaged.")
    if text == "bug":
        raise ZeroDivisionError(text)
    if text.startswith("wait "):
        text = Path(text.removeprefix("wait ")).read_text()
    store = settings.store_dir / text
    store.parent.mkdir(exist_ok=True)
    store.write_text(text)
    return FakeOpened(TextExperiment(text, store=store), store, path)


def open_folder(path: Path, settings: Settings, on_progress: Any) -> FakeOpened:
    """Make a store of the ``r.rds`` of a folder."""
    return open_source(path / "r.rds", settings, on_progress)


def open_text(path: Path) -> TextExperiment:
    if not path.exists():
        raise WorkerError(ErrorCode.EXPERIMENT_NOT_FOUND, f"There is no store at {path.name}.")
    return TextExperiment(path.read_text())


class Body(msgspec.Struct):
    name: str = ""


class Nothing(msgspec.Struct):
    pass


class Hold(msgspec.Struct):
    """`alive` is opened for writing and held: its reader sees the end when the process is gone. `go`: waited for."""

    alive: str = ""
    go: str = ""
    steps: bool = False


class Number(msgspec.Struct):
    value: int


class Text(msgspec.Struct):
    value: str


def echo(experiment: TextExperiment, request: Number, context: Context) -> Any:
    return {"value": request.value, "store": experiment.text, "threads": context.threads}


def hold(experiment: TextExperiment, request: Hold, context: Context) -> Any:
    (context.scratch / "half-written").write_text("x")
    alive = os.open(request.alive, os.O_WRONLY) if request.alive else None
    if alive is not None:
        os.write(alive, b"!")
    if request.steps:
        while True:
            context.progress("stepping")
    if request.go:
        Path(request.go).read_bytes()
    if alive is not None:
        os.close(alive)
    return {"store": experiment.text}


def end_parent(experiment: TextExperiment, request: Text, context: Context) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    signal.pause()


def crash(experiment: TextExperiment, request: Text, context: Context) -> Any:
    if request.value == "segfault":
        ctypes.string_at(8)
    if request.value == "exit":
        os._exit(3)
    if request.value == "sys.exit":
        sys.exit(4)
    if request.value == "kill":
        os.kill(os.getpid(), 9)
    raise ZeroDivisionError(request.value)


def allocate(experiment: TextExperiment, request: Number, context: Context) -> Any:
    blocks = [np.ones(1 << 20, np.uint8) for _ in range(request.value)]
    return len(blocks)


_hoarded: list[Any] = []


def hoard(experiment: TextExperiment, request: Number, context: Context) -> Any:
    _hoarded.append(np.ones(request.value << 20, np.uint8))
    return os.getpid()


def worker_error(experiment: TextExperiment, request: Text, context: Context) -> Any:
    raise WorkerError(ErrorCode(request.value), "The sentence of the task.")


def big(experiment: TextExperiment, request: Number, context: Context) -> Any:
    return "x" * request.value


def floats(experiment: TextExperiment, request: Number, context: Context) -> Any:
    return np.random.default_rng(0).random(request.value).astype(np.float32)


def write_file(experiment: TextExperiment, request: Text, context: Context) -> Any:
    path = context.scratch / "result.txt"
    path.write_text(request.value)
    return path


def progress(experiment: TextExperiment, request: Hold, context: Context) -> Any:
    context.progress("Counting cells", 0.5)
    Path(request.go).read_bytes()
    return "done"


def annotate(experiment: TextExperiment, request: Nothing, context: Context) -> Any:
    markers: dict[str, Any] = {"p_val_adj": [0.0], "avg_log2FC": [2.0], "cluster": [1], "gene": ["GENE1"]}
    question = ClusterQuestion("Human", "Blood", None, 1, markers)
    return [grouping[1] for grouping in context.annotate(question, context.progress, context.scratch)]


def process_id(experiment: TextExperiment, request: Nothing, context: Context) -> Any:
    return {"pid": os.getpid(), "modules": sorted(sys.modules)}


def keep(experiment: TextExperiment, request: Text, context: Context) -> Any:
    from cellworker.tasks.common.result_cache import kept

    known = kept(context.kept, request.value, lambda: {"maker": np.array(os.getpid())})
    return {"maker": int(known["maker"]), "pid": os.getpid(), "folder": str(context.kept)}


def _task(
    path: str,
    request: type[msgspec.Struct],
    compute: Any,
    *,
    lane: Literal["short", "long"] = "short",
    quick: Callable[[Any], bool] | None = None,
    bare: bool = False,
    file_name: Callable[[Path], str] | None = None,
) -> Task:
    return Task(
        name=path.capitalize(),
        path=path,
        about="a task of these tests",
        body=Body,
        request=request,
        prepare=lambda _: Nothing(),
        compute=compute,
        lane=lane,
        quick=quick,
        bare=bare,
        glance=None if quick is None else request,
        file_name=file_name,
    )


_ALL = [
    _task("echo", Number, echo),
    _task("bareEcho", Number, echo, bare=True),
    _task("bareError", Text, worker_error, bare=True),
    _task("hold", Hold, hold),
    _task("holdLong", Hold, hold, lane="long"),
    _task("holdWithoutSteps", Hold, hold, lane="long", quick=lambda request: not request.go),
    _task("crash", Text, crash),
    _task("endParent", Text, end_parent),
    _task("allocate", Number, allocate),
    _task("hoard", Number, hoard),
    _task("workerError", Text, worker_error),
    _task("big", Number, big),
    _task("floats", Number, floats),
    _task("writeFile", Text, write_file, file_name=lambda file: file.name),
    _task("progress", Hold, progress),
    _task("annotate", Nothing, annotate, lane="long"),
    _task("processId", Nothing, process_id),
    _task("keep", Text, keep),
]
BY_PATH = {task.path: task for task in _ALL}
