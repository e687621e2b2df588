"""Colours of new cell sets."""

import re

from cellworker.analysis.annotation.colours import first_colours, next_colour


def test_colours_come_in_the_pools_order_and_skip_those_in_use():
    pool = ["#77aadd", "#ee8866", "#eedd88"]
    assert next_colour(pool, []) == "#77aadd"
    assert next_colour(pool, ["#EE8866", "#77AADD"]) == "#eedd88"


def test_an_exhausted_pool_gives_new_colours_that_never_repeat():
    used = ["#77aadd"]
    for _ in range(200):
        used.append(next_colour(["#77aadd"], used))
    assert len(set(used)) == 201
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in used)


def test_the_first_colours_are_the_pools_and_then_new_ones():
    pool = ["#77aadd", "#EE8866", "#77AADD", "#ee8866", "#eedd88"]
    assert first_colours(pool, 3) == ["#77aadd", "#EE8866", "#eedd88"]
    more = first_colours(pool, 100)
    assert len(set(more)) == len(more) == 100
    assert first_colours([], 0) == []
    assert len(first_colours([], 5000)) == 5000
