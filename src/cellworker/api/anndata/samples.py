"""Comparison of groups of samples: counts summed per sample, then limma-voom."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.pseudobulk import two_group_test
from cellworker.analysis.statistics.sums import count_sums
from cellworker.api.anndata.arguments import categories_of, default_threads, invalid, one_of, target, whole_number
from cellworker.api.anndata.checked import checked
from cellworker.api.anndata.cluster import is_lazy
from cellworker.api.anndata.lazy import AnyMatrix, LazyMatrix
from cellworker.api.anndata.matrix import Matrix, chosen_values, matrix_of
from cellworker.api.anndata.ranks import ranked_table
from cellworker.api.progress import with_bar
from cellworker.errors import ErrorCode, WorkerError

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import Index

__all__ = ["pseudobulk", "sample_sums"]

_MIN_CELLS = 10
_COUNTS = "counts"


@with_bar("Samples")
@checked
def pseudobulk(
    adata: "AnnData",
    groupby: str,
    *,
    sample: str,
    group: str,
    reference: str = "rest",
    layer: str | None = None,
    min_cells: int = _MIN_CELLS,
    key_added: str = "pseudobulk",
    threads: int | None = None,
    copy: bool = False,
) -> "AnnData | None":
    """Compare two groups of samples: raw counts are summed per sample and tested by limma-voom with quality weights.

    To compare within one cell type, pass a view: ``cw.tl.pseudobulk(adata[adata.obs.cell_type == "B"], ...,
    copy=True)``.

    Parameters
    ----------
    adata
        With raw counts.
    groupby
        A column of ``obs`` that names the groups, for example a treatment; the same for all cells of a sample.
    sample
        The column of ``obs`` that names each cell's sample.
    group
        The label that is compared,
    reference
        and that which it is compared with; ``"rest"``: all others.
    layer
        Where the raw counts are; by default ``layers["counts"]``, else ``X``.
    min_cells
        Samples with fewer cells are left out.
    key_added
        The key of ``uns``.
    threads
        By default one for each processor; the result does not depend on it.
    copy
        Return a copy with the results instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes ``uns[key]`` in the layout of `rank_genes_groups`, so that ``scanpy.get.rank_genes_groups_df(adata,
        group, key=key)`` reads it; ``scores`` are signed -log10 p, which order the genes and never underflow. Genes
        with too few counts are left out.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument; ``DESIGN_NOT_TESTABLE`` where a group has too few samples.
    """
    data, threads = target(adata, copy=copy), default_threads(threads)
    codes, known = categories_of(data, "groupby", groupby)
    samples, names = categories_of(data, "sample", sample)
    one_of("group", group, known)
    if reference != "rest":
        one_of("reference", reference, known)
    if reference == group:
        raise invalid("reference", f"expected another label than group ({group!r})")
    if layer is None and _COUNTS in data.layers:
        layer = _COUNTS
    chosen = chosen_values(data, layer=layer, use_raw=False)
    base = codes == known.index(group)
    other = (codes >= 0) & ~base if reference == "rest" else codes == known.index(reference)
    taken = (base | other) & (samples >= 0)
    sizes = np.bincount(samples[taken], minlength=len(names))
    taken &= (sizes >= max(1, whole_number("min_cells", min_cells, 0)))[np.maximum(samples, 0)]
    both = np.intersect1d(samples[taken & base], samples[taken & other])
    if len(both):
        shown = names[int(both[0])]
        raise invalid("groupby", f"sample {shown!r} has cells on both sides; {groupby!r} must not vary within a sample")
    present = np.unique(samples[taken])
    in_base = np.isin(present, samples[taken & base])
    if not in_base.any() or in_base.all():
        message = f"no sample of {group!r} or of what it is compared with has {min_cells} cells; lower min_cells"
        raise WorkerError(ErrorCode.DESIGN_NOT_TESTABLE, f"group: {message}.")
    code = np.where(taken, np.searchsorted(present, samples), -1)
    sums = sample_sums(chosen, code, len(present), threads)
    try:
        found = two_group_test(sums.T.copy(), in_base)
    except ValueError as error:
        raise WorkerError(ErrorCode.DESIGN_NOT_TESTABLE, f"group: samples cannot be compared: {error}.") from None
    if found.p_values is None:
        message = "one sample against one cannot be tested; more samples are needed"
        raise WorkerError(ErrorCode.DESIGN_NOT_TESTABLE, f"sample: {message}.")
    kept = found.kept
    p_values, fold = found.p_values.take(kept), found.log_fold_change[kept]
    genes = np.asarray(chosen[2], object)[kept]
    order = np.argsort(p_values.key, kind="stable")
    scores = np.sign(fold) * -p_values.log10
    out = ranked_table(
        genes[order], [group], [(scores[order], fold[order], p_values.take(order))], n_genes=None, by_abs=True,
        corr_method="benjamini-hochberg",
    )  # fmt: skip
    out["params"] = {
        "groupby": groupby, "reference": reference, "method": "limma-voom", "corr_method": "benjamini-hochberg",
        "use_raw": False, "layer": layer, "sample": sample, "samples": [names[i] for i in present.tolist()],
    }  # fmt: skip
    data.uns[key_added] = out
    return data if copy else None


def sample_sums(
    chosen: tuple[Any, str, "Index"], code: NDArray[np.integer[Any]], n_samples: int, threads: int
) -> NDArray[np.float64]:
    """Sum the raw counts of each sample; sparse, dense, backed or lazy, of any numeric type.

    Parameters
    ----------
    chosen
        What `chosen_values` returns.
    code
        Sample of each cell, below 0 for a cell that takes no part, ``(n_cells,)``.
    n_samples
        Number of samples.
    threads
        Threads to use; the result does not depend on it.

    Returns
    -------
    numpy.ndarray
        float64 ``(n_samples, n_genes)``.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the matrix where any of its values, of whatever cell, is no count.
    """
    from scipy.sparse import issparse  # noqa: PLC0415 heavy

    values, name, names = chosen
    if is_lazy(values):
        lazy = LazyMatrix(values, name, names)
        matrix: AnyMatrix = lazy
        sound = all(lazy.by_cells(_are_counts))
    else:
        if hasattr(values, "to_memory"):  # backed, sparse
            values = values.to_memory()
        held = values
        if issparse(values):
            values = values.tocsr()
            held = values.indptr, values.indices, values.data
        if isinstance(held, tuple | np.ndarray):
            found = count_sums(held, code, n_groups=n_samples, n_genes=len(names), threads=threads)
            if found is not None:
                return found
        matrix = matrix_of(values, name, names)  # which says what is wrong
        sound = _are_counts(matrix)
    if not sound:
        raise invalid("layer", f"{name} holds no raw counts (whole numbers from 0); name the layer that does")
    return matrix.group_sums(code, n_samples, threads)


def _are_counts(matrix: Matrix) -> bool:
    values = matrix.rows[2]
    return not len(values) or bool(values.min() >= 0 and np.array_equal(values, np.floor(values)))
