"""The truth table of contract 5.0, corrected by decisions.md, and what must hold for any cell sets."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.comparisons import resolve_comparison


def cell_sets(**classes: dict[str, list[int]]) -> CellSets:
    return CellSets.parse(
        orjson.dumps(
            {
                "cellSets": [
                    {
                        "key": key,
                        "name": key,
                        "rootNode": True,
                        "type": "cellSets",
                        "children": [
                            {"key": k, "name": k, "color": "#000000", "cellIds": ids} for k, ids in children.items()
                        ],
                    }
                    for key, children in classes.items()
                ]
            }
        )
    )


TABLE = cell_sets(
    louvain={"louvain-0": [0, 4, 7], "louvain-1": [1, 2, 9]},
    sample={"s1": [0, 1, 2, 3], "s2": [4, 5, 6, 7, 8, 9]},
    T={"T-small": [0, 1], "T-big": [4, 5]},
)


@pytest.mark.parametrize(
    ("basis", "cell_set", "compare_with", "base", "background"),
    [
        ("all", "louvain-0", "rest", [0, 4, 7], [1, 2, 9]),
        ("ALL", "louvain-0", "rest", [0, 4, 7], [1, 2, 9]),
        ("", "louvain-0", "rest", [0, 4, 7], [1, 2, 9]),
        (None, "louvain-0", "rest", [0, 4, 7], [1, 2, 9]),
        ("all", "louvain-0", "background", [0, 4, 7], [1, 2, 3, 5, 6, 8, 9]),
        ("all", "louvain-0", "all", [0, 4, 7], [1, 2, 3, 5, 6, 8, 9]),
        ("s1", "louvain-0", "rest", [0], [1, 2]),
        ("louvain-0", "s1", "s2", [0], [4, 7]),
        ("T-small", "louvain-0", "rest", [0], [1]),  # "sm-all" is a key, not the word
        ("all", "T-big", "T-small", [4, 5], [0, 1]),
        ("louvain", "T-big", "T-small", [4], [0, 1]),  # a class key is the union of its sets
        ("all", "louvain", "s2", [0, 1, 2], [5, 6, 8]),
    ],
)
def test_the_truth_table_holds(basis, cell_set, compare_with, base, background):
    found = resolve_comparison(TABLE, cell_set=cell_set, compare_with=compare_with, basis=basis)
    assert found.base.tolist() == base
    assert found.background.tolist() == background


@pytest.mark.parametrize(
    ("basis", "cell_set", "compare_with", "words"),
    [
        ("nope", "louvain-0", "rest", ("basis", "nope")),
        ("all", "nope", "rest", ("cellSet", "nope")),
        ("all", "louvain-0", "nope", ("compareWith", "nope")),
        ("s2", "T-small", "T-big", ("1st cell set",)),
        ("s1", "T-small", "T-big", ("2nd cell set",)),
        ("all", "louvain", "rest", ("2nd cell set",)),
    ],
)
def test_what_cannot_be_compared_is_refused_with_a_sentence_that_names_it(basis, cell_set, compare_with, words):
    with pytest.raises(WorkerError) as caught:
        resolve_comparison(TABLE, cell_set=cell_set, compare_with=compare_with, basis=basis)
    assert caught.value.code == ErrorCode.INVALID_INPUT
    assert all(word in caught.value.message for word in words)


def test_a_set_named_rest_is_that_set_and_not_the_word():
    found = resolve_comparison(
        cell_sets(c={"a": [1, 2], "b": [3], "rest": [4]}), cell_set="a", compare_with="rest", basis="all"
    )
    assert found.background.tolist() == [4]


ids = st.lists(st.integers(0, 40), max_size=20)
files = st.fixed_dictionaries(
    {
        "louvain": st.fixed_dictionaries({"a": ids, "b": ids, "c": ids}),
        "sample": st.fixed_dictionaries({"x": ids, "y": ids}),
    }
)
keys = st.sampled_from(["a", "b", "c", "x", "y", "louvain", "sample"])


@given(files, keys, st.one_of(keys, st.sampled_from(["rest", "background", "all"])), st.one_of(keys, st.just("all")))
def test_the_two_sides_never_share_a_cell_and_the_basis_only_shrinks_them(content, cell_set, compare_with, basis):
    sets = cell_sets(**content)
    try:
        found = resolve_comparison(sets, cell_set=cell_set, compare_with=compare_with, basis=basis)
    except WorkerError as error:
        assert error.code == ErrorCode.INVALID_INPUT  # noqa: PT017 - either outcome is right, a third is not
        return
    assert len(found.base)
    assert len(found.background)
    assert not np.intersect1d(found.base, found.background).size
    assert np.isin(found.base, sets.cells_of(cell_set)).all()
    if basis != "all":
        wide = resolve_comparison(sets, cell_set=cell_set, compare_with=compare_with, basis="all")
        assert np.isin(found.base, wide.base).all()
        assert np.isin(found.background, wide.background).all()
