"""The kernels under the store: what lies beyond two thousand million entries, and arguments that would be a crash."""

import numpy as np
import pytest

from cellworker.analysis.matrices.gene_sorter import GeneSorter
from cellworker.analysis.matrices.sorting import RowConverter, RowSplitter, scan_rows

FAR = 2**31 + 5


@pytest.fixture
def far(tmp_path):
    """Three rows whose entries lie beyond 2^31, in files that are holes up to there."""
    columns, values = [4, 1, 3, 0, 3], [2.0, 0.0, -1.0, 5.0, np.nan]
    out = []
    for name, dtype, content in [("columns", np.int32, columns), ("values", np.float32, values)]:
        path = tmp_path / name
        with path.open("wb") as file:
            file.truncate(FAR * 4)
            file.seek(FAR * 4)
            file.write(np.array(content, dtype).tobytes())
        out.append(np.memmap(path, dtype, "r"))
    return np.array([FAR, FAR + 2, FAR + 3, FAR + 5], np.int64), *out


def test_entries_beyond_the_reach_of_32_bits_are_scanned_converted_split_and_sorted(far):
    kept, per_column = np.zeros(3, np.int64), np.zeros(5, np.int64)
    summary = scan_rows(far, 0, 3, 5, kept=kept, per_column=per_column)
    assert (summary.stored, summary.kept, summary.nan, summary.negative, summary.unsorted_rows) == (5, 4, 1, 1, 1)
    assert kept.tolist() == [1, 1, 2]
    assert per_column.tolist() == [1, 0, 0, 2, 1]

    columns, values = RowConverter(far, np.array([0, 1, 2, 4], np.int64)).convert(0, 3)
    assert columns.tolist() == [4, 3, 0, 3]
    assert np.array_equal(values, np.array([2, -1, 5, np.nan], np.float32), equal_nan=True)

    indptr, all_columns, all_values = far
    tail = indptr[1:], all_columns, all_values
    lengths, bounds, columns, values = RowSplitter(np.array([0, 2, 5], np.int32)).split(tail, 0, 2)
    assert lengths.tolist() == [[0, 1], [1, 1]]
    assert bounds.tolist() == [0, 1, 3]
    assert columns.tolist() == [0, 3, 3]

    sorter = GeneSorter(tail, np.array([0, 1, 1, 1, 3, 3], np.int64))
    sorter.seek(2)
    cells, values = sorter.until(5)
    assert cells.tolist() == [0, 1]
    assert values[0] == -1
    assert np.isnan(values[1])


def small():
    return np.array([0, 2], np.int64), np.array([0, 1], np.int32), np.ones(2, np.float32)


def test_arguments_that_do_not_fit_are_refused_before_any_kernel_runs():
    kept = np.zeros(1, np.int64)
    with pytest.raises(ValueError, match="rows 0 to 2"):
        scan_rows(small(), 0, 2, 2, kept=kept)
    with pytest.raises(ValueError, match="do not fit"):
        scan_rows(small(), 0, 1, 2, kept=np.zeros(2, np.int64))
    with pytest.raises(TypeError, match="contiguous int32"):
        scan_rows((small()[0], np.zeros(2, np.int64), small()[2]), 0, 1, 2, kept=kept)
    with pytest.raises(ValueError, match="counted"):
        GeneSorter(small(), np.array([0, 2, 2], np.int64)).until(2)
    with pytest.raises(ValueError, match="counted"):
        GeneSorter(small(), np.array([0, 0, 1], np.int64)).until(2)
    with pytest.raises(ValueError, match="9"):
        GeneSorter(small(), np.array([0, 1, 2], np.int64)).seek(9)
    with pytest.raises(ValueError, match="0"):
        RowConverter(small(), np.array([0, 1], np.int64)).convert(0, 1)
