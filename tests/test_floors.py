"""The house stands on its floors: imports go down, never up."""

import ast
import subprocess
import sys
from pathlib import Path

import grimp
import pytest
from importlinter import api as linter

MAX_MODULES = 20  # in one folder: what a newcomer takes in at one look


def _listed(configuration: dict) -> set[str]:
    (contract,) = (c for c in configuration["contracts_options"] if c["name"] == "floors of design.md")
    return {name.strip(" ()") for layer in contract["layers"] for name in layer.replace(":", "|").split("|")}


@pytest.fixture(scope="module")
def configuration(root: Path, own_environment: None) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        return linter.read_configuration()


def test_no_module_imports_from_a_floor_above_its_own(root: Path) -> None:
    # In a process of its own, because import-linter silences the loggers of whoever calls it.
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_every_module_lives_on_a_floor(configuration: dict) -> None:
    floors = _listed(configuration)
    modules = grimp.build_graph("cellworker", cache_dir=None).find_children("cellworker")
    homeless = {module for module in modules if module not in floors}
    assert not homeless, "list them in [[tool.importlinter.contracts]] of pyproject.toml"


def test_nothing_imports_the_command_line() -> None:
    graph = grimp.build_graph("cellworker", cache_dir=None)
    for module in graph.modules:
        if module == "cellworker.cli" or module.startswith("cellworker.cli."):
            importers = graph.find_modules_that_directly_import(module)
            assert all(importer.startswith("cellworker.cli") for importer in importers), module


def test_analysis_knows_arrays_and_nothing_of_files_or_the_network() -> None:
    strangers = {"pathlib", "socket", "http", "urllib", "asyncio", "aiohttp", "h5py", "msgspec", "orjson", "tempfile"}
    graph = grimp.build_graph("cellworker", include_external_packages=True, cache_dir=None)
    for module in graph.find_descendants("cellworker.analysis"):
        assert not strangers & graph.find_modules_directly_imported_by(module), module


def test_nothing_in_the_package_can_run_code_of_a_file(root: Path) -> None:
    forbidden = {"eval", "exec", "compile", "__import__"}
    for path in (root / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in forbidden, f"{path}:{node.lineno} calls {node.func.id}"
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {"pickle", "marshal", "shelve", "dill"} & set(names), f"{path}:{node.lineno}"


def test_no_folder_holds_more_than_a_page_of_modules(root: Path) -> None:
    for folder in {path.parent for path in (root / "src" / "cellworker").rglob("*.py")}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MAX_MODULES, (
            f"{folder.name} has {len(modules)} modules: give its ideas rooms of their own"
        )
