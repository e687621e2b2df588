"""The page's sources: types that cannot drift, small modules, a bundle that is made only when something changed."""

import gzip
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
import web_build

from cellworker import open_experiment
from cellworker.experiment.model import Categorical, StoredTable
from cellworker.local.page.pages import BUNDLE, has_explorer
from cellworker.local.page.results import RESULTS
from cellworker.tasks.catalog import TASKS, example_bodies

MAX_LINES = 300
MAX_BUNDLE = 400_000


def test_the_types_of_the_page_are_made_from_the_structs(root: Path):
    done = subprocess.run([sys.executable, root / "scripts" / "make_web_types.py", "--check"], check=False)
    assert done.returncode == 0, "run 'make web': a struct has changed"


@pytest.fixture(scope="module")
def opened(sample):
    return open_experiment(sample)


def test_every_result_is_what_the_page_takes_it_for(opened):
    table = {"gene": Categorical(np.zeros(1, np.int32), ["CD3D"]), "score": np.array([1.5])}
    opened.experiment.stored = {"markers": StoredTable("uns/markers", "table", table)}
    bodies = example_bodies(opened.experiment, opened.cell_sets)
    bodies["GetTrajectoryAnalysisPseudoTime"]["rootNodes"] = [0]
    for name, kind in RESULTS.items():
        body = {key: value for key, value in bodies[name].items() if key != "name"}
        msgspec.json.decode(opened.run_raw(name, **body), type=kind)


def test_every_task_has_a_result_a_patch_or_a_file():
    for name, task in TASKS.items():
        assert (name in RESULTS) == (task.cacheable and not task.file_result), name


def test_no_module_of_the_page_is_long(root: Path):
    for path in (root / "web" / "src").rglob("*.*"):
        if path.suffix in (".ts", ".tsx", ".css") and path.name != "types.ts":
            assert len(path.read_text().splitlines()) <= MAX_LINES, path


def test_the_lock_holds_versions_and_hashes_and_no_addresses(root: Path):
    lock = (root / "web" / "package-lock.json").read_text()
    packages = msgspec.json.decode(lock.encode())["packages"]
    assert all("integrity" in item and "resolved" not in item for name, item in packages.items() if name)


def test_the_page_calls_only_its_worker(root: Path):
    for path in (root / "web" / "src").rglob("*.ts*"):
        for found in re.findall(r"https?://[^\s\"'`]+", path.read_text()):
            assert found.startswith("http://www.w3.org/"), f"{path.name}: {found}"


@pytest.mark.skipif(not has_explorer(), reason="the explorer is not built (make web)")
def test_the_bundle_is_small_and_carries_its_licences():
    size = sum(len(gzip.compress(path.read_bytes())) for path in BUNDLE.rglob("*") if path.is_file())
    assert size <= MAX_BUNDLE
    notices = (BUNDLE / "licences.txt").read_text()
    for name in ("preact", "@preact/signals", "d3-scale"):
        assert re.search(rf"^{re.escape(name)} [\d.]+ \((MIT|ISC)\)$", notices, re.MULTILINE), name


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Sources without the packages that build them."""
    (tmp_path / "web" / "src").mkdir(parents=True)
    (tmp_path / "web" / "package.json").write_text("{}")
    (tmp_path / "web" / "package-lock.json").write_text("{}")
    (tmp_path / "web" / "src" / "main.ts").write_text("export {};")
    return tmp_path


def _stamp(checkout: Path) -> None:
    bundle = checkout / web_build.BUNDLE
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / web_build.STAMP).write_text(web_build.fingerprint(checkout))


def test_what_did_not_change_is_not_built_again(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    assert not web_build.is_current(checkout)
    _stamp(checkout)
    assert web_build.is_current(checkout)
    monkeypatch.setattr(web_build, "find_node", lambda: pytest.fail("Node was looked for"))
    assert web_build.requirements(checkout) == []
    assert web_build.build(checkout) is None


@pytest.mark.parametrize("change", ["content", "new", "gone", "renamed"])
def test_any_change_of_the_sources_is_noticed(checkout: Path, change: str):
    main = checkout / "web" / "src" / "main.ts"
    _stamp(checkout)
    if change == "content":
        main.write_text("export { };")
    elif change == "new":
        (checkout / "web" / "src" / "more.ts").touch()
    elif change == "gone":
        main.unlink()
    else:
        main.rename(main.with_name("other.ts"))
    assert not web_build.is_current(checkout)


def test_installed_packages_are_no_sources(checkout: Path):
    _stamp(checkout)
    (checkout / "web" / "node_modules" / "x").mkdir(parents=True)
    (checkout / "web" / "node_modules" / "x" / "index.js").touch()
    assert web_build.is_current(checkout)


def test_node_is_asked_of_the_index_only_where_there_is_none(checkout: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(web_build, "find_node", lambda: None)
    assert web_build.requirements(checkout) == [web_build.NODE_WHEEL]
    assert "console" in (web_build.build(checkout) or "")
    monkeypatch.setattr(web_build, "find_node", lambda: (Path("node"), ["npm"]))
    assert web_build.requirements(checkout) == []


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ((18, 20), False),
        ((20, 18), False),
        ((20, 19), True),
        ((21, 7), False),
        ((22, 11), False),
        ((22, 12), True),
        ((24, 0), True),
        (None, False),
    ],
)
def test_old_versions_of_node_are_not_used(version, enough):
    assert web_build._is_new_enough(version) is enough


@pytest.mark.node
def test_without_a_registry_the_package_is_built_without_the_page(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if web_build.find_node() is None:
        pytest.skip("Node.js is not here")
    for name in ("package.json", "package-lock.json", ".npmrc"):
        (tmp_path / "web").mkdir(exist_ok=True)
        (tmp_path / "web" / name).write_bytes((root / "web" / name).read_bytes())
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9/")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    said = web_build.build(tmp_path)
    assert said is not None
    assert said.startswith(
        "The explorer was not built, because the npm registry cannot be reached: '/' offers the console."
    )
    assert not (tmp_path / web_build.BUNDLE).exists()
