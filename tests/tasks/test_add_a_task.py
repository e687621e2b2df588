"""A task is one file and one row: the page that says so, followed to the letter in a copy of the package."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cellworker.sample import sample_path

TIMEOUT_S = 120
BODY = json.dumps({"gene": "CD3D", "cellSet": "louvain-2"})
FILE = re.compile(r"^`([a-z_/]+\.py)`[^\n]*:\n\n```python\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
PRINTS = re.compile(r"^```python\n((?:(?!```).*\n)*)```\n\n```text\n((?:(?!```).*\n)*)```", re.MULTILINE)


class Grown:
    """The package with one more task, and how to run it."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.page = (root / "docs/how-to/add-a-task.md").read_text(encoding="utf-8")
        self.folder = folder
        package = folder / "cellworker"
        _mirror(root / "src/cellworker", package, opened=("tasks", "analysis"))
        for name, code in FILE.findall(self.page):
            (package / name).write_text(code, encoding="utf-8")
        catalog = (root / "src/cellworker/tasks/catalog.py").read_text(encoding="utf-8")
        (import_line,) = re.findall(r"^from cellworker\.tasks\.detection_rate .*\n", self.page, re.MULTILINE)
        catalog = catalog.replace("from cellworker.tasks.task ", f"{import_line}from cellworker.tasks.task ", 1)
        row, rows = "        DETECTION_RATE,\n", re.compile(r"(?<=,\n)(?=    \)\n\}\n)")
        assert len(rows.findall(catalog)) == 1
        (package / "tasks/catalog.py").unlink()
        (package / "tasks/catalog.py").write_text(rows.sub(row, catalog), encoding="utf-8")
        self.environment = {
            **os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "STORE_DIR": str(folder / "store"),
            "DATA_DIR": str(folder / "data"), "XDG_DATA_HOME": str(folder / "home"),
        }  # fmt: skip

    def python(self, *arguments: str) -> str:
        """Run Python with the grown package, and return what it prints."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def command(self, *arguments: str) -> str:
        """Run a command of the grown package."""
        return self.python("-m", "cellworker.cli.main", *arguments)

    @contextmanager
    def serving(self, *arguments: str, until: str) -> Iterator[None]:
        """A command that goes on in the background, from when it has printed some words."""
        with subprocess.Popen(
            [sys.executable, "-m", "cellworker.cli.main", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            end = threading.Timer(TIMEOUT_S, process.kill)  # what hangs ends the reading too
            end.start()
            try:
                assert process.stdout is not None
                printed: list[str] = []
                for line in process.stdout:
                    printed.append(line)
                    if until in line:
                        break
                assert until in printed[-1], "".join(printed)
                drain = threading.Thread(target=process.stdout.read)
                drain.start()
                yield
            finally:
                process.terminate()
                process.wait(TIMEOUT_S)
                end.cancel()
            drain.join()


def _mirror(source: Path, target: Path, opened: tuple[str, ...]) -> None:
    """Make a folder of links to what another one holds; the folders in `opened` are made anew, of links again."""
    target.mkdir()
    for path in source.iterdir():
        if path.name in opened:
            _mirror(path, target / path.name, ())
        elif path.name != "__pycache__":
            (target / path.name).symlink_to(path)


@pytest.fixture(scope="module")
def grown(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Grown:
    return Grown(root, tmp_path_factory.mktemp("grown"))


def test_nothing_but_the_named_files_is_touched(grown: Grown) -> None:
    touched = {
        path.relative_to(grown.folder / "cellworker").as_posix()
        for path in (grown.folder / "cellworker").rglob("*.py")
        if not path.is_symlink()
    }
    assert touched == {"tasks/detection_rate.py", "tasks/catalog.py", "analysis/detection.py"}


def test_it_is_listed_as_ours(grown: Grown) -> None:
    (line,) = [line for line in grown.command("tasks").splitlines() if "GetDetectionRate" in line]
    assert "the share of a cell set's cells in which a gene is found" in line
    assert line.endswith("(ours)")


def test_python_answers_as_the_page_says(grown: Grown) -> None:
    ((code, expected),) = PRINTS.findall(grown.page)
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    printed = grown.python("-c", code)
    assert re.fullmatch(pattern, printed.strip(), re.DOTALL), printed


def test_the_command_line_answers(grown: Grown) -> None:
    answer = json.loads(grown.command("call", "GetDetectionRate", "--body", BODY, "--quiet"))
    assert answer["gene"] == "CD3D"
    assert 0.5 < answer["share"] < 0.51


def test_the_local_door_answers(grown: Grown) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    with grown.serving("run", "--port", port, until=f":{port}"):
        url = f"http://127.0.0.1:{port}"
        answer = json.loads(grown.command("submit", "GetDetectionRate", "--body", BODY, "--url", url, "--quiet"))
        with urllib.request.urlopen(f"{url}/console.json", timeout=TIMEOUT_S) as response:
            example = json.load(response)["examples"]["GetDetectionRate"]
    assert 0.5 < answer["share"] < 0.51
    assert example["cellSet"] == "louvain-0"


def test_the_engine_answers(grown: Grown) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = str(probe.getsockname()[1])
    with grown.serving("engine", str(sample_path()), "--port", port, until="Ready."):
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v0/getDetectionRate",
            json.dumps({"gene": "CD3D", "cellIds": [0, 1, 2, 3]}).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
            answer = json.load(response)
    assert answer["error"] is None
    assert answer["data"]["share"] in (0, 0.25, 0.5, 0.75, 1)
