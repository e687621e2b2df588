"""Write the tables of the documentation that follow from the code: settings, tasks and their fields, error codes.

``make fmt`` runs it; ``--check`` only says whether a table differs, for the tests.
"""

import ast
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

from cellworker.cli.commands.tasks import task_rows
from cellworker.cli.task_fields import fields_of
from cellworker.errors import ErrorCode
from cellworker.settings import Settings
from cellworker.tasks import catalog

ROOT = Path(__file__).resolve().parent.parent
# Defaults that depend on the machine, in words.
WORDS = {"STORE_DIR": "`~/.cache/cellworker`", "THREADS": "number of processors, at most 8"}


def settings_table() -> str:
    """Return one row for each setting."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for item in fields(Settings):
        name = item.name.upper()
        default = WORDS.get(name) or f"`{'' if item.default is MISSING else item.default}`".replace("``", "none")
        rows.append(f"| `{name}` | {default} | {item.metadata['help']} |")
    return "\n".join(rows)


def tasks_table() -> str:
    """Return one row for each task; our own are marked."""
    rows = ["| task | what it gives |", "|---|---|"]
    rows += [f"| `{row['task']}` | {row['about']}{' (ours)' if row['ours'] else ''} |" for row in task_rows()]
    return "\n".join(rows)


def errors_table() -> str:
    """Return one row for each error code, with its page."""
    documented = _docstrings(ROOT / "src/cellworker/errors.py")
    rows = ["| code | meaning |", "|---|---|"]
    rows += [f"| [`{code}`](errors/{code}.md) | {documented[code.name]} |" for code in ErrorCode]
    return "\n".join(rows)


def fields_tables() -> str:
    """Return, for each task, what it gives and a row for each field of its body."""
    parts = []
    for row in task_rows():
        name = row["task"]
        task = catalog.find(name)
        kind = (
            "a file"
            if task.file_result
            else "cell sets, which the worker sends to the platform"
            if task.patch
            else "JSON"
        )
        lane = "its own lane for long computations" if task.lane == "long" else "the lane for short computations"
        parts.append(f"## {name}\n\n{row['about'][0].upper()}{row['about'][1:]}. Result: {kind}. It runs in {lane}; ")
        parts[-1] += "the platform does not have it; " if task.ours else ""
        parts[-1] += f"the engine's path is `/v0/{task.path}`.\n"
        rows = [
            f"| `{field.name}` | {field.type} | {'required' if field.default is None else f'`{field.default}`'} |"
            for field in fields_of(task.body, quote="`")
        ]
        parts.append("\n".join(["| field | type | default |", "|---|---|---|", *rows]) if rows else "It has no fields.")
        parts.append("")
    return "\n".join(parts).rstrip()


def _docstrings(path: Path) -> dict[str, str]:
    """Return the docstring of each constant of a module's classes, as one line."""
    found, name = {}, ""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            name = ""  # the first text is the class's own docstring
            for part in node.body:
                if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name):
                    name = part.targets[0].id
                elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) and name:
                    found[name] = " ".join(str(part.value.value).split())
    return found


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("docs/settings.md", settings_table),
    "tasks": ("README.md", tasks_table),
    "errors": ("docs/reference/errors.md", errors_table),
    "fields": ("docs/reference/tasks.md", fields_tables),
}


def main(arguments: list[str]) -> int:
    """Rewrite, or with ``--check`` compare, each table between its two marks."""
    drifted = []
    for name, (file, make) in TABLES.items():
        path = ROOT / file
        text = path.read_text(encoding="utf-8")
        found = re.search(rf"(?<=<!-- table: {name} -->\n).*?(?=<!-- end -->)", text, re.DOTALL)
        if found is None:
            print(f"{file}: expected a table named {name}", file=sys.stderr)
            return 2
        new = f"{text[: found.start()]}{make()}\n{text[found.end() :]}"
        if new != text:
            drifted.append(file)
            if "--check" not in arguments:
                path.write_text(new, encoding="utf-8")
    if drifted and "--check" in arguments:
        print(f"out of date: {', '.join(drifted)}; run 'make fmt'", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
