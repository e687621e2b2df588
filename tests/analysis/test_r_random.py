"""R's streams, number for number."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from cellworker.analysis.statistics.r_random import RRandom


def test_the_numbers_everybody_knows():
    assert [RRandom(42).uniform()] == pytest.approx([0.914806043496355], abs=1e-15)
    assert (RRandom(0).sample(10, 10) + 1).tolist() == [9, 4, 7, 1, 2, 5, 3, 10, 6, 8]
    assert RRandom(1).normal() == pytest.approx(-0.626453810742332, abs=1e-13)


def test_draws_go_on_where_the_last_one_ended():
    stream = RRandom(0)
    draws = [(stream.sample(n, k) + 1).tolist() for n, k in ((10, 10), (10, 4), (5, 5))]
    assert draws[1:] == [[3, 1, 5, 8], [2, 5, 4, 3, 1]]


@pytest.mark.shared
@pytest.mark.parametrize("seed", [0, 1, 42])
def test_streams_are_rs(shared: Path, seed: int):
    golden = json.loads((shared / "golden/rng.json").read_text())[f"seed{seed}"]
    stream = RRandom(seed)
    np.testing.assert_allclose([stream.uniform() for _ in range(10)], golden["runif10"], rtol=1e-13)
    stream = RRandom(seed)
    np.testing.assert_allclose([stream.normal() for _ in range(10)], golden["rnorm10"], rtol=1e-12)
    for name, n, size in [
        ("sample_int_10", 10, 10),
        ("sample_int_1000_20", 1000, 20),
        ("sample_int_5000_1000_head", 5000, 1000),
    ]:
        got = (RRandom(seed).sample(n, size) + 1).tolist()
        assert got[: len(golden[name])] == golden[name]


@pytest.mark.shared
def test_a_long_draw_is_rs(shared: Path):
    golden = json.loads(gzip.decompress((shared / "golden/algorithms/r_rng.json.gz").read_bytes()))
    assert (RRandom(0).sample(12345, 10000) + 1).tolist()[: len(golden["seed0_12345_10000"])] == golden[
        "seed0_12345_10000"
    ]


def test_more_than_there_is_cannot_be_drawn():
    with pytest.raises(ValueError, match="cannot draw"):
        RRandom(0).sample(3, 4)
