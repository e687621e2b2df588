"""The scan against scipy, against presto's own numbers, and against itself cut in other pieces."""

import gzip
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from cellworker.analysis.statistics import markers
from cellworker.analysis.statistics import rank_tests as module
from cellworker.analysis.statistics.dots import expm1_means, scale_dots
from cellworker.analysis.statistics.groups import Groups
from cellworker.analysis.statistics.markers import find_markers
from cellworker.analysis.statistics.p_values import benjamini_hochberg
from cellworker.analysis.statistics.rank_tests import GroupTests, pair_tests, rank_tests

FIELDS = ("score", "auc", "log_fold_change", "fraction_in", "fraction_out")


def gene_major(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Genes x cells, dense, to sorted gene-major arrays."""
    indptr, cells, values = [0], [], []
    for row in matrix.astype(np.float32):
        stored = np.flatnonzero(row)
        order = np.argsort(row[stored], kind="stable")
        cells.append(stored[order])
        values.append(row[stored][order])
        indptr.append(indptr[-1] + len(stored))
    return np.array(indptr, np.int64), np.concatenate(cells).astype(np.int32), np.concatenate(values).astype(np.float32)


def two_sets(n_base: int, n_cells: int) -> Groups:
    return Groups.from_sets([np.arange(n_base), np.arange(n_base, n_cells)], n_cells)


values = st.one_of(
    st.just(0.0),
    st.sampled_from([1.0, 2.0, -1.0, 1e-40, -1e-40, 3.4e38]),
    st.floats(-10, 10, width=32, allow_nan=False),
)
matrices = st.integers(3, 25).flatmap(lambda n: arrays(np.float32, (4, n), elements=values))


@given(matrices, st.data())
@example(np.zeros((2, 5), np.float32), None)
@example(np.ones((2, 5), np.float32), None)
@example(np.full((2, 5), -1, np.float32), None)
def test_p_values_are_scipys(matrix, data):
    n = matrix.shape[1]
    n_base = 1 if data is None else data.draw(st.integers(1, n - 1))
    tests = rank_tests(gene_major(matrix), two_sets(n_base, n))
    for g, row in enumerate(matrix.astype(np.float64)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy divides by zero where all values are equal
            expected = stats.mannwhitneyu(row[:n_base], row[n_base:], method="asymptotic", use_continuity=False)
        auc = expected.statistic / (n_base * (n - n_base))
        assert tests.auc[0, g] == pytest.approx(auc, abs=1e-12)
        distance = abs(expected.statistic - n_base * (n - n_base) / 2)
        if np.ptp(row) == 0:
            assert tests.p[0, g] == 1
        else:
            # scipy's continuity correction may overshoot to the other side of the mean; R's never changes |z| that way
            _, counts = np.unique(row, return_counts=True)
            ties = (counts.astype(float) ** 3 - counts).sum()
            sigma = np.sqrt(n_base * (n - n_base) / 12 * (n + 1 - ties / (n * (n - 1))))
            corrected = 0 if distance == 0 else abs(distance - 0.5)
            assert tests.p[0, g] == pytest.approx(2 * stats.norm.sf(corrected / sigma), rel=1e-9)


@given(matrices)
def test_the_two_sides_of_a_comparison_mirror_each_other(matrix):
    tests = rank_tests(gene_major(matrix), two_sets(2, matrix.shape[1]))
    np.testing.assert_allclose(tests.p[0], tests.p[1], rtol=1e-12)
    np.testing.assert_allclose(tests.auc[0], 1 - tests.auc[1], atol=1e-12)
    np.testing.assert_array_equal(tests.fraction_in[0], tests.fraction_out[1])


@given(st.lists(st.lists(st.integers(0, 11), max_size=12, unique=True), min_size=2, max_size=5), matrices)
def test_overlapping_sets_are_each_tested_against_the_listed_cells_outside_them(sets, matrix):
    n = matrix.shape[1]
    sets = [np.array([c for c in members if c < n], np.int64) for members in sets]
    groups = Groups.from_sets(sets, n)
    listed = np.unique(np.concatenate(sets)).astype(np.int64)
    assert groups.total == len(listed)
    assert groups.sizes.tolist() == [len(s) for s in sets]
    tests = rank_tests(gene_major(matrix), groups)
    for k, members in enumerate(sets):
        rest = np.setdiff1d(listed, members)
        if not len(members) or not len(rest):
            assert np.isnan(tests.p[k]).all()
            continue
        alone = rank_tests(gene_major(matrix), Groups.from_sets([members, rest], n))
        np.testing.assert_array_equal(tests.p[k], alone.p[0])
        np.testing.assert_array_equal(tests.auc[k], alone.auc[0])
        np.testing.assert_allclose(tests.log_fold_change[k], alone.log_fold_change[0], rtol=1e-9, atol=1e-9)


@given(matrices, st.lists(st.tuples(st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11))), min_size=1, max_size=4))
def test_many_pairs_in_one_pass_are_what_each_alone_is(matrix, drawn):
    n = matrix.shape[1]
    sides = [(np.array([c for c in a if c < n], int), np.array([c for c in b - a if c < n], int)) for a, b in drawn]
    sides += [(b, a) for a, b in sides]  # these share a ranking
    for (a, b), together in zip(sides, pair_tests(gene_major(matrix), sides, n), strict=True):
        alone = rank_tests(gene_major(matrix), Groups.from_sets([a, b], n))
        for name in ("p", "auc", "fraction_in", "fraction_out"):
            np.testing.assert_array_equal(getattr(together, name)[0], getattr(alone, name)[0])
        np.testing.assert_allclose(together.log_fold_change[0], alone.log_fold_change[0], rtol=1e-6, atol=1e-6)


def test_classes_may_be_many_but_codes_have_sixteen_bits():
    cells = np.arange(40_000)
    assert len(Groups.from_sets([cells[:32_000], *([cell] for cell in range(500))], 40_000).class_sizes) == 501
    with pytest.raises(ValueError, match="too many"):
        Groups.from_sets([cells[(cells >> bit) % 2 == 1] for bit in range(16)], 40_000)


def test_pairs_that_overlap_in_thousands_of_ways_are_what_each_alone_is():
    random = np.random.default_rng(1)
    data = gene_major((random.random((4, 3000)) < 0.4) * random.integers(1, 5, (4, 3000)))
    pairs = [(np.flatnonzero(side), np.flatnonzero(~side)) for side in random.random((13, 3000)) < 0.5]
    for pair, together in zip(pairs, pair_tests(data, pairs, 3000), strict=True):
        np.testing.assert_array_equal(together.p, pair_tests(data, [pair], 3000)[0].p)


def test_cells_and_offsets_that_do_not_fit_never_reach_the_kernels():
    indptr, cells, values = gene_major(np.eye(3, 8))
    genes = np.arange(3)
    for groups in (two_sets(1, 2), two_sets(0, 0)):
        with pytest.raises(IndexError, match="cells that the groups do not know"):
            rank_tests((indptr, cells, values), groups)
        with pytest.raises(IndexError, match="cells that the groups do not know"):
            expm1_means((indptr, cells, values), groups, genes)
    with pytest.raises(IndexError, match="cells that the groups do not know"):
        rank_tests((indptr, cells - 1, values), two_sets(1, 8))
    long = gene_major(np.ones((1, 30_000)))
    first, rest = np.arange(100), np.arange(100, 25_000)
    for pairs in ([(first, rest)], [(first, rest), (first, rest[1:])]):  # the cells that do not fit come last
        with pytest.raises(IndexError, match="cells that the groups do not know"):
            pair_tests(long, pairs, 29_999)
    for broken in (indptr + 1, indptr[::-1].copy(), indptr - 1):
        with pytest.raises(IndexError, match="offsets"):
            rank_tests((broken, cells, values), two_sets(1, 8))
    with pytest.raises(IndexError, match="position"):
        expm1_means((indptr, cells, values), two_sets(1, 8), genes + 1)


def test_progress_ends_at_one_and_may_stop_the_scan():
    data, told = gene_major(np.ones((300, 20))), []
    rank_tests(data, two_sets(3, 20), on_progress=told.append)
    assert told[-1] == 1

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rank_tests(data, two_sets(3, 20), on_progress=stop)


def test_the_result_does_not_depend_on_the_number_of_threads():
    random = np.random.default_rng(3)
    matrix = (random.random((1500, 80)) < 0.3) * random.integers(1, 6, (1500, 80))
    groups = Groups.from_sets([np.flatnonzero(random.integers(0, 4, 80) == k) for k in range(4)], 80)
    one, four = (rank_tests(gene_major(matrix), groups, threads=threads) for threads in (1, 4))
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(four, name))


@pytest.mark.parametrize("name", ["presto_lognorm", "presto_counts_ties"])
@pytest.mark.shared
def test_prestos_numbers_come_out_with_prestos_ties(shared: Path, name: str):
    golden = json.loads(gzip.decompress((shared / f"golden/algorithms/{name}.json.gz").read_bytes()))
    matrix, labels, rows = np.array(golden["X"], float), golden["y"], golden["r"]
    levels = sorted({label for label in labels if label is not None})
    sets = [np.array([i for i, label in enumerate(labels) if label == level]) for level in levels]
    tests = rank_tests(gene_major(matrix), Groups.from_sets(sets, len(labels)), original=True)
    columns = {
        "pval": tests.p, "padj": benjamini_hochberg(tests.p), "auc": tests.auc, "logFC": tests.log_fold_change,
        "pct_in": tests.fraction_in, "pct_out": tests.fraction_out,
    }  # fmt: skip
    for column, got in columns.items():
        want = np.array([row[column] for row in rows], float).reshape(got.shape)
        tolerance = {"pval": 1e-9, "padj": 1e-9, "logFC": 1e-6}.get(column, 1e-12)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=1e-7 if column == "logFC" else 0)


def test_the_worked_example_with_a_tie_at_the_top():
    matrix = np.array([[0, 0, 1, 1, 2, 2, 0, 2]])
    groups = two_sets(4, 8)
    assert rank_tests(gene_major(matrix), groups, original=True).p[0, 0] == pytest.approx(0.1804026663, abs=1e-10)
    assert rank_tests(gene_major(matrix), groups).p[0, 0] == pytest.approx(0.1692019217, abs=1e-10)


@given(st.lists(st.one_of(st.floats(0, 1), st.just(0.0), st.just(1.0)), min_size=1, max_size=40))
def test_adjusted_p_values_are_scipys(p):
    np.testing.assert_allclose(
        benjamini_hochberg(np.array(p)), stats.false_discovery_control(p, method="bh"), rtol=1e-12
    )


def test_missing_p_values_stay_missing_and_do_not_count():
    np.testing.assert_allclose(benjamini_hochberg(np.array([0.01, np.nan, 0.04, 0.03])), [0.03, np.nan, 0.04, 0.04])


def test_a_gene_belongs_to_the_set_with_its_smallest_p_value_and_sets_are_cut_by_fold_change(monkeypatch):
    def both(rows: list[list[float]]) -> np.ndarray:
        return np.array(rows, float)

    tests = GroupTests(
        score=both([[2.6, 41.0, 1.3, 3.3, 0.7], [3.3, 40.0, 1.0, 0.7, 0.7]]),
        auc=both([[0.9, 0.9, 0.9, 0.9, 0.2], [0.9] * 5]),
        log_fold_change=both([[1, 3, 5, 2, 1], [2, 1, 1, -1, 1]]),
        fraction_in=both([[50, 50, 50, 50, 50], [50, 50, 50, 50, 10]]),
        fraction_out=both([[10] * 5, [10, 10, 80, 10, 10]]),
        original=False,
    )
    monkeypatch.setattr(markers, "set_tests", lambda _data, _sets, _n, consume, **_: consume(slice(0, 5), tests))
    data, sets = gene_major(np.ones((5, 4))), [np.array([0]), np.array([1])]
    assert [genes.tolist() for genes in find_markers(data, sets, 4, 2)] == [[2, 1], [0]]
    assert [genes.tolist() for genes in find_markers(data, sets, 4, 9)] == [[2, 1, 3], [0]]


def test_the_worked_dot_plot_example():
    counts = np.array([[0, 1, 2, 0, 0, 3, 1, 0], [2, 2, 0, 0, 1, 0, 0, 4], [0] * 8, [1] * 8])
    groups = Groups.from_sets([np.array([0, 1, 2]), np.array([3, 4]), np.array([5, 6])], 8)
    means, percent = expm1_means(gene_major(counts * 0.5), groups, np.arange(4))
    np.testing.assert_allclose(means[:, 0], [0.78900103, 0, 2.0652052], rtol=1e-7)
    np.testing.assert_allclose(percent[:, 0], [200 / 3, 0, 100])
    dots = scale_dots(means)
    np.testing.assert_allclose(dots[:, 0], [0.025705438, -1.0126049, 0.98689946], rtol=1e-6)
    np.testing.assert_allclose(dots[:, 1], [1.0755747, -0.17398203, -0.90159267], rtol=1e-6)
    assert np.isnan(dots[:, 2:]).all()
    np.testing.assert_allclose(scale_dots(means[:1]), [[0.58165738, 0.763, 0, 0.5]], atol=5e-4)


@given(matrices, st.integers(1, 6), st.data())
def test_every_kind_of_processor_gives_the_same_bits(matrix, n_sets, data):
    n = matrix.shape[1]
    owner = data.draw(arrays(np.int8, n, elements=st.integers(-1, n_sets - 1)))
    groups = Groups.from_sets([np.flatnonzero(owner == k) for k in range(n_sets)], n)
    found = rank_tests(gene_major(matrix), groups)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_PLAIN", True)
        plain = rank_tests(gene_major(matrix), groups)
    for name in FIELDS:
        assert getattr(found, name).tobytes() == getattr(plain, name).tobytes()


@pytest.mark.parametrize("n_sets", [2, 7, 200])
@pytest.mark.parametrize("listed", [0.2, 1.0])
def test_long_genes_are_tested_as_scipy_does_on_every_kind_of_processor(monkeypatch, n_sets, listed):
    random = np.random.default_rng(n_sets)
    n = 150_000
    matrix = np.stack([
        random.integers(-1, 3, n), random.normal(size=n).round(2), random.random(n), np.ones(n), np.zeros(n),
    ]).astype(np.float32)  # fmt: skip
    owner = np.where(random.random(n) < listed, (n_sets * random.random(n) ** 2).astype(int), -1)
    sets = [np.flatnonzero(owner == k) for k in range(n_sets)]
    found = rank_tests(gene_major(matrix), Groups.from_sets(sets, n))
    monkeypatch.setattr(module, "_PLAIN", True)
    plain = rank_tests(gene_major(matrix), Groups.from_sets(sets, n))
    for name in FIELDS:
        assert getattr(found, name).tobytes() == getattr(plain, name).tobytes()
    for k in (0, n_sets - 1):
        inside, outside = (matrix[:, cells].astype(float) for cells in (owner == k, (owner >= 0) & (owner != k)))
        fold = inside.mean(axis=1) - outside.mean(axis=1)
        np.testing.assert_allclose(found.log_fold_change[k], fold, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.fraction_in[k], 100 * (inside != 0).mean(axis=1))
        np.testing.assert_allclose(found.fraction_out[k], 100 * (outside != 0).mean(axis=1))
        for g in range(3):
            expected = stats.mannwhitneyu(inside[g], outside[g], method="asymptotic")
            np.testing.assert_allclose(found.auc[k, g], expected.statistic / inside.shape[1] / outside.shape[1])
            np.testing.assert_allclose(found.p[k, g], expected.pvalue, rtol=1e-9)


def test_no_pairs_are_no_tests():
    assert pair_tests(gene_major(np.eye(3)), [], 3) == []


@given(arrays(np.int8, 10, elements=st.integers(-1, 3)), st.booleans())
def test_sets_without_a_common_cell_are_classes_of_their_own(owner, twice):
    sets = [np.flatnonzero(owner == k) for k in range(4)]
    groups = Groups.from_sets([np.repeat(members, 2) for members in sets] if twice else sets, 10)
    for k, members in enumerate(sets):
        inside = [cell for cell in range(10) if groups.code[cell] >= 0 and groups.members[k, groups.code[cell]]]
        assert inside == members.tolist()
    assert groups.sizes.tolist() == [len(members) for members in sets]


@given(st.lists(st.floats(-100, 800, width=32).filter(bool), min_size=1, max_size=600))
@example([1e-30, -1e-30, 39.9, -39.9])
@example([float("inf"), -float("inf"), 709.5, 710.0, 1.0])
def test_means_of_expm1_are_numpys_to_the_last_digits(levels):
    levels = np.sort(np.array(levels, np.float32))
    n = len(levels)
    data = np.array([0, n]), np.arange(n, dtype=np.int32), levels
    groups = Groups.from_sets([np.array([cell]) for cell in range(n)], n)
    means, percent = expm1_means(data, groups, np.array([0]))
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(means[:, 0], np.expm1(levels.astype(float)), rtol=1e-15)
    np.testing.assert_array_equal(percent[:, 0], 100 * (levels > 0))


def test_dots_do_not_depend_on_the_number_of_threads():
    random = np.random.default_rng(5)
    data = gene_major((random.random((6, 240_000)) < 0.5) * random.random((6, 240_000)))
    groups = Groups.from_sets([np.flatnonzero(random.random(240_000) < 0.4) for _ in range(3)], 240_000)
    one, four = (expm1_means(data, groups, np.arange(6), threads=threads) for threads in (1, 4))
    np.testing.assert_array_equal(one, four)
