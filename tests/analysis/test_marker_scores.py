"""ScType's scores against worked examples, and against what R got."""

import sys
from pathlib import Path

import numpy as np
import pytest

from cellworker.analysis.annotation.marker_scores import (
    cluster_sums,
    marker_weights,
    one_row_per_symbol,
    scaled_cluster_sums,
    top_types,
)

sys.path.insert(0, str(Path(__file__).parent.parent))  # for `import builders`

from builders import gene_major

SYMBOLS = ["CD3D", "CD3E", "IL7R", "MS4A1", "CD79A", "NKG7"]
SCALED = np.array(
    [
        [2, 1.5, -1, -1, 0.2],
        [1, 2, -0.5, -1, 0],
        [0.5, 1, 0.3, -0.2, -1],
        [-1, -1, 2, 2.5, -0.5],
        [-0.8, -1, 1.5, 2, -0.4],
        [-0.5, 0, -0.5, -0.6, 2.2],
    ]
).T
POSITIVE = [["CD3D", "CD3E", "IL7R"], ["MS4A1", "CD79A", "IL7R"], ["NKG7", "GNLY"], ["ZZZ1"]]
NEGATIVE = [[], ["CD3D"], ["CD3D", "MS4A1"], []]


def test_the_worked_example() -> None:
    weights = marker_weights(SYMBOLS, POSITIVE, NEGATIVE)
    assert weights.types.tolist() == [0, 1, 2]
    np.testing.assert_allclose(weights.sensitivity, [1, 1, 2 / 3, 1, 1, 1])
    want = [
        [1.9245009, 2.4056261, -0.7505553, -1.2316806, -0.2694301],
        [-2.8467804, -2.2698004, 3.1361960, 3.5210962, -1.1045154],
        [-1.2071068, -0.3535534, -1.2071068, -1.6606602, 2.4121320],
    ]
    np.testing.assert_allclose(weights.scores(SCALED[:, weights.rows]).T, want, atol=5e-8)
    sums, sizes = cluster_sums(SCALED, weights.rows, np.array([0, 0, 1, 1, 1]), 2)
    scores = weights.scores(sums)
    np.testing.assert_allclose(scores[[0, 1], [0, 1]], [4.3301270, 5.5527768], atol=5e-8)
    assert top_types(scores, sizes).tolist() == [0, 1]


def test_a_single_type_weighs_half() -> None:
    assert marker_weights(["A"], [["A"]], [[]]).sensitivity.tolist() == [0.5]


def test_a_gene_that_marks_all_types_says_nothing_and_a_repeated_one_counts_twice() -> None:
    weights = marker_weights(["A", "B", "C"], [["A", "B", "B"], ["A"], ["A", "C"]], [["C"], [], []])
    assert weights.sensitivity.tolist() == [0.0, 0.5, 1.0]
    assert [x.tolist() for x in weights.positive] == [[0, 1], [0], [0, 2]]


def test_without_markers_there_is_no_type() -> None:
    assert len(marker_weights(["A"], [["B"]], [["A"]]).types) == 0


def test_types_with_the_same_markers_get_the_same_bits_and_the_first_one_wins() -> None:
    rng = np.random.default_rng(0)
    names = [f"G{i}" for i in range(37)]
    weights = marker_weights(names, [names[:3], names, list(reversed(names))], [[], [], []])
    scores = weights.scores(rng.normal(size=(5, 37)) + 1)
    assert (scores[:, 1] == scores[:, 2]).all()
    assert top_types(scores[:, 1:], np.ones(5, np.int64)).tolist() == [0] * 5


def test_a_quarter_of_the_cells_is_the_bar() -> None:
    assert top_types(np.array([[1.0, 0.9], [0.99, 0.2], [3.0, 4.0]]), np.array([4, 4, 0])).tolist() == [0, -1, -1]


def test_one_row_for_each_symbol() -> None:
    symbols, means = ["A", "A", "B", "B", "C"], np.array([1.0, 5.0, 2.0, 9.0, 0.0])
    assert one_row_per_symbol(symbols, means).tolist() == [1, 3, 4]
    assert one_row_per_symbol(symbols, np.zeros(5)).tolist() == [0, 2, 4]
    assert one_row_per_symbol(symbols, means, original=True).tolist() == [0, 2, 3, 4]
    assert one_row_per_symbol([], np.empty(0), original=True).tolist() == []


def test_rows_that_the_original_keeps_twice_count_twice() -> None:
    weights = marker_weights(["B", "A", "B"], [["A", "B"]], [[]])
    assert [x.tolist() for x in weights.positive] == [[0, 0, 1]]


def test_sums_leave_out_cells_of_no_cluster_and_cells_that_are_not_covered() -> None:
    values = np.array([[1, 2, 9], [3, 4, 9], [5, np.nan, 9], [np.nan, np.nan, np.nan], [7, 8, 9]], np.float32)
    sums, sizes = cluster_sums(values, np.array([0, 1]), np.array([1, 1, 0, 0, -1]), 3)
    assert sums.tolist() == [[5, 0], [4, 6], [0, 0]]
    assert sizes.tolist() == [1, 2, 0]


def test_many_blocks_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=(100, 7)).astype(np.float32)
    codes = np.arange(100) % 4 - 1
    whole = cluster_sums(values, np.arange(7), codes, 3)
    monkeypatch.setattr("cellworker.analysis.annotation.marker_scores._BLOCK_BYTES", 7 * 4 * 9)
    told: list[float] = []
    parts = cluster_sums(values, np.arange(7), codes, 3, told.append)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-12)
    assert parts[1].tolist() == whole[1].tolist() == [25, 25, 25]
    assert len(told) == 12
    assert told[-1] == 1


def test_scaling_from_what_is_stored_is_scaling() -> None:
    rng = np.random.default_rng(2)
    dense = (rng.gamma(1.0, 1.0, (400, 6)) * (rng.random((400, 6)) < 0.3)).astype(np.float32)
    dense[:, 3] = 0
    dense[:, 4] = 0.1
    dense[:, 5] = 0
    dense[7, 5] = 4  # 400 cells: 20 deviations, cut to 10
    matrix, codes = gene_major(dense), np.arange(400) % 5 - 1
    got = scaled_cluster_sums((matrix.indptr, matrix.cells, matrix.values), np.array([5, 0, 1, 2, 3, 4]), codes, 4)
    x = dense.astype(np.float64)[:, [5, 0, 1, 2, 3, 4]]
    deviation = x.std(axis=0, ddof=1)
    z = np.where(deviation > 1e-9, np.minimum((x - x.mean(axis=0)) / np.maximum(deviation, 1e-9), 10), 0)
    np.testing.assert_allclose(got, [z[codes == k].sum(axis=0) for k in range(4)], atol=1e-9)
    assert 5 < got[1, 0] < 10
