"""Run the tutorials of docs/tutorials and store their output: ``make notebooks``.

    .venv/bin/python scripts/run_notebooks.py [NAME...]

The tests run them by the same function, and compare the output with the stored one.
"""

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "tutorials"
TIMEOUT_S = 300
_WIDGET = "application/vnd.jupyter.widget-view+json"


def executed(path: Path, environment: dict[str, str] | None = None) -> Any:  # noqa: ANN401 nbformat has no types
    """Return the notebook at `path` with the outputs of a kernel of its own.

    Parameters
    ----------
    path
        An ``.ipynb``.
    environment
        Of the kernel; by default this process's.

    Raises
    ------
    nbclient.exceptions.CellExecutionError
        If a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    given = {**os.environ, **(environment or {}), "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    given["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), given.get("PATH", "")])
    NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3").execute(env=given)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # clock times, which differ from run to run
        if cell.cell_type == "code":  # bars are gone when they are done
            cell.outputs = [out for out in cell.outputs if _WIDGET not in out.get("data", {})]
    notebook.metadata.pop("widgets", None)
    return notebook


def printed(notebook: Any) -> list[str]:  # noqa: ANN401
    """Return the printed output of each code cell."""
    return [
        "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def main() -> int:
    """Run the named notebooks, or all."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if not sys.argv[1:] or path.stem in sys.argv[1:]:
            nbformat.write(executed(path), path)  # type: ignore[no-untyped-call]
            print(path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
