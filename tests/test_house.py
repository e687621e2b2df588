"""The house: what the checkout promises about itself."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import cellworker
from cellworker.cli.main import main

TEXT_SUFFIXES = {
    ".py",
    ".c",
    ".h",
    ".md",
    ".toml",
    ".lock",
    ".yml",
    ".yaml",
    ".cfg",
    ".txt",
    ".json",
    ".mjs",
    ".js",
    "",
}
LONGEST_MODULE = 400
AT_THE_ROOT = {
    ".clang-format",
    ".dockerignore",
    ".gitignore",
    "CHANGELOG.md",
    "CITATION.cff",
    "CONTRIBUTING.md",
    "Dockerfile",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "docker-compose.yaml",
    "hatch_build.py",
    "mkdocs.yml",
    "pyproject.toml",
    "uv.lock",
    "web_build.py",
}
"""What a newcomer sees first: whoever adds a file there adds it here, so that none comes in by accident."""


def files(root: Path) -> list[Path]:
    """Every file of the checkout that git would keep."""
    return [path for path in tracked(root, "--others") if path.is_file() and path.suffix in TEXT_SUFFIXES]


def tracked(root: Path, *more: str) -> list[Path]:
    command = ["git", "ls-files", "--cached", "--exclude-standard", *more]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [root / line for line in listing.stdout.splitlines()]


def make_targets(root: Path) -> set[str]:
    return set(re.findall(r"^([a-z0-9-]+):.*## ", (root / "Makefile").read_text(), re.MULTILINE))


def commands() -> set[str]:
    from cellworker.cli.main import parser_for

    (actions,) = (a for a in parser_for(())._actions if hasattr(a, "choices") and isinstance(a.choices, dict))
    return set(actions.choices)


def test_the_root_holds_what_a_newcomer_should_see(root: Path) -> None:
    assert {path.name for path in tracked(root) if path.parent == root} <= AT_THE_ROOT


def test_the_lock_names_no_index(root: Path) -> None:
    assert "://" not in (root / "uv.lock").read_text()


def test_the_lock_holds_a_hash_for_every_file(root: Path) -> None:
    lock = tomllib.loads((root / "uv.lock").read_text())
    for package in lock["package"]:
        if package["source"] == {"editable": "."}:
            continue
        archives = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert archives, package["name"]
        assert all(archive["hash"].startswith("sha256:") for archive in archives), package["name"]


def test_the_lock_covers_every_dependency(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    locked = {package["name"] for package in tomllib.loads((root / "uv.lock").read_text())["package"]}
    wanted = [*project["project"]["dependencies"]]
    for more in (*project["project"]["optional-dependencies"].values(), *project["dependency-groups"].values()):
        wanted += more
    names = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in wanted}  # type: ignore[index]
    assert names <= locked


def test_the_lock_was_resolved_for_the_bounds_that_are_asked_for(root: Path) -> None:
    """uv reads no bounds from a lock without addresses: one that was edited by hand may hold others."""
    content = tomllib.loads((root / "pyproject.toml").read_text())
    extras = content["project"]["optional-dependencies"]
    asked = {"": content["project"]["dependencies"], **{f"extra {name}": extras[name] for name in extras}}
    asked |= content["dependency-groups"]
    packages = tomllib.loads((root / "uv.lock").read_text())["package"]
    [ours] = [package["metadata"] for package in packages if package["source"] == {"editable": "."}]
    resolved: dict[str, list[tuple[str, str]]] = {name: [] for name in asked}
    for one in ours["requires-dist"]:
        extra = re.search(r"extra == '([\w-]+)'", one.get("marker", ""))
        resolved[f"extra {extra[1]}" if extra else ""].append((one["name"], one["specifier"]))
    for name, ones in ours["requires-dev"].items():
        resolved[name] = [(one["name"], one["specifier"]) for one in ones]
    for name, lines in asked.items():
        bounds = [
            re.fullmatch(r"([\w-]+)(?:\[\w+(?:,\w+)*\])?([<>=.,\d]+)", line.partition(";")[0].strip()) for line in lines
        ]
        assert sorted(resolved[name]) == sorted((bound[1].lower(), bound[2]) for bound in bounds), name  # type: ignore[index]


def test_no_file_names_the_host_of_a_package_index(root: Path) -> None:
    host = re.compile(r"(?:pypi|pythonhosted)\.org|registry\.npmjs\.org|/opt/pypi", re.IGNORECASE)
    naming = [path for path in files(root) if host.search(path.read_text(encoding="utf-8", errors="ignore"))]
    assert [path for path in naming if path != Path(__file__)] == []


def test_the_changelog_has_the_version(root: Path) -> None:
    assert re.search(
        rf"^## \[?{re.escape(cellworker.__version__)}\b", (root / "CHANGELOG.md").read_text(), re.MULTILINE
    )


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {}),
        ({"GITHUB_SERVER_URL": "https://git.example", "GITHUB_REPOSITORY": "a/b"}, {
            "Changelog": "https://git.example/a/b/blob/main/CHANGELOG.md",
            "Documentation": "https://git.example/a/b/tree/main/docs",
            "Issues": "https://git.example/a/b/issues",
            "Repository": "https://git.example/a/b",
        }),
    ],
)  # fmt: skip
def test_a_package_built_by_the_workflow_has_the_addresses_of_its_repository(
    variables: dict[str, str], expected: dict[str, str], root: Path
) -> None:
    code = "import json, os, hatch_build; print(json.dumps(hatch_build.project_urls(os.environ)))"
    others = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env={**others, **variables}, capture_output=True, text=True, check=True
    )
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert "urls" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["metadata"]["hooks"]["custom"] == {"path": "hatch_build.py"}
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_make_target_that_a_document_names_exists(name: str, root: Path) -> None:
    named = set(re.findall(r"`make ([a-z0-9-]+)", (root / name).read_text()))
    named |= set(re.findall(r"^(?:\$ )?(?:\w+=\S+ )*make ([a-z0-9-]+)", (root / name).read_text(), re.MULTILINE))
    assert named
    assert named <= make_targets(root)


def test_the_readme_and_contributing_name_every_make_target(root: Path) -> None:
    text = (root / "README.md").read_text() + (root / "CONTRIBUTING.md").read_text()
    assert {target for target in make_targets(root) - {"help"} if f"make {target}" not in text} == set()


def test_every_command_that_the_readme_names_exists(root: Path) -> None:
    text = (root / "README.md").read_text()
    named = set(re.findall(r"(?:`|\$ |\.venv/bin/)cellworker ([a-z]+)", text, re.MULTILINE))
    assert named
    assert named <= commands()


def test_the_readme_names_every_command(root: Path) -> None:
    text = (root / "README.md").read_text()
    assert {command for command in commands() if f"cellworker {command}" not in text} == set()


@pytest.mark.parametrize("command", sorted(commands()))
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"cellworker {command}" in capsys.readouterr().out


def test_the_tables_of_the_documentation_say_what_the_code_says(root: Path) -> None:
    command = [sys.executable, "scripts/make_tables.py", "--check"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_links_between_documents_lead_somewhere(root: Path) -> None:
    for document in [*root.glob("*.md"), *root.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_a_module_of_more_than_400_lines_says_why(root: Path) -> None:
    for path in [path for path in files(root) if path.suffix in {".py", ".c", ".h"} and "src" in path.parts]:
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > LONGEST_MODULE:
            begin = ast.get_docstring(ast.parse(text)) if path.suffix == ".py" else text[: text.find("*/")]
            assert "one module because" in (begin or "").lower(), (
                f"{path} is long: split it, or say 'One module because ...'"
            )


@pytest.fixture(scope="module")
def parsed(root: Path) -> dict[Path, list[ast.AST]]:
    """What the modules of the package and the scripts that people start consist of; the module itself is the first."""
    paths = [*root.glob("src/**/*.py"), *root.glob("scripts/**/*.py"), *root.glob("*.py")]
    return {path.relative_to(root): list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in paths}


def stray_texts(nodes: list[ast.AST]) -> Iterator[int]:
    """The lines of texts that document nothing: no docstring, and not right after what they would be about."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in nodes:
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            for at, statement in enumerate(body if isinstance(body, list) else []):
                value = statement.value if isinstance(statement, ast.Expr) else None
                if not isinstance(value, ast.Constant) or not isinstance(value.value, str | bytes):
                    continue
                if at == 0 and field == "body" and isinstance(node, documented):
                    continue
                before = body[at - 1] if at else None
                named = [*before.targets] if isinstance(before, ast.Assign) else [getattr(before, "target", None)]
                follows = isinstance(before, ast.Assign | ast.AnnAssign) and statement.lineno == before.end_lineno + 1
                if not follows or any(isinstance(name, ast.Name) and name.id == "__all__" for name in named):
                    yield statement.lineno


def test_no_text_is_left_where_it_documents_nothing(parsed: dict[Path, list[ast.AST]]) -> None:
    assert [f"{path}:{line}" for path, nodes in parsed.items() for line in stray_texts(nodes)] == []


def test_texts_that_document_nothing_are_seen() -> None:
    code = (
        '__all__ = ["x"]\n"a"\nx = 1\n"of x"\ny = 2\n\n"gap"\n\ndef f():\n    "of f"\n    "b"\n    z = 1\n    "of z"\n'
    )
    assert list(stray_texts(list(ast.walk(ast.parse(code))))) == [2, 7, 11]


def used_names(nodes: list[ast.AST]) -> Iterator[str]:
    """Names that code reads or says in texts like ``"module:name"``; not what ``__all__`` lists."""
    no_use: set[ast.AST] = set()
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            no_use.add(node.value)  # a docstring
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            no_use |= set(ast.walk(node.value))
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in no_use:
            yield from re.findall(r"[A-Za-z_]\w*", node.value)


def test_nothing_in_the_package_is_there_for_tests_alone(parsed: dict[Path, list[ast.AST]]) -> None:
    used = {name for nodes in parsed.values() for name in used_names(nodes)}
    alone = [
        f"{path}: {node.name}"
        for path, (module, *_) in parsed.items()
        # What `api` has is for users: the documentation's tests know it.
        if path.parts[:2] == ("src", "cellworker") and path.parts[2] != "api"
        for node in getattr(module, "body", [])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("__")
        if node.name not in used
    ]
    assert alone == [], "only tests call it, or nothing does: remove it, or move it to the tests"


def test_the_median_module_is_a_page_and_not_a_book(root: Path) -> None:
    lengths = sorted(
        path.read_text().count("\n") for path in (root / "src").rglob("*.py") if path.name != "__init__.py"
    )
    assert lengths[len(lengths) // 2] <= 200


def test_ci_does_what_a_person_would_type(root: Path) -> None:
    script = (root / ".ci" / "run").read_text().splitlines()
    words = [line.removeprefix("exec ") for line in script if line.startswith(("make", "exec"))]
    assert words == ["make chromium", "make test", "make test-alone"]
    assert script[-1] == "exec make test-alone"
    assert {line.removeprefix("make ") for line in words} <= make_targets(root)
    # Every further line sets the shell up; nothing runs that a person would not.
    assert [line.split()[0] for line in script if line and line[0] != "#"] == ["set", "cd", "make", "make", "exec"]


def test_the_tests_that_need_the_material_are_run_without_it(root: Path) -> None:
    # Without what a make around this one hands down, as when `make test` runs this.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"
    }
    planned = subprocess.run(
        ["make", "-n", "test-alone"], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    command = planned.stdout.splitlines()[-1].split()
    assert command[-3:] == ["-m", "shared", "--shared=.hidden"]
    assert not (root / ".hidden").exists()
    done = subprocess.run(
        [sys.executable, *command[1:], "tests/protocol"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.split()[0].strip("s") == ""  # pytest writes an s for each test that skips
    assert "the reference material .hidden is not here" in done.stdout


def test_the_licence_is_mit(root: Path) -> None:
    assert (root / "LICENSE").read_text().startswith("MIT License")
