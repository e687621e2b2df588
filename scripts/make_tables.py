"""Write the tables of the documentation that the code knows better: settings and tasks.

``make fmt`` runs it; ``--check`` only says whether a table has drifted, for the tests.
"""

import re
import sys
from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path

from cellworker.settings import Settings

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
    from cellworker.cli_tasks import task_rows  # noqa: PLC0415

    rows = ["| task | what it gives |", "|---|---|"]
    rows += [f"| `{row['task']}` | {row['about']} |" for row in task_rows()]
    return "\n".join(rows)


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "settings": ("docs/settings.md", settings_table),
    "tasks": ("README.md", tasks_table),
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
