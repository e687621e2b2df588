"""The documentation: nothing undocumented, no page that does not build, no example that does not run."""

import html
import itertools
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path

import jsonschema
import pytest

from cellworker.cli.main import main
from cellworker.errors import ErrorCode
from cellworker.protocol.events import Status
from cellworker.settings import Settings
from cellworker.tasks import catalog

METHODS = (
    "markers", "compare", "compare_samples", "embedding", "cluster", "expression", "gene_sets", "trajectory",
    "pseudotime", "annotate", "cell_sets", "to_anndata", "save", "view", "run", "call",
)  # fmt: skip
"""Methods of an open experiment that people know by name."""

TEXT = {"type": "string", "minLength": 1}
CITATION = {
    "type": "object",
    "required": ["cff-version", "message", "title", "authors"],
    "additionalProperties": False,
    "properties": {
        "cff-version": {"const": "1.2.0"},
        "type": {"enum": ["software", "dataset"]},
        "authors": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {"name": TEXT},
            },
        },
        "keywords": {"type": "array", "minItems": 1, "uniqueItems": True, "items": TEXT},
        **dict.fromkeys(("message", "title", "abstract", "license", "version"), TEXT),
    },
}
"""Of the Citation File Format 1.2.0, as far as our file uses it."""

SITE_S = 240
COMMAND_S = 120


def read(root: Path, page: str) -> str:
    return (root / "docs" / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_code_has_a_page_that_says_what_to_do(code: ErrorCode, root: Path) -> None:
    page = read(root, f"reference/errors/{code}.md")
    assert page.startswith(f"# {code}\n")
    why, do = page.index("## Why it happens"), page.index("## What to do")
    assert page[why:do].count("\n- ") >= 1
    assert page[do:].count("\n- ") >= 1


def test_no_page_is_about_a_code_that_there_is_not(root: Path) -> None:
    assert {path.stem for path in (root / "docs/reference/errors").glob("*.md")} == set(ErrorCode)


def test_every_metric_is_documented(root: Path) -> None:
    pytest.importorskip("prometheus_client")
    from cellworker.gateway.observe.metrics import Metrics

    text = Metrics(catalog.TASKS).text().decode()
    served = set(re.findall(r"^# TYPE (cellworker_\w+) ", text, re.MULTILINE))
    documented = set(re.findall(r"`(cellworker_[a-z_]+)", read(root, "operations.md")))
    assert len(served) > 10
    assert {name for name in served if not name.endswith("_created")} <= documented


def test_every_event_and_status_is_documented(root: Path) -> None:
    page = read(root, "reference/events.md")
    for status in Status:
        assert f"`{status}`" in page
    for event in ("Heartbeat-", "WorkResponse-", "ExperimentUpdates-"):
        assert f"`{event}" in page


@pytest.mark.parametrize("name", sorted(catalog.TASKS))
def test_every_task_says_how_its_numbers_are_made(name: str, root: Path) -> None:
    assert f"`{name}`" in read(root, "explanation/numerics.md")
    assert f"## {name}\n" in read(root, "reference/tasks.md")


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built so that a warning is an error."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("documentation") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "DISABLE_MKDOCS_2_WARNING": "true", "NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=SITE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_without_a_warning_and_has_every_page(site: Path, root: Path) -> None:
    pages = {path.relative_to(root / "docs").with_suffix("") for path in (root / "docs").rglob("*.md")}
    pages |= {path.relative_to(root / "docs").with_suffix("") for path in (root / "docs").rglob("*.ipynb")}
    built = {path.parent.relative_to(site) for path in site.rglob("index.html")}
    assert {path for path in pages if path.name != "index"} <= built
    assert (site / "index.html").is_file()


@pytest.mark.parametrize("page", ["tutorial", "tutorials/seurat", "reference/python"])
def test_the_site_asks_nothing_of_other_hosts(page: str, site: Path) -> None:
    text = (site / page / "index.html").read_text(encoding="utf-8")
    fetched = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?([^\" >]+)", text)
    fetched += re.findall(r"<link(?![^>]*rel=\"?canonical)[^>]* href=\"?([^\" >]+)", text)
    assert fetched
    assert not [address for address in fetched if "//" in address]


def test_every_notebook_is_a_page_with_what_it_prints_and_draws(site: Path, root: Path) -> None:
    for path in (root / "docs/tutorials").glob("*.ipynb"):
        text = (site / "tutorials" / path.stem / "index.html").read_text(encoding="utf-8")
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        outputs = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
        pictures = sum("image/png" in output.get("data", {}) for output in outputs)
        shown = re.findall(r"<img[^>]* src=\"?([^\" >]+)", text)
        assert len([name for name in shown if name.endswith(".png")]) >= pictures
        assert all((site / "tutorials" / path.stem / name).resolve().is_file() for name in shown)
        printed = next(output["text"] for output in outputs if output["output_type"] == "stream")
        assert html.escape("".join(printed).splitlines()[0], quote=False)[:40] in text


def test_the_reference_has_every_public_function_and_method(site: Path) -> None:
    import cellworker
    from cellworker.api.dataset import Dataset

    text = (site / "reference" / "python" / "index.html").read_text(encoding="utf-8")
    wanted = [
        f"cellworker.api.{room}.{name}" for room in ("pp", "tl", "pl") for name in getattr(cellworker, room).__all__
    ]
    wanted += [f"cellworker.api.dataset.Dataset.{name}" for name in METHODS]
    assert set(METHODS) <= set(dir(Dataset))
    anchors = set(re.findall(r"<h\d id=\"?([\w.]+)", text))
    assert set(wanted) <= anchors, set(wanted) - anchors
    parts = {"pp", "tl", "pl", "__version__"}
    assert {name for name in cellworker.__all__ if name not in parts} <= {name.rsplit(".", 1)[-1] for name in anchors}


def test_the_citation_is_one(root: Path) -> None:
    """The keys that the Citation File Format 1.2.0 requires, and facts that stand elsewhere too."""
    yaml = pytest.importorskip("yaml")
    from cellworker import __version__

    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    jsonschema.validate(cited, CITATION)
    assert cited["version"] == __version__
    assert (cited["title"], cited["license"]) == (project["name"], project["license"])
    assert [author["name"] for author in cited["authors"]] == [author["name"] for author in project["authors"]]
    assert cited["keywords"] == project["keywords"]


def prose(root: Path) -> Iterator[tuple[str, str]]:
    """Each page, and its text without blocks of code."""
    for path in sorted((root / "docs").rglob("*.md")):
        yield (
            path.relative_to(root).as_posix(),
            re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE),
        )


def test_commands_are_documented_and_no_page_names_another(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    known = set(re.findall(r"^    ([a-z]+)  ", capsys.readouterr().out, re.MULTILINE))
    assert "call" in known
    assert known <= set(re.findall(r"`cellworker ([a-z]+)", (root / "README.md").read_text(encoding="utf-8")))
    for page, text in prose(root):
        named = set(re.findall(r"`cellworker ([a-z]+)", text))
        assert named <= known, f"{page}: {named - known}"


def test_no_page_sets_what_is_no_setting(root: Path) -> None:
    known = {item.name.upper() for item in fields(Settings)}
    for page, text in prose(root):
        named = set(re.findall(r"`([A-Z][A-Z_]{3,})=[^`]*`", text))
        assert named <= known, f"{page}: {named - known}"


def like(expected: str, output: str) -> bool:
    """Whether the output is what a page says, where ``...`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


def examples(root: Path) -> list[tuple[str, str, str]]:
    """Page, command and expected output of every ``console`` block of the tutorial and the how-to guides."""
    found = []
    for page in [root / "docs/tutorial.md", *sorted((root / "docs/how-to").glob("*.md"))]:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, expected = part.partition("\n")
                found.append((page.stem, command, expected))
    return found


@contextmanager
def started(command: str, expected: str, folder: Path, environment: dict[str, str]) -> Iterator[None]:
    """A command that goes on in the background, from when it has printed as many lines as the page shows."""
    with subprocess.Popen(
        shlex.split(command), cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        end = threading.Timer(COMMAND_S, process.kill)  # what hangs ends the reading too
        end.start()
        try:
            output = "".join(itertools.islice(process.stdout, len(expected.strip().splitlines())))
            assert like(expected, output), f"{command}\n{output}"
            yield
        finally:
            end.cancel()
            process.terminate()


def test_the_examples_of_the_documentation_print_what_they_say(root: Path, tmp_path: Path) -> None:
    """In order, in one folder, as a reader types them; ``...`` stands for anything."""
    told = examples(root)
    assert any(page == "tutorial" for page, _, _ in told)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    environment["PORT"] = str(port)
    for name in ("docs", "src", "tests"):
        (tmp_path / name).symlink_to(root / name)
    with ExitStack() as background:
        for page, command, text in told:
            # Each page begins afresh: what a reader did on one is no part of what another page shows.
            environment["XDG_DATA_HOME"] = str(tmp_path / "home" / page)
            expected = text.replace("127.0.0.1:4000", f"127.0.0.1:{port}").replace("port 4000", f"port {port}")
            if command.endswith(" &"):
                background.enter_context(started(command.removesuffix(" &"), expected, tmp_path, dict(environment)))
                continue
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=COMMAND_S,
                check=False,
            )
            output = done.stdout + done.stderr
            assert like(expected, output), f"{page}: {command}\n{output}"


@pytest.mark.parametrize("page", ["tutorial.md", "how-to/scanpy.md"])
def test_the_python_of_a_page_runs_and_prints_what_the_page_says(page: str, root: Path, tmp_path: Path) -> None:
    """Its ``python`` blocks are one program; a ``text`` block right after one is what it prints."""
    pytest.importorskip("pandas")
    blocks = re.findall(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```)?", read(root, page), re.DOTALL | re.MULTILINE)
    expected = "".join(output for _, output in blocks)
    assert expected
    program = tmp_path / "program.py"
    program.write_text("\n".join(code for code, _ in blocks))
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=COMMAND_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert like(expected, done.stdout), done.stdout
