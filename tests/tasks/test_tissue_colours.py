"""Colours of clusters where the object has images of the tissue."""

import numpy as np
import pytest

from builders import small_experiment
from cellworker.analysis.annotation.spaco import Slice, spatial_colours
from cellworker.experiment.model import Misc, Reduction, TissueImage
from cellworker.tasks.common.tissue_colours import cluster_colours
from cellworker.tasks.task import Context

POOL = ["#77aadd", "#ee8866", "#eedd88", "#ffaabb", "#99ddff", "#44bb99"]
K, N = 6, 400
RNG = np.random.default_rng(3)
PLACES = RNG.random((N, 2)) * 400
CENTRES = RNG.random((K, 2)) * 400
CODES = np.argmin(((PLACES[:, None] - CENTRES) ** 2).sum(axis=2) * RNG.exponential(1, (N, K)), axis=1)


def spatial(image, **misc):
    return small_experiment(np.ones((N, 2)), images={"slice1": image}, misc=Misc(color_pool=POOL, **misc))


def points(scale=1.0):
    return TissueImage(np.arange(N, dtype=np.int32), PLACES, scale)


def test_cells_in_microns_look_50_microns_around():
    wanted = spatial_colours([Slice(PLACES, CODES, 50.0)], K, POOL)
    assert cluster_colours(spatial(points(), technology="xenium"), CODES, K, Context()) == wanted
    assert wanted != POOL
    assert len(set(wanted)) == K


def test_cells_in_pixels_look_as_far_by_the_images_scale():
    got = cluster_colours(spatial(points(0.25), technology="visium_hd", microns_per_pixel=2.0), CODES, K, Context())
    assert got == spatial_colours([Slice(PLACES * 0.25, CODES, 50 / 2 * 0.25)], K, POOL)
    assert got != cluster_colours(spatial(points(), technology="xenium"), CODES, K, Context())


def test_an_outline_counts_as_its_middle():
    corners = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    outlines = TissueImage(np.repeat(np.arange(N, dtype=np.int32), 4), (PLACES[:, None] + corners).reshape(-1, 2))
    got = cluster_colours(spatial(outlines, technology="xenium"), CODES, K, Context())
    assert got == cluster_colours(spatial(points(), technology="xenium"), CODES, K, Context())


@pytest.mark.parametrize("experiment", [spatial(points(), technology="visium"), small_experiment(np.ones((N, 2)))])
def test_without_images_or_their_scale_the_pool_serves(experiment):
    experiment.misc = Misc(color_pool=POOL, technology=experiment.misc.technology)
    assert cluster_colours(experiment, CODES, K, Context()) == POOL


def test_of_a_sketch_only_its_cells_are_looked_at():
    inside = np.arange(N) % 2 == 0
    values = np.where(inside[:, None], PLACES, np.nan)
    experiment = spatial(points(), technology="xenium", active_reduction="pca.sketch")
    experiment.reductions = {"pca": Reduction(PLACES), "pca.sketch": Reduction(values)}
    got = cluster_colours(experiment, CODES, K, Context())
    assert got == spatial_colours([Slice(PLACES[inside], CODES[inside], 50.0)], K, POOL)


def test_clusters_of_an_object_with_images_get_them(answer):
    experiment = spatial(points(), technology="xenium")
    experiment.reductions = {
        "pca": Reduction(np.stack([CENTRES[CODES].T[0], CENTRES[CODES].T[1]], axis=1) + PLACES / 99)
    }
    request = {"type": "louvain", "config": {"resolution": 0.8}}
    children = answer(experiment, "getClusters", request)["children"]
    assert len(children) >= 5
    row_of = {cell: row for row, cell in enumerate(experiment.cell_ids.tolist())}
    codes = np.full(N, -1)
    for k, child in enumerate(children):
        codes[[row_of[cell] for cell in child["cellIds"]]] = k
    wanted = cluster_colours(experiment, codes, len(children), Context())
    assert [child["color"] for child in children] == wanted
    assert wanted != POOL[: len(children)]
