"""Write the tables of the documentation that the code knows better: settings, tasks and their fields, error codes.

``make fmt`` runs it; ``--check`` only says whether a table has drifted, for the tests.
"""

import ast
import json
import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import msgspec

from cellworker.cli.commands.tasks import task_rows
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
    """Return one row for each task of the platform."""
    rows = ["| task | what it gives |", "|---|---|"]
    rows += [f"| `{row['task']}` | {row['about']} |" for row in task_rows()]
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
        parts[-1] += f"the engine's path is `/v0/{task.path}`.\n"
        rows = _field_rows(msgspec.inspect.type_info(task.body))
        parts.append("\n".join(["| field | type | default |", "|---|---|---|", *rows]) if rows else "It has no fields.")
        parts.append("")
    return "\n".join(parts).rstrip()


def _field_rows(kind: Any, prefix: str = "") -> list[str]:  # noqa: ANN401
    rows = []
    for item in kind.fields:
        name = f"{prefix}{item.encode_name}"
        default = "required" if item.required else f"`{_default(item)}`"
        rows.append(f"| `{name}` | {_type_words(item.type)} | {default} |")
        for option in getattr(item.type, "types", [item.type]):
            nested = getattr(option, "item_type", option)
            if isinstance(nested, msgspec.inspect.StructType):
                rows += _field_rows(nested, f"{name}[]." if nested is not option else f"{name}.")
    return rows


def _default(item: Any) -> str:  # noqa: ANN401
    if item.default is not msgspec.NODEFAULT:
        return json.dumps(item.default)
    made = item.default_factory() if item.default_factory is not msgspec.NODEFAULT else None
    return json.dumps(made if isinstance(made, list | dict | type(None)) else msgspec.to_builtins(made))


def _type_words(kind: Any) -> str:  # noqa: ANN401
    """Say a type in the words of JSON, with its limits."""
    match kind:
        case msgspec.inspect.UnionType(types=types):
            return " or ".join(dict.fromkeys(_type_words(option) for option in types))
        case msgspec.inspect.ListType(item_type=item):
            return f"array of {_type_words(item)}"
        case msgspec.inspect.LiteralType(values=values):
            return ", ".join(f"`{value}`" for value in values)
        case msgspec.inspect.IntType(ge=least):
            return "whole number" if least is None else f"whole number from {least}"
        case msgspec.inspect.FloatType(ge=least):
            return "number" if least is None else f"number from {least:g}"
    words = {
        "Str": "text",
        "Bool": "true or false",
        "None": "null",
        "Dict": "object",
        "Struct": "object",
        "Any": "anything",
    }
    return words[type(kind).__name__.removesuffix("Type")]


def _docstrings(path: Path) -> dict[str, str]:
    """Return what is written below each constant of a module's classes, as one line."""
    found, name = {}, ""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            name = ""  # the text that comes first is the class's own
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
