"""Write the TypeScript types of the explorer from the Python structs: requests, results, facts.

``python scripts/make_web_types.py`` writes ``web/src/wire/types.ts``; ``--check`` only says whether it is up to date.
"""

import sys
from pathlib import Path
from typing import Any

from msgspec import inspect

from cellworker.local.page.facts import ExplorerFacts
from cellworker.local.page.results import RESULTS
from cellworker.tasks.catalog import TASKS

__all__ = ["main", "web_types"]

TARGET = Path(__file__).resolve().parent.parent / "web" / "src" / "wire" / "types.ts"
_HEAD = "// Made by scripts/make_web_types.py from the Python structs: change those, and run it again.\n"
_SIMPLE: dict[type[inspect.Type], str] = {
    inspect.AnyType: "unknown",
    inspect.NoneType: "null",
    inspect.BoolType: "boolean",
    inspect.IntType: "number",
    inspect.FloatType: "number",
    inspect.StrType: "string",
}


class _Writer:
    """Turns types into text, and collects each struct that it meets."""

    def __init__(self) -> None:
        self.interfaces: dict[str, str] = {}

    def text(self, kind: inspect.Type) -> str:
        """Return a type as TypeScript."""
        match kind:
            case inspect.Metadata():
                found = self.text(kind.type)
            case inspect.LiteralType():
                found = " | ".join(f'"{value}"' for value in kind.values)
            case inspect.ListType():
                item = self.text(kind.item_type)
                found = f"({item})[]" if " | " in item else f"{item}[]"
            case inspect.DictType():
                found = f"Record<{self.text(kind.key_type)}, {self.text(kind.value_type)}>"
            case inspect.UnionType():
                found = " | ".join(dict.fromkeys(self.text(item) for item in kind.types))
            case inspect.StructType():
                found = self.struct(kind)
            case _:
                found = _SIMPLE[type(kind)]
        return found

    def struct(self, kind: inspect.StructType) -> str:
        """Write a struct's interface, and return its name."""
        name = kind.cls.__name__
        if name not in self.interfaces:
            self.interfaces[name] = ""  # a struct may contain itself
            lines = [
                f"  {item.encode_name}{'' if item.required else '?'}: {self.text(item.type)};" for item in kind.fields
            ]
            self.interfaces[name] = "\n".join([f"export interface {name} {{", *lines, "}"])
        return name


def web_types() -> str:
    """Return the content of the file."""
    writer = _Writer()

    def of(kind: Any) -> str:  # noqa: ANN401 - any type
        return writer.text(inspect.type_info(kind))

    facts = of(ExplorerFacts)
    bodies = [f"  {name}: {of(task.body)};" for name, task in TASKS.items()]
    results = [f"  {name}: {of(RESULTS[name]) if name in RESULTS else 'null'};" for name in TASKS]
    patching = [f'"{name}"' for name, task in TASKS.items() if not task.cacheable]
    files = [f'"{name}"' for name, task in TASKS.items() if task.file_result]
    assert facts == "ExplorerFacts"
    return "\n".join(
        [
            _HEAD,
            *(f"{text}\n" for text in writer.interfaces.values()),
            "/** The body of each task, without its name. */",
            "export interface Bodies {",
            *bodies,
            "}",
            "",
            "/** The result of each task; null where it changes cell sets or answers with a file. */",
            "export interface Results {",
            *results,
            "}",
            "",
            "export type TaskName = keyof Bodies;",
            "",
            "/** Tasks whose only effect is a change of the cell sets. */",
            f"export const PATCHING_TASKS: readonly TaskName[] = [{', '.join(patching)}];",
            "",
            "/** Tasks that answer with a file. */",
            f"export const FILE_TASKS: readonly TaskName[] = [{', '.join(files)}];",
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """Write the file, or check it."""
    content = web_types()
    if "--check" in arguments:
        return 0 if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == content else 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
