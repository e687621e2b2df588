"""What tests may do: leave nothing behind, and see the reference material only where they are marked."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = """
import sys
from pathlib import Path

import pytest

sys.path.insert(0, {tests!r})
import leftovers
import reference_material

leftovers.GRACE_S = 0.3


@pytest.fixture(scope="session", autouse=True)
def of_all():
    yield


def pytest_addoption(parser):
    parser.addoption("--shared", type=Path)


def pytest_configure(config):
    config.addinivalue_line("markers", "shared: needs the reference material")
    config.pluginmanager.register(reference_material.Plugin(config.getoption("--shared"), Path({usual!r})))
    found = leftovers.Leftovers(Path({checkout!r}))
    found.watch(Path({watched!r}))
    config.pluginmanager.register(found)
"""


class Suite:
    """A little suite of its own, run by a pytest of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.material, self.watched, checkout = folder / "shared", folder / "watched", folder / "checkout"
        for place in (self.material, self.watched, checkout, folder / "suite"):
            place.mkdir()
        (self.material / "contract.md").write_text("the contract")
        names = {
            "tests": str(Path(__file__).parent),
            "usual": str(self.material),
            "checkout": str(checkout),
            "watched": str(self.watched),
        }
        (folder / "suite" / "conftest.py").write_text(CONFTEST.format(**names))

    def run(self, text: str, shared: Path | None = None) -> tuple[int, str]:
        """Return the exit status and what pytest printed."""
        (self.folder / "suite" / "test_it.py").write_text(text.format(material=self.material, watched=self.watched))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rA",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
        ]
        command += ["--rootdir", str(self.folder), "-c", os.devnull, f"--shared={shared or self.material}"]
        alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # the plugins of others take longest to start
        done = subprocess.run(
            [*command, str(self.folder / "suite")],
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env=alone,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def test_a_marked_test_skips_by_name_where_the_material_is_not(suite: Suite, tmp_path: Path) -> None:
    text = "import pytest\n@pytest.mark.shared\ndef test_it():\n    open('{material}/contract.md').close()\n"
    assert suite.run(text)[0] == 0
    status, printed = suite.run(text, tmp_path / "absent")
    assert status == 0
    assert "1 skipped" in printed
    assert "the reference material absent is not here" in printed


WAYS_TO_READ = (
    "open('{material}/contract.md').close()",
    "os.listdir('{material}')",
    "list(pathlib.Path('{material}').rglob('*'))",
)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_test_that_forgets_the_mark_fails_with_and_without_the_material(
    suite: Suite, tmp_path: Path, hidden: bool
) -> None:
    tests = [f"def test_{number}():\n    {body}\n" for number, body in enumerate(WAYS_TO_READ)]
    text = "import os, pathlib\ndef test_innocent(): pass\n" + "".join(tests)
    status, printed = suite.run(text, tmp_path / "absent" if hidden else None)
    assert status == 1
    assert f"4 passed, {len(tests)} errors" in printed
    for number in range(len(tests)):
        assert f"test_{number} opens {suite.material}" in printed
    assert "mark it with pytest.mark.shared" in printed


def test_a_test_that_takes_the_fixture_without_the_mark_fails(suite: Suite) -> None:
    text = "import pytest\n@pytest.fixture\ndef shared(): pass\ndef test_it(shared): pass\n"
    status, printed = suite.run(text)
    assert status == 1
    assert "test_it uses the reference material: mark it with pytest.mark.shared" in printed


def test_a_module_that_reads_the_material_when_it_is_imported_is_refused(suite: Suite) -> None:
    status, printed = suite.run("TEXT = open('{material}/contract.md').close()\ndef test_it(): pass\n")
    assert status == 4
    assert "a test module opens" in printed


LEFT = {
    "subprocess.Popen(['sleep', '77'])": "a process (sleeping): sleep 77",
    "subprocess.Popen(['sh', '-c', 'sleep 78 &']).wait()": "a process (sleeping): sleep 78",
    "socket.socket()": "an open descriptor: socket:",
    "open('{watched}/../contents', 'w')": "an open descriptor: ",
    "os.pipe()": "an open descriptor: pipe:",
    "open('{watched}/some.lock', 'w').close()": "a file: ",
    "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 40, 1 << 41))": "the limit RLIMIT_FSIZE at (",
}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_a_test_leaves_is_found_and_the_guilty_test_is_named(suite: Suite) -> None:
    tests = [
        f"def test_guilty_{number}(): KEPT.append({body})\ndef test_innocent_{number}(): pass\n"
        for number, body in enumerate(LEFT)
    ]
    try:
        status, printed = suite.run("import os, resource, socket, subprocess\nKEPT = []\n" + "".join(tests))
    finally:
        for pid in _pids_of("sleep 77", "sleep 78"):
            os.kill(pid, signal.SIGKILL)
    assert status == 1
    assert f"{2 * len(tests)} passed, {len(tests)} errors" in printed
    for number, words in enumerate(LEFT.values()):
        assert f"test_guilty_{number} leaves {words}" in printed
    assert "innocent_0 leaves" not in printed


KEPT = """
import os, pytest
@pytest.fixture(scope="{scope}")
def kept():
    made = list(os.pipe())
    yield made
    for end in made:
        os.close(end)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_a_wider_fixture_holds_is_its_own_until_it_ends(suite: Suite) -> None:
    text = (
        KEPT.format(scope="module")
        + """
def test_more(kept): kept.extend(os.pipe())
def test_forgotten(kept): os.pipe()
"""
    )
    status, printed = suite.run(text)
    assert status == 1
    assert "test_forgotten leaves an open descriptor" in printed
    assert "test_more leaves" not in printed


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_who_closed_a_file_is_not_blamed_for_the_next_who_opens_it(suite: Suite) -> None:
    text = (
        KEPT.format(scope="session")
        + """
NUMBERS = []
def test_opens(kept): NUMBERS.append(os.open(__file__, os.O_RDONLY))
def test_closes(kept): os.close(NUMBERS[0])
def test_forgets(): assert os.open(__file__, os.O_RDONLY) == NUMBERS[0]
"""
    )
    status, printed = suite.run(text)
    assert status == 1
    assert "test_forgets leaves an open descriptor" in printed
    assert "test_opens leaves" not in printed


def _pids_of(*lines: str) -> list[int]:
    import psutil

    return [one.pid for one in psutil.process_iter(["cmdline"]) if " ".join(one.info["cmdline"] or []) in lines]
