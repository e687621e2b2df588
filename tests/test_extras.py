"""What a door imports comes with the project or with the door's extra."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

DOORS = {
    "cellworker": (),
    "cellworker.api": ("notebook",),
    "cellworker.api.pl": ("plot",),
    "cellworker.api.anndata.cluster": ("dask",),
    "cellworker.cli.output": ("notebook",),
    "cellworker.cli.commands.method": ("notebook",),
    "cellworker.cli.commands.gateway": ("platform",),
    "cellworker.analysis.one_blas_thread": ("notebook", "dask", "prepare"),
    "cellworker.engine.annotators.cassia_child": ("cassia",),
    "cellworker.formats.common.provenance": ("notebook",),
    "cellworker.gateway": ("platform",),
    "cellworker.gateway.observe.tracing_otel": ("tracing",),
    "cellworker.preparing": ("prepare",),
    "cellworker.protocol.emitter": ("platform",),
}
"""Modules, the extra or extras that each has to find all that it imports in; the longest name counts."""
ASKED_FOR = {("cellworker.api.tables", "polars")}
"""Who wants tables of polars has it, or is told to install it."""


def name_of(requirement: str) -> str:
    """The distribution that a requirement names, normalised."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", requirement)[0]).lower()


def with_what_they_need(names: set[str]) -> set[str]:
    """The distributions and those that they ask for themselves, in any version of the lock."""
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    return names | {one["name"] for each in locked if each["name"] in names for one in each.get("dependencies", ())}


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of the packages that run imports, wherever they stand; not those for types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (one.name.partition(".")[0] for one in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]
        yield from imported(node)


def modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(SOURCES.rglob("*.py"))
    }


@pytest.mark.parametrize("door", DOORS)
def test_a_door_names_a_module_and_its_extras(door):
    assert door in modules()
    assert set(DOORS[door]) <= set(PROJECT["optional-dependencies"])


def test_what_is_imported_is_declared_by_the_project_or_by_each_extra_of_the_door():
    of_import = packages_distributions()
    core = {name_of(one) for one in PROJECT["dependencies"]}
    extras = {"the dependencies": [], **PROJECT["optional-dependencies"]}
    declared = {extra: with_what_they_need(core | {name_of(one) for one in listed}) for extra, listed in extras.items()}
    missing = []
    for module, path in modules().items():
        door = max((door for door in DOORS if f"{module}.".startswith(f"{door}.")), key=len)
        for package in sorted(set(imported(ast.parse(path.read_text())))):
            if package in sys.stdlib_module_names or package == "cellworker" or (module, package) in ASKED_FOR:
                continue
            brings = {name_of(one) for one in of_import.get(package, [package])}
            missing += [
                f"{module} imports {package}, which is not in {extra}"
                for extra in DOORS[door] or ("the dependencies",)
                if not brings & declared[extra]
            ]
    assert not missing
