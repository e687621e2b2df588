"""Sets of ids: what numpy's sorting says, whatever the ids, and by a bitmap where they are those of an experiment."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cellworker.experiment import id_sets
from cellworker.experiment.id_sets import common, union, without

IDS = st.one_of(
    st.lists(st.integers(0, 300), max_size=60),
    st.lists(st.integers(0, 2**31 - 1), max_size=20),
    st.lists(st.integers(-5, 5), max_size=10),
).map(lambda ids: np.array(ids, np.int32))


def same(found, expected):
    assert found.dtype == np.int32
    assert found.tolist() == expected.tolist()


@given(st.lists(IDS, max_size=5))
def test_a_union_is_what_sorting_makes_of_all(parts):
    same(union(parts), np.unique(np.concatenate([np.empty(0, np.int32), *parts])))


@given(IDS, IDS)
def test_differences_and_intersections_are_what_sorting_finds(ids, others):
    same(without(ids, others), np.setdiff1d(ids, others))
    same(common(ids, others), np.intersect1d(ids, others))


def test_arguments_stay_as_they_are():
    ids, others = np.array([3, 1, 3], np.int32), np.array([1], np.int32)
    without(ids, others)
    common(ids, others)
    assert (ids.tolist(), others.tolist()) == ([3, 1, 3], [1])


def test_ids_of_an_experiment_are_never_sorted(monkeypatch):
    def refuse(*args):
        raise AssertionError("sorted")

    for name in ("unique", "setdiff1d", "intersect1d"):
        monkeypatch.setattr(id_sets.np, name, refuse)
    million = np.arange(1_000_000, dtype=np.int32)
    assert len(union([million[::2], million[1::2]])) == 1_000_000
    assert len(without(million, million[::2])) == 500_000
    assert len(common(million, million[::4])) == 250_000
