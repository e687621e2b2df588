"""What the tests of `cellworker prepare` share: three small samples that lie apart, prepared once."""

import pytest
from tests.raw_counts import counts_of_types, write_counts

from cellworker.api.preparing import prepare
from cellworker.settings import Settings


@pytest.fixture(scope="session")
def settings(tmp_path_factory):
    return Settings(store_dir=tmp_path_factory.mktemp("prepare-stores"), threads=2)


@pytest.fixture(scope="session")
def types():
    """Each sample's types, by the names of its barcodes."""
    return {}


@pytest.fixture(scope="session")
def samples(tmp_path_factory, types):
    """Files of raw counts, by name."""
    folder = tmp_path_factory.mktemp("samples")
    out = {}
    for seed, name in enumerate(("one", "two", "three")):
        counts, kinds = counts_of_types(160, 400, seed=seed, shift=0.12)
        out[name] = write_counts(folder / f"{name}.h5ad", counts)
        types |= {f"{name}_{name.upper()}{i:05d}-1": kind for i, kind in enumerate(kinds.tolist())}
    return out


@pytest.fixture(scope="session")
def prepared(samples, settings, tmp_path_factory):
    """What was made, and the stages that were told."""
    told = []
    out = tmp_path_factory.mktemp("out") / "made"
    made = prepare(
        list(samples.values()), out=out, settings=settings, thresholds=["max_mt=50"], integration="harmony",
        on_progress=lambda stage, part: told.append((stage, part)),
    )  # fmt: skip
    return made, told
