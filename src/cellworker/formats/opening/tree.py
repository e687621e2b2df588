"""Opens the source file of an experiment again, as a tree of AnnData."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from cellworker.errors import ErrorCode, WorkerError
from cellworker.formats.anndata.containers.opening import open_anndata
from cellworker.formats.anndata.containers.tree import TreeGroup
from cellworker.formats.common.findings import Findings
from cellworker.formats.common.kinds import FOREIGN
from cellworker.formats.common.ledger import Conversion
from cellworker.formats.common.scratch import Scratch
from cellworker.formats.foreign.showing import show
from cellworker.formats.foreign.shown import Reading
from cellworker.formats.opening.recognising import kind_of

__all__ = ["is_foreign", "open_tree"]

_ANY_SIZE: Final = 1 << 50
"""The user's limit was checked when the experiment was opened."""


def is_foreign(extra: Mapping[str, Any]) -> bool:
    """Tell by an experiment's ``extra`` whether its file is shown as AnnData, and is none."""
    shown = extra.get("shown")
    return isinstance(shown, Mapping) and shown.get("kind") in FOREIGN


@contextmanager
def open_tree(
    source: Path, extra: Mapping[str, Any], threads: int, spool: Path
) -> Iterator[tuple[TreeGroup, Conversion]]:
    """Open a file that was opened as an experiment before.

    Parameters
    ----------
    source
        The file.
    extra
        The experiment's ``extra``, which says how the file was read.
    spool
        A folder in which a folder for large arrays may be made; it is removed at the end.

    Returns
    -------
    The tree, and what became of the file's own elements on the way into it.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_OUT_OF_DATE`` when it can no longer be read.
    """
    if not is_foreign(extra):
        with open_anndata(source, _ANY_SIZE, threads) as root:
            yield root, Conversion()
        return
    how: Mapping[str, str] = extra["shown"]
    with TemporaryDirectory(dir=spool, prefix=".spool-") as folder:
        reading = Reading(
            Scratch(Path(folder)),
            Findings(),
            _ANY_SIZE,
            threads,
            str(how.get("part", "")),
            str(how.get("orientation", "")),
        )
        with show(str(how["kind"]), source, reading, lambda path: kind_of(path).name) as shown:
            if shown is None:
                raise WorkerError(
                    ErrorCode.EXPERIMENT_OUT_OF_DATE,
                    f"{source.name} changed since the experiment was opened: open it again.",
                )
            yield shown.root, shown.told
