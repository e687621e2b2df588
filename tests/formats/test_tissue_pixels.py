"""Images of tissues with their pixels: from AnnData files as scanpy writes them, from Seurat objects, and back."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.explorer.pictures import pixels_of as decoded

from cellworker import open_experiment
from cellworker.errors import WorkerError
from cellworker.formats.common.pixels import pixels_of
from cellworker.local.page import tissue

CELLS = 6


def spatial(path: Path, libraries: dict[str, dict], **obs) -> Path:
    counts = np.random.default_rng(1).poisson(2, (CELLS, 8)).astype(np.float32)
    data = anndata.AnnData(np.log1p(counts), obs=pd.DataFrame(obs, index=[f"c{i}" for i in range(CELLS)]))
    data.var_names = [f"G{i}" for i in range(8)]
    data.layers["counts"] = counts
    data.uns["log1p"] = {"base": None}
    data.obsm["spatial"] = np.arange(2 * CELLS).reshape(CELLS, 2) * 10.0
    data.uns["spatial"] = libraries
    data.write_h5ad(path)
    return path


def library(image: np.ndarray, *, factor: float = 0.1, which: str = "hires") -> dict:
    return {"images": {which: image}, "scalefactors": {f"tissue_{which}_scalef": factor}}


def test_scanpys_image_is_read_and_drawn_under_the_cells(tmp_path):
    image = np.random.default_rng(2).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    opened = open_experiment(spatial(tmp_path / "a.h5ad", {"slice": library(image)}))
    (found,) = opened.experiment.images.values()
    assert np.array_equal(found.pixels, image)
    assert found.scale == 0.1
    assert np.array_equal(found.points * found.scale, np.arange(2 * CELLS).reshape(CELLS, 2))
    assert np.array_equal(decoded(tissue.picture(opened.experiment, 0)), image)
    assert tissue.places(opened.experiment, 0).startswith(b"[[0.0,1.0],[2.0,3.0]")


def test_cells_are_placed_on_the_image_of_their_library(tmp_path):
    image = np.full((4, 4, 3), 0.5, np.float32)
    of = pd.Categorical(["one", "two", "one", "two", "two", "one"])
    file = spatial(tmp_path / "b.h5ad", {"one": library(image), "two": library(image, which="lowres")}, library_id=of)
    images = open_experiment(file).experiment.images
    assert {name: found.cells.tolist() for name, found in images.items()} == {"one": [0, 2, 5], "two": [1, 3, 4]}
    assert all((found.pixels == 128).all() for found in images.values())


@pytest.mark.parametrize(
    "broken",
    [
        {"images": {"hires": np.zeros((0, 4, 3))}, "scalefactors": {"tissue_hires_scalef": 0.1}},
        {"images": {"hires": np.zeros((4, 4, 2))}, "scalefactors": {"tissue_hires_scalef": 0.1}},
        {"images": {"hires": np.zeros((4, 4, 3))}, "scalefactors": {"tissue_hires_scalef": -1.0}},
        {"images": {"hires": np.zeros((4, 4, 3))}},
        {"images": "none"},
        {},
    ],
)
def test_an_image_that_cannot_be_shown_leaves_the_places(tmp_path, broken):
    opened = open_experiment(spatial(tmp_path / "c.h5ad", {"slice": broken}))
    (found,) = opened.experiment.images.values()
    assert found.pixels is None
    assert found.scale == 1.0
    with pytest.raises(WorkerError, match="no pixels"):
        tissue.picture(opened.experiment, 0)
    with pytest.raises(WorkerError, match="image 1: the experiment has 1 images"):
        tissue.places(opened.experiment, 1)


def test_seurats_image_comes_with_its_object(root: Path):
    opened = open_experiment(root / "tests" / "fixtures" / "images" / "visium1.rds")
    (found,) = opened.experiment.images.values()
    assert found.pixels.shape == (30, 30, 3)


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(3, 4)), elements=st.floats(0, 1)))
def test_shares_of_one_become_bytes(image):
    found = pixels_of(image)
    assert np.abs(found / 255 - image[:, :, :3]).max() <= 0.5 / 255 + 1e-6


@given(arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 4))))
def test_grey_is_shown_as_grey(image):
    found = pixels_of(image)
    assert (found == image[:, :, None]).all()
