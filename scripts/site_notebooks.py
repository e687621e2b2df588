"""MkDocs hooks: the notebooks of docs/tutorials become pages with their output.

Nothing is run or fetched: ``make notebooks`` stores the outputs in the files.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

__all__ = ["on_files", "on_page_markdown"]

_ABOUT = "\n\n*The notebook of this page: [{name}]({name}). The tests run it.*\n"


def on_files(files: Files, /, *, config: Any) -> Files:  # noqa: ANN401
    """Add a page for each notebook, and its pictures."""
    exporter = MarkdownExporter()  # type: ignore[no-untyped-call]
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        path, folder = Path(str(notebook.abs_src_path)), Path(notebook.src_uri).parent
        about = {"unique_key": path.stem, "output_files_dir": path.stem}
        text, resources = exporter.from_filename(str(path), about)
        page = (folder / path.stem).with_suffix(".md").as_posix()
        files.append(File.generated(config, page, content=text + _ABOUT.format(name=path.name)))
        for name, content in resources["outputs"].items():
            files.append(File.generated(config, (folder / name).as_posix(), content=content))
    return files


def on_page_markdown(markdown: str, /, **_: Any) -> str:  # noqa: ANN401
    """Rewrite links to notebooks, which are files in the repository, to their pages."""
    return re.sub(r"(\]\([^)]*tutorials/\w+)\.ipynb\)", r"\1.md)", markdown)
