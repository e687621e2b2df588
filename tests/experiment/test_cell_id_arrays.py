"""Sets of cell ids are those of Python's own sets, however far apart the ids lie."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellworker.experiment.cell_id_arrays import difference, intersection, union

IDS = st.lists(st.integers(0, 60) | st.integers(0, 2**31 - 1), max_size=30).map(lambda ids: np.array(ids, np.int32))


@given(st.lists(IDS, max_size=5))
def test_a_union_is_ascending_and_has_each_id_once(parts):
    found = union(parts)
    assert found.dtype == np.int32
    assert found.tolist() == sorted({cell for part in parts for cell in part.tolist()})


@given(IDS, IDS)
def test_differences_and_intersections_are_those_of_sets(first, second):
    first, second = union([first]), union([second])
    there, others = set(first.tolist()), set(second.tolist())
    assert difference(first, second).tolist() == sorted(there - others)
    assert intersection(first, second).tolist() == sorted(there & others)
    assert difference(first, second).dtype == intersection(first, second).dtype == np.int32
