"""Where cells lie on the images of objects that R wrote, and of objects that it could not have written."""

import json
from pathlib import Path

import numpy as np
import pytest

from cellworker.formats.common.findings import Findings
from cellworker.formats.opening.open import open_experiment
from cellworker.formats.r.rds.build import data_frame, doubles, integers, named_list, strings
from cellworker.formats.r.rds.model import RS4, RList, RNull, RVector
from cellworker.formats.seurat.read.images import read_images
from cellworker.settings import Settings

IMAGES = Path(__file__).parent.parent / "fixtures" / "images"
TOLD = json.loads((IMAGES / "coordinates.json").read_text())
CELLS = [f"CELL{i:02}-1" for i in range(1, 13)]


@pytest.fixture
def opened(tmp_path):
    return lambda name: open_experiment(IMAGES / f"{name}.rds", Settings(store_dir=tmp_path)).experiment


@pytest.mark.parametrize("name", sorted(TOLD["asked"]))
def test_coordinates_are_those_that_r_gives(opened, name):
    images = opened(name).images
    assert list(images) == list(TOLD["asked"][name])
    for title, image in images.items():
        told = TOLD["asked"][name][title]
        assert [CELLS[row] for row in image.cells] == told["cell"]
        np.testing.assert_allclose(image.points * image.scale, np.stack([told["x"], told["y"]], axis=1), rtol=1e-12)


@pytest.mark.parametrize(("name", "scale"), [("slideseq", 1), ("visium2", 0.25)])
def test_points_are_scaled_to_the_image_that_came_along(opened, name, scale):
    (image,) = opened(name).images.values()
    assert image.scale == scale
    np.testing.assert_array_equal(image.points, np.stack([TOLD["xy"]["x"], TOLD["xy"]["y"]], axis=1))
    assert image.cells.tolist() == list(range(12))


def read(**images):
    findings = Findings()
    return read_images(named_list(images), ["a", "b", "c"], "", findings), findings


def fov(boundary):
    return RS4("FOV", "SeuratObject", {"boundaries": named_list({"only": boundary, "other": integers([1])})})


def centroids(cells, coordinates, columns=("x", "y")):
    attributes = {"dim": integers(coordinates.shape), "dimnames": RList([RNull(), strings(columns)])}
    table = RVector(coordinates.ravel(order="F"), "double", attributes)
    return RS4("Centroids", "SeuratObject", {"cells": strings(cells), "coords": table})


def test_columns_go_by_their_names():
    images, _ = read(it=fov(centroids(["c", "a"], np.array([[1.0, 2], [3, 4]]), ("y", "x"))))
    assert images["it"].cells.tolist() == [2, 0]
    assert images["it"].points.tolist() == [[2, 1], [4, 3]]


def test_vertices_may_be_in_one_table():
    table = data_frame(
        {"x": doubles([1, 2, 3]), "y": integers([4, 5, 6]), "cell": strings(["b", "b", "a"])}, ["1", "2", "3"]
    )
    images, _ = read(it=fov(RS4("Segmentation", "SeuratObject", {"sf.data": table, "polygons": RList([])})))
    assert images["it"].cells.tolist() == [1, 1, 0]
    assert images["it"].points.tolist() == [[1, 4], [2, 5], [3, 6]]


def test_points_of_other_cells_and_nowhere_are_left_out():
    images, _ = read(it=fov(centroids(["x", "b", "c"], np.array([[1.0, 2], [np.nan, 4], [5, 6]]))))
    assert images["it"].cells.tolist() == [2]


@pytest.mark.parametrize(
    "image",
    [
        RS4("VisiumV1", "Seurat", {"coordinates": data_frame({"row": doubles([1])}, ["a"])}),
        RS4("VisiumV1", "Seurat", {"coordinates": data_frame({"x": strings(["1"]), "y": doubles([1])}, ["a"])}),
        RS4("Unheard", "of", {}),
        fov(centroids(["a"], np.zeros((2, 2)))),
        fov(centroids(["a"], np.zeros((1, 1)), ("x",))),
        fov(RS4("Segmentation", "SeuratObject", {"polygons": RList([RS4("Polygons", "sp", {})])})),
    ],
)
def test_an_image_without_coordinates_is_left_out_with_a_word(image):
    images, findings = read(it=image)
    assert images == {}
    assert any("images it" in line for line in findings.fallbacks)


def test_an_image_of_other_cells_is_left_out_with_a_warning():
    images, findings = read(it=fov(centroids(["x"], np.ones((1, 2)))))
    assert images == {}
    assert any(problem.field == "images it" and problem.severity == "warning" for problem in findings.problems)
