"""Marker genes of the groups of an AnnData, by Wilcoxon's rank-sum test on all cells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.statistics.groups import Groups, Sorted
from cellworker.analysis.statistics.p_values import PValues
from cellworker.analysis.statistics.rank_tests import GroupTests, pair_tests, rank_tests
from cellworker.api.anndata.arguments import (
    categories_of,
    default_threads,
    gene_mask,
    invalid,
    one_of,
    target,
    whole_number,
)
from cellworker.api.anndata.checked import checked
from cellworker.api.anndata.lazy import AnyMatrix, LazyMatrix, chosen_anywhere
from cellworker.api.anndata.matrix import Matrix
from cellworker.api.progress import reporter, with_bar

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["rank_genes_groups", "ranked_table"]

Floats = NDArray[np.float64]

_TINY = 1e-9  # what scanpy adds to means before it divides


@with_bar("Rank tests")
@checked
def rank_genes_groups(
    adata: "AnnData",
    groupby: str,
    *,
    mask_var: str | NDArray[np.bool_] | None = None,
    use_raw: bool | None = None,
    groups: Literal["all"] | Iterable[str] = "all",
    reference: str = "rest",
    n_genes: int | None = None,
    rankby_abs: bool = False,
    pts: bool = False,
    key_added: str | None = None,
    method: Literal["wilcoxon"] = "wilcoxon",
    corr_method: Literal["benjamini-hochberg", "bonferroni"] = "benjamini-hochberg",
    tie_correct: bool = True,
    layer: str | None = None,
    threads: int | None = None,
    copy: bool = False,
) -> "AnnData | None":
    """Rank the genes that tell groups apart, as `scanpy.tl.rank_genes_groups` by "wilcoxon" with `tie_correct` does.

    Genes are ordered by the statistic, so that the best do not lose their order where p-values underflow to 0.

    Parameters
    ----------
    adata
        Log-normalised expression; with Dask arrays the work is done by Dask, to the same bits.
    groupby
        A column of ``obs`` with labels.
    mask_var
        The genes to test: a column of ``var`` or a boolean mask.
    use_raw
        Test the genes of ``raw``; by default where there is one.
    groups
        The labels to test; by default all.
    reference
        ``"rest"``: all other cells; or a label.
    n_genes
        Keep only this many of each group; by default all.
    rankby_abs
        Order by the absolute value of the statistic.
    pts
        Write the shares of cells that express each gene, too.
    key_added
        The key of ``uns``; by default "rank_genes_groups".
    method
        "wilcoxon", the one there is.
    corr_method
        The adjustment of p-values.
    tie_correct
        True, the one there is: without it the p-values of sparse data are wrong.
    layer
        Test a layer.
    threads
        By default one for each processor; the result does not depend on it.
    copy
        Return a copy with the results instead of writing to `adata`.

    Returns
    -------
    AnnData or None
        Writes ``uns[key]`` as scanpy lays it out: ``names``, ``scores`` (z), ``pvals``, ``pvals_adj``,
        ``logfoldchanges`` (log2), with `pts` also ``pts`` and ``pts_rest``; ``params``. `scanpy.get` and `scanpy.pl`
        read it.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` naming the argument.
    """
    data, threads = target(adata, copy=copy), default_threads(threads)
    one_of("method", method, ["wilcoxon"])
    one_of("corr_method", corr_method, ["benjamini-hochberg", "bonferroni"])
    if tie_correct is not True:
        raise invalid("tie_correct", f"expected True (ties are always corrected), found {tie_correct!r}")
    codes, known = categories_of(data, "groupby", groupby)
    wanted = _wanted(groups, reference, known)
    matrix = chosen_anywhere(data, layer=layer, use_raw=use_raw)
    tested = _mask(matrix, data, mask_var)
    sides = _Sides.of(codes, known, wanted, reference)
    if isinstance(matrix, LazyMatrix):
        tests, means = _of_blocks(matrix, sides)
    else:
        tests, means = _tested(matrix, sides, threads)
    rows = []
    for i in range(len(wanted)):
        z = np.where(tests.auc[i] < 0.5, -tests.score[i], tests.score[i])[tested]
        fold = np.log2((np.expm1(means[0][i]) + _TINY) / (np.expm1(means[1][i]) + _TINY))[tested]
        rows.append((z, fold, PValues.of_scores(np.abs(z))))
    names = np.asarray(matrix.names, object)[tested]
    out = ranked_table(names, wanted, rows, n_genes=n_genes, by_abs=rankby_abs, corr_method=corr_method)
    params = {"groupby": groupby, "reference": reference, "method": method, "corr_method": corr_method}
    raw = bool(use_raw) if use_raw is not None else data.raw is not None and layer is None
    out["params"] = {**params, "use_raw": raw, "layer": layer, "tie_correct": True}
    if pts:
        _write_shares(out, tests, wanted, matrix=matrix, tested=tested, reference=reference)
    data.uns["rank_genes_groups" if key_added is None else key_added] = out
    return data if copy else None


def _wanted(groups: Literal["all"] | Iterable[str], reference: str, known: list[str]) -> list[str]:
    if reference != "rest":
        one_of("reference", reference, known)
    if len(known) < 2:
        raise invalid("groupby", f"expected at least two groups, found {known}")
    if isinstance(groups, str) and groups == "all":
        wanted = known
    elif isinstance(groups, str):
        raise invalid("groups", f"expected 'all' or a list of labels, found {groups!r}; did you mean [{groups!r}]?")
    else:
        wanted = list(dict.fromkeys(one_of("groups", name, known) for name in groups))
    wanted = [name for name in wanted if name != reference]
    if not wanted:
        raise invalid("groups", "expected at least one group beside the reference")
    return wanted


def _mask(matrix: AnyMatrix, adata: "AnnData", mask_var: str | NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    if mask_var is None:
        return np.ones(matrix.n_genes, np.bool_)
    if isinstance(mask_var, str):
        var = adata.var if len(adata.var) == matrix.n_genes and matrix.names.equals(adata.var_names) else adata.raw.var
        return gene_mask(mask_var, var)
    return gene_mask(mask_var, matrix.names)


@dataclass(frozen=True, slots=True)
class _Sides:
    """Groups of cells, and what each is compared with.

    Attributes
    ----------
    code
        int32 ``(n_cells,)``: the number of each cell's group; `n_groups` for a cell in none of them, `n_groups` + 1 for
        one of the reference.
    n_groups
        Number of tested groups.
    rest
        Whether each group is compared with all other cells, and not with the reference.
    """

    code: NDArray[np.int32]
    n_groups: int
    rest: bool

    @classmethod
    def of(cls, codes: NDArray[np.int64], known: list[str], wanted: Sequence[str], reference: str) -> "_Sides":
        """Take the groups `wanted` of the labels `known`."""
        number = np.full(len(known) + 1, len(wanted), np.int32)  # the last: of cells without a label, whose code is -1
        for i, name in enumerate(wanted):
            number[known.index(name)] = i
        if reference != "rest":
            number[known.index(reference)] = len(wanted) + 1
        return cls(number[codes], len(wanted), reference == "rest")

    def rows(self, number: int) -> NDArray[np.int64]:
        """Return the cells of a number, ascending."""
        return np.flatnonzero(self.code == number)

    def sizes(self) -> tuple[Floats, Floats]:
        """Return how many cells each group has, and what it is compared with, float64 ``(n_groups, 1)``."""
        counts = np.bincount(self.code, minlength=self.n_groups + 2).astype(np.float64)
        inside = counts[: self.n_groups, None]
        return inside, len(self.code) - inside if self.rest else np.full_like(inside, counts[-1])


_FIELDS = ("score", "auc", "log_fold_change", "fraction_in", "fraction_out")


def _tested(matrix: Matrix, sides: _Sides, threads: int = 1) -> tuple[GroupTests, tuple[Floats, Floats]]:
    """Return the tests of all groups, and their means and those of what they are compared with."""
    return _tests(matrix, sides, threads), _means(matrix, sides, threads)


def _of_blocks(matrix: LazyMatrix, sides: _Sides) -> tuple[GroupTests, tuple[Floats, Floats]]:
    """Do the same on a cluster: no gene's result depends on another gene."""
    shape = sides.n_groups, matrix.n_genes
    tests, means = GroupTests(*(np.empty(shape) for _ in _FIELDS), original=False), (np.empty(shape), np.empty(shape))
    used = matrix if sides.rest else matrix.of_cells(sides.code != sides.n_groups)
    for genes, (part, part_means) in used.by_genes(_tested, sides):
        for name in _FIELDS:
            getattr(tests, name)[:, genes] = getattr(part, name)
        for mine, more in zip(means, part_means, strict=True):
            mine[:, genes] = more
    return tests, means


def _tests(matrix: Matrix, sides: _Sides, threads: int) -> GroupTests:
    n, count = matrix.n_cells, sides.n_groups
    found = GroupTests(*(np.empty((count, matrix.n_genes)) for _ in _FIELDS), original=False)
    members = [sides.rows(i) for i in range(count)]
    groups = Groups.from_sets([*members, np.flatnonzero(sides.code >= count)], n)
    pairs = [] if sides.rest else [(inside, sides.rows(count + 1)) for inside in members]

    report, done = reporter("Rank tests"), 0

    def work(genes: slice, run: Sorted) -> None:
        nonlocal done
        if sides.rest:
            tests = rank_tests(run, groups, continuity=False)
            for name in _FIELDS:
                getattr(found, name)[:, genes] = getattr(tests, name)[:count]
        else:
            for i, one in enumerate(pair_tests(run, pairs, n, continuity=False)):
                for name in _FIELDS:
                    getattr(found, name)[i, genes] = getattr(one, name)[0]
        done += genes.stop - genes.start  # of a bar alone: what two threads lose is seen by nobody
        report(done / matrix.n_genes)

    matrix.sorted_runs(work, threads=threads)
    return found


def _means(matrix: Matrix, sides: _Sides, threads: int) -> tuple[Floats, Floats]:
    """Return each group's mean of every gene, and that of what it is compared with, ``(n_groups, n_genes)``."""
    count = sides.n_groups
    sums = matrix.group_sums(sides.code, count + 2, threads)
    other = sums.sum(axis=0) - sums[:count] if sides.rest else np.repeat(sums[count + 1 :], count, axis=0)
    inside, outside = sides.sizes()
    return sums[:count] / inside, other / np.maximum(1, outside)


def _write_shares(
    out: dict[str, Any],
    tests: GroupTests,
    wanted: list[str],
    *,
    matrix: AnyMatrix,
    tested: NDArray[np.bool_],
    reference: str,
) -> None:
    import pandas as pd  # noqa: PLC0415 heavy

    index = matrix.names[tested]
    shares = {"pts": tests.fraction_in, "pts_rest": tests.fraction_out}
    for key, values in shares.items():
        if key == "pts" or reference == "rest":
            out[key] = pd.DataFrame(values[:, tested].T / 100, index=index, columns=wanted)
    if reference != "rest":
        out["pts"][reference] = tests.fraction_out[0, tested] / 100


def ranked_table(
    names: NDArray[Any],
    groups: Sequence[str],
    rows: Sequence[tuple[Floats, Floats, PValues]],
    *,
    n_genes: int | None,
    by_abs: bool,
    corr_method: str,
) -> dict[str, Any]:
    """Return tables of genes as scanpy lays them out in ``uns``: records with a field for each group.

    Parameters
    ----------
    names
        Of the genes.
    groups
        Labels.
    rows
        For each group what orders its genes (falling, NaN last), log2 fold changes, and p-values.
    n_genes
        Max number of genes to keep; None keeps all.
    by_abs
        Order by the absolute value.
    corr_method
        The adjustment of p-values.
    """
    if n_genes is not None:
        whole_number("n_genes", n_genes, 1)
    columns: dict[str, list[NDArray[Any]]] = {
        "names": [], "scores": [], "pvals": [], "pvals_adj": [], "logfoldchanges": [],
    }  # fmt: skip
    for score, fold, p_values in rows:
        by = np.abs(score) if by_abs else score
        order = np.argsort(-by, kind="stable")[:n_genes]
        adjusted = p_values.adjusted() if corr_method == "benjamini-hochberg" else p_values.times(len(names))
        columns["names"].append(names[order].astype(str).astype(object))
        columns["scores"].append(score[order].astype(np.float32))
        columns["pvals"].append(p_values.values[order])
        columns["pvals_adj"].append(adjusted.values[order])
        columns["logfoldchanges"].append(fold[order].astype(np.float32))
    return {
        name: np.rec.fromarrays(values, dtype=[(group, part.dtype) for group, part in zip(groups, values, strict=True)])
        for name, values in columns.items()
    }
