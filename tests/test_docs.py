"""The documentation: nothing undocumented, no page that does not build, no example that does not run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cellworker.errors import ErrorCode
from cellworker.protocol.events import Status
from cellworker.tasks import catalog

SITE_S = 120


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
    from cellworker.gateway.metrics import Metrics

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


def test_the_site_builds_without_a_warning(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "DISABLE_MKDOCS_2_WARNING": "true", "NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=SITE_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "index.html").is_file()


def test_the_site_asks_nothing_of_other_hosts(root: Path, tmp_path: Path) -> None:
    assert "font: false" in (root / "mkdocs.yml").read_text()


def examples(root: Path) -> list[tuple[str, str, str]]:
    """Page, command and expected output of every ``console`` block of the tutorial and the how-to guides."""
    found = []
    for page in [root / "docs/tutorial.md", *sorted((root / "docs/how-to").glob("*.md"))]:
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, expected = part.partition("\n")
                found.append((page.stem, command, expected))
    return found


def test_the_examples_of_the_documentation_print_what_they_say(root: Path, tmp_path: Path) -> None:
    """In order, in one folder, as a reader types them; ``...`` stands for anything."""
    told = examples(root)
    assert any(page == "tutorial" for page, _, _ in told)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "120"}
    (tmp_path / "docs").symlink_to(root / "docs")
    (tmp_path / "tests").symlink_to(root / "tests")
    for page, command, expected in told:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        output = (done.stdout + done.stderr).strip()
        pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
        assert re.fullmatch(pattern, output, re.DOTALL), f"{page}: {command}\n{output}"


def test_the_python_of_the_tutorial_runs(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("pandas")
    blocks = re.findall(r"^```python\n(.*?)^```", read(root, "tutorial.md"), re.DOTALL | re.MULTILINE)
    assert blocks
    program = tmp_path / "tutorial.py"
    program.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert shlex.split(done.stdout)
