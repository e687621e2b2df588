"""One sample's counts from a tree of AnnData, where several files are joined."""

from pathlib import Path
from typing import Final

from cellworker.formats.anndata.elements import table_of
from cellworker.formats.anndata.inventory import attributes_of, elements_of
from cellworker.formats.anndata.looking import sample_of
from cellworker.formats.anndata.matrices import UnreadMatrix, matrix_of
from cellworker.formats.common.ledger import Conversion, Ledger
from cellworker.formats.common.matrices.value_evidence import gather_with_base
from cellworker.formats.common.matrices.value_kinds import decide
from cellworker.formats.foreign.features import only_genes
from cellworker.formats.foreign.shown import ForeignFile, Reading, SampleMatrix, refused

__all__ = ["matrix_of_tree"]

_PLACES: Final = (("layers/counts", "var"), ("X", "var"), ("raw/X", "raw/var"))
"""Places of counts, the surest first."""
_IDS: Final = ("gene_ids", "gene_id", "ensembl_id")


def matrix_of_tree(name: str, shown: ForeignFile, path: Path, reading: Reading) -> SampleMatrix:
    """Read the counts, or where none of the matrices holds counts, X, for the caller to refuse in words.

    Raises
    ------
    WorkerError
        ``EXPERIMENT_UNREADABLE`` when there is no matrix with tables of its size.
    """
    root = shown.root
    obs = table_of(root.get("obs"))
    if obs is None:
        raise refused(path, "it has no table of cells", "write the file again")
    fitting: list[tuple[str, str, UnreadMatrix]] = []
    for place, frame in _PLACES:
        matrix, var = matrix_of(root.get(place)), table_of(root.get(frame))
        if matrix is not None and var is not None and matrix.shape == (len(obs.index), len(var.index)):
            fitting.append((place, frame, matrix))
    if not fitting:
        raise refused(path, "it has no matrix of cells x genes", "write the file again")
    place, frame, chosen = next((item for item in fitting if _holds_counts(item[2])), fitting[-1])
    table = table_of(root.get(frame))
    assert table is not None
    named = next((column for column in _IDS if (texts := table.texts(column)) is not None and all(texts)), "")
    ids = (table.texts(named) or []) if named else []
    genes = {column: texts for column in ("feature_types", "genome") if (texts := table.texts(column)) is not None}
    cells = {column: found for column in obs.columns if (found := obs.get(column)) is not None}
    told = _told(
        shown, place, frame, {"obs": set(obs.columns) - set(cells), frame: set(table.columns) - {named, *genes}}
    )
    values = chosen.read(reading.scratch, lambda _: None)
    out = SampleMatrix(
        name, "", shown.writer or "anndata", values, list(obs.index), list(table.index), ids, genes, cells, told
    )
    return only_genes(out, reading)


def _told(shown: ForeignFile, place: str, frame: str, left_out: dict[str, set[str]]) -> Conversion:
    """Settle every element: the matrix, the tables' columns except those left out; all else is lost."""
    ledger = Ledger(elements_of(shown.root), attributes_of(shown.root))
    for element in ledger.elements():
        where = "/".join(element.path)
        table = next((name for name in ("obs", frame) if where.startswith(f"{name}/")), None)
        if where == place:
            ledger.rename(element.path, "X")
        elif table is not None and element.path[len(table.split("/"))] not in left_out[table]:
            ledger.keep(element.path)
        else:
            ledger.lose(element.path, "samples are put together by their counts and the columns of their cells")
    more = ledger.close()
    before = shown.told
    return Conversion([*before.kept, *more.kept], [*before.renamed, *more.renamed], [*before.lost, *more.lost])


def _holds_counts(matrix: UnreadMatrix) -> bool:
    some, complete = sample_of(matrix)
    return decide(gather_with_base(some, complete=complete), "").kind == "counts"
