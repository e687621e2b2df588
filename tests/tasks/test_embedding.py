"""Embeddings: stored, computed, and on images of tissues."""

from itertools import pairwise

import msgspec
import numpy as np
import pytest

import goldens
import quality
from builders import small_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Misc, Reduction, TissueImage
from cellworker.tasks.catalog import TASKS
from cellworker.tasks.task import PrepareInput


def experiment(**reductions):
    values = np.array([[1.5, 2, 9], [3, 4, 9], [np.nan, np.nan, 9], [7, 8, 9]])
    there = {name: Reduction(values) for name in reductions or ("UMAP", "pca")}
    return small_experiment(cell_ids=np.array([5, 0, 3, 2], np.int32), reductions=there)


def test_points_are_indexed_by_cell_id_with_null_where_there_is_none(answer):
    got = answer(experiment(), "getEmbedding", {"type": "pca", "config": {}, "use_saved": False})
    assert got == [[3.0, 4.0], None, [7.0, 8.0], None, None, [1.5, 2.0]]


@pytest.mark.parametrize("name", ["UMAP", "umap", "Umap"])
def test_names_are_matched_exactly_then_whatever_their_case(answer, name):
    assert answer(experiment(), "getEmbedding", {"type": name, "use_saved": True})[0] == [3.0, 4.0]


def test_the_exact_name_wins(answer):
    both = experiment()
    both.reductions = {"UMAP": Reduction(np.zeros((4, 2))), "umap": Reduction(np.ones((4, 2)))}
    assert answer(both, "getEmbedding", {"type": "umap", "use_saved": True})[0] == [1.0, 1.0]


def test_a_missing_reduction_is_refused_with_those_that_exist(answer):
    with pytest.raises(WorkerError, match="'tsne': it has UMAP, pca") as caught:
        answer(experiment(), "getEmbedding", {"type": "tsne", "use_saved": True})
    assert caught.value.code is ErrorCode.REDUCTION_NOT_FOUND
    none = small_experiment(reductions={})
    with pytest.raises(WorkerError, match="it has none"):
        answer(none, "getEmbedding", {"type": "pca"})


def test_one_dimension_is_too_few(answer):
    flat = small_experiment(reductions={"pca": Reduction(np.zeros((4, 1)))})
    with pytest.raises(WorkerError, match="fewer than two") as caught:
        answer(flat, "getEmbedding", {"type": "pca"})
    assert caught.value.code is ErrorCode.REDUCTION_NOT_FOUND


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": "umap", "config": {"minimumDistance": -1}}, "minimumDistance"),
        ({"type": "umap", "config": {"minimumDistance": "0.3"}}, "minimumDistance"),
        ({"type": "umap", "config": {"minimumDistance": 11}}, "minimumDistance"),
        ({"type": "umap", "config": {"distanceMetric": "manhattan"}}, "distanceMetric"),
        ({"type": "umap", "config": {"distanceMetric": ["cosine"]}}, "distanceMetric"),
        ({"type": "tsne", "config": {"perplexity": -30}}, "perplexity"),
        ({"type": "tsne", "config": {"perplexity": "30"}}, "perplexity"),
        ({"type": "tsne", "config": {"learningRate": -1}}, "learningRate"),
        ({"type": "tsne", "config": {"perplexity": 0}}, "perplexity"),
        ({"type": "tsne", "config": {"learningRate": True}}, "learningRate"),
        ({"type": "phate"}, "type"),
        ({"type": ""}, "type"),
        ({}, "type"),
    ],
)
def test_a_wrong_configuration_is_named(prepare, body, field):
    with pytest.raises(WorkerError, match=rf"body\.(config\.)?{field}") as caught:
        prepare("GetEmbedding", body)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_the_body_becomes_the_engines_request(prepare):
    request = prepare("GetEmbedding", {"type": "harmony", "useSaved": True})
    assert (request.type, request.use_saved, request.config) == ("harmony", True, {})


def test_tables_leave_out_gaps(answer):
    tables = TASKS["GetEmbedding"].to_tables(answer(experiment(), "getEmbedding", {"type": "pca"}))
    assert tables == {"cells": {"cell_id": [0, 2, 5], "x": [3.0, 7.0, 1.5], "y": [4.0, 8.0, 2.0]}}


# --- computed ---

COMPUTED = [
    {"type": "umap", "config": {"minimumDistance": 0.3, "distanceMetric": "cosine"}},
    {"type": "umap", "config": {"minimumDistance": 0.1, "distanceMetric": "euclidean"}},
    {"type": "tsne", "config": {"perplexity": 10, "learningRate": 200}},
]


def blobs(n=200, dims=6, seed=0):
    """Three groups of cells far apart."""
    random = np.random.default_rng(seed)
    group = np.arange(n) % 3
    return random.normal(size=(3, dims))[group] * 10 + random.normal(size=(n, dims)), group


def computed_from(values, **parts):
    n = len(values)
    return small_experiment(
        np.ones((n, 2)), cell_ids=np.arange(n, dtype=np.int32)[::-1] * 2, reductions={"pca": Reduction(values)}, **parts
    )


@pytest.mark.parametrize("request_", COMPUTED)
def test_similar_cells_are_close(answer, request_):
    values, group = blobs()
    got = answer(computed_from(values), "getEmbedding", request_)
    assert len(got) == 399
    assert got[1::2] == [None] * 199
    layout = np.array(got[::2])[::-1]
    assert layout.shape == (200, 2)
    assert quality.trustworthiness(values, layout) > 0.9
    near = np.argsort(((layout[:, None] - layout) ** 2).sum(axis=2), axis=1)[:, 1:11]
    assert np.mean(group[near] == group[:, None]) > 0.98


@pytest.mark.parametrize("request_", COMPUTED)
def test_the_same_request_gets_the_same_map_with_any_number_of_threads(answer, request_):
    values, _ = blobs()
    assert answer(computed_from(values), "getEmbedding", request_, threads=1) == answer(
        computed_from(values), "getEmbedding", request_, threads=3
    )


@pytest.mark.parametrize(
    ("kind", "config", "other"),
    [
        ("umap", {"minimumDistance": 0.1, "distanceMetric": "cosine"}, {"minimumDistance": 0.8}),
        ("umap", {"minimumDistance": 0.1, "distanceMetric": "cosine"}, {"distanceMetric": "euclidean"}),
        ("tsne", {"perplexity": 10, "learningRate": 200}, {"perplexity": 20}),
        ("tsne", {"perplexity": 10, "learningRate": 200}, {"learningRate": 20}),
    ],
)
def test_every_parameter_counts(answer, kind, config, other):
    values, _ = blobs(64)
    ask = {"type": kind, "config": config}, {"type": kind, "config": config | other}
    one, two = (answer(computed_from(values), "getEmbedding", request) for request in ask)
    assert one != two


def test_the_original_ignores_the_learning_rate(answer):
    values, _ = blobs(60)
    ask = [{"type": "tsne", "config": {"perplexity": 10, "learningRate": rate}} for rate in (20, 200)]
    one, two = (answer(computed_from(values), "getEmbedding", request, like_original=True) for request in ask)
    assert one == two


def test_without_a_configuration_the_platforms_defaults_count(answer):
    values, _ = blobs(150)
    there = computed_from(values)
    full = {"minimumDistance": 0.3, "distanceMetric": "cosine"}
    assert answer(there, "getEmbedding", {"type": "umap", "config": []}) == answer(
        there, "getEmbedding", {"type": "umap", "config": full}
    )
    full = {"perplexity": 30, "learningRate": 200}
    assert answer(there, "getEmbedding", {"type": "tsne"}) == answer(
        there, "getEmbedding", {"type": "tsne", "config": full}
    )


def test_only_the_dimensions_asked_for_count(answer):
    values, _ = blobs()
    noisy = np.concatenate([values, 100 * np.random.default_rng(1).normal(size=(200, 3))], axis=1)
    parts = {"misc": Misc(num_pcs=6)}
    assert answer(computed_from(noisy, **parts), "getEmbedding", COMPUTED[2]) == answer(
        computed_from(values, **parts), "getEmbedding", COMPUTED[2]
    )


@pytest.mark.parametrize(
    ("n", "metric"), [(1, "cosine"), (2, "cosine"), (2, "euclidean"), (3, "cosine"), (29, "euclidean")]
)
def test_few_cells_have_a_umap_too(answer, n, metric):
    values, _ = blobs(n)
    got = answer(computed_from(values), "getEmbedding", {"type": "umap", "config": {"distanceMetric": metric}})
    assert np.isfinite(np.array(got[::2], float)).all()
    assert len(got) == 2 * n - 1


@pytest.mark.parametrize("request_", COMPUTED)
def test_cells_that_are_equal_have_a_place(answer, request_):
    values = np.repeat([[1.0, 2, 3], [0, 0, 0]], 40, axis=0)
    got = answer(computed_from(values), "getEmbedding", request_)
    assert np.isfinite(np.array(got[::2], float)).all()


def test_a_perplexity_that_is_too_large_is_refused_with_the_largest(answer):
    values, _ = blobs(80)
    there = computed_from(values)
    with pytest.raises(
        WorkerError, match=r"body\.config\.perplexity: 30 is too large for 80 cells.*at most 26\.3"
    ) as caught:
        answer(there, "getEmbedding", {"type": "tsne", "config": {}})
    assert caught.value.code is ErrorCode.INVALID_INPUT
    assert len(answer(there, "getEmbedding", {"type": "tsne", "config": {"perplexity": 26.3}})) == 159


@pytest.mark.parametrize("request_", COMPUTED)
def test_without_the_active_reduction_nothing_is_computed(answer, request_):
    there = small_experiment(reductions={"harmony": Reduction(np.zeros((4, 3)))})
    with pytest.raises(
        WorkerError, match="'pca', which embeddings are computed from, is missing: it has harmony"
    ) as caught:
        answer(there, "getEmbedding", request_)
    assert caught.value.code is ErrorCode.REDUCTION_NOT_FOUND
    gaps, _ = blobs(10)
    gaps[3] = np.nan
    with pytest.raises(WorkerError, match="no coordinates for 1 of 10 cells"):
        answer(computed_from(gaps), "getEmbedding", request_)


@pytest.mark.parametrize("values", [np.zeros((9, 0)), np.full((9, 2), 1e30)])
def test_a_reduction_that_cannot_be_used_is_refused(answer, values):
    with pytest.raises(WorkerError, match="has no dimensions, or coordinates above") as caught:
        answer(computed_from(values), "getEmbedding", COMPUTED[0])
    assert caught.value.code is ErrorCode.EXPERIMENT_UNREADABLE


@pytest.fixture(scope="module")
def sketched():
    values, group = blobs(600)
    sketch = values.copy()
    sketch[np.arange(600) % 4 > 0] = np.nan
    reductions = {"pca.sketch": Reduction(sketch), "pca": Reduction(values)}
    there = computed_from(values, misc=Misc(active_reduction="pca.sketch"))
    there.reductions = reductions
    return there, values, group


def test_where_there_is_a_sketch_its_umap_takes_in_all_cells(answer, sketched):
    there, values, group = sketched
    layout = np.array(answer(there, "getEmbedding", COMPUTED[1])[::2])[::-1]
    centre = np.stack([layout[group == g].mean(axis=0) for g in range(3)])
    assert (np.argmin(((layout[:, None] - centre) ** 2).sum(axis=2), axis=1) == group).mean() > 0.99
    assert quality.trustworthiness(values, layout) > 0.8


def test_a_tsne_is_of_all_cells_sketch_or_not(answer, sketched):
    there, values, _ = sketched
    assert answer(there, "getEmbedding", COMPUTED[2]) == answer(computed_from(values), "getEmbedding", COMPUTED[2])


@pytest.mark.parametrize("request_", COMPUTED)
@pytest.mark.parametrize("of_a_sketch", [False, True])
def test_progress_rises_through_named_stages_and_can_stop_it(answer, sketched, request_, of_a_sketch):
    there = sketched[0] if of_a_sketch else computed_from(sketched[1])
    told = []
    answer(there, "getEmbedding", request_, progress=lambda stage, fraction=None: told.append((stage, fraction)))
    fractions = [fraction for _, fraction in told]
    assert all(a <= b + 1e-9 for a, b in pairwise(fractions))
    assert fractions[0] == 0
    assert 0.9 < fractions[-1] <= 1
    stages = list(dict.fromkeys(stage for stage, _ in told))
    placed = ["Placing all cells"] if of_a_sketch and request_["type"] == "umap" else []
    assert stages == ["Finding neighbours", "Laying out the cells", *placed]

    def stop(stage, fraction=None):
        if stage == stages[-1] and fraction > 0.5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        answer(there, "getEmbedding", request_, progress=stop)


@pytest.mark.parametrize(
    ("body", "lane"),
    [
        ({"type": "umap", "config": {"minimumDistance": 0.3}}, "long"),
        ({"type": "tsne"}, "long"),
        ({"type": "umap", "useSaved": True}, "short"),
        ({"type": "pca"}, "short"),
        ({"type": "images"}, "short"),
    ],
)
def test_stored_embeddings_do_not_wait_behind_computed_ones(body, lane):
    task = TASKS["GetEmbedding"]
    assert task.lane_of(task.read_body(body)) == lane
    request = task.prepare(PrepareInput(task.read_body(body), None, CellSets.empty()))
    assert task.lane_of_request(msgspec.json.encode(request)) == lane


@pytest.mark.parametrize("request_text", [b'{"type": 5}', b"{}", b"no JSON", b'{"type": "umap", "use_saved": 1}'])
def test_a_request_that_will_be_refused_is_so_at_once(request_text):
    assert TASKS["GetEmbedding"].lane_of_request(request_text) == "short"


def judge_layout(opened, folder, case, answer):
    """The layout is at least nearly as faithful as R's: trustworthiness and kept neighbours within 0.02."""
    golden = goldens.read(folder, case)
    experiment = opened.experiment
    space = experiment.reductions["pca"].values[:, : experiment.misc.num_pcs]
    if golden["request"]["config"].get("distanceMetric") == "cosine":
        space = space / np.linalg.norm(space, axis=1, keepdims=True)
    ids = experiment.cell_ids
    ours = answer(experiment, "getEmbedding", golden["request"])
    assert len(ours) == experiment.max_cell_id + 1
    ours, theirs = (np.array([found[i] for i in ids], float) for found in (ours, golden["response"]))
    assert quality.trustworthiness(space, ours) > quality.trustworthiness(space, theirs) - 0.02, case
    assert quality.preservation(space, ours) > quality.preservation(space, theirs) - 0.02, case


@pytest.mark.parametrize("case", ["umap-cosine", "umap-euclidean", "tsne", "tsne-lr10"])
def test_maps_are_as_faithful_as_the_originals(pbmcsmall, answer, case):
    judge_layout(pbmcsmall, goldens.PBMCSMALL, f"GetEmbedding-{case}", answer)


@pytest.mark.shared
def test_the_map_of_a_larger_experiment_is_as_faithful_as_the_originals(larger, answer):
    judge_layout(*larger, "GetEmbedding-umap-cosine", answer)


# --- images ---


def test_cells_are_placed_as_on_their_image(answer):
    image = TissueImage(np.array([2, 0, 1], np.int32), np.array([[10.0, 20], [30, 40], [50, 60]]), 0.5)
    there = small_experiment(cell_ids=np.array([5, 0, 3, 2], np.int32), images={"slice": image})
    assert answer(there, "getEmbedding", {"type": "images"}) == [[25, 30], None, None, [5, 10], None, [15, 20]]


def test_a_cell_on_several_images_has_all_its_points(answer):
    images = {
        "a": TissueImage(np.array([1, 0, 1], np.int32), np.array([[1.0, 2], [3, 4], [5, 6]])),
        "b": TissueImage(np.array([3, 1], np.int32), np.array([[7.0, 8], [9, 10.5]]), 2.0),
    }
    there = small_experiment(cell_ids=np.array([5, 0, 3, 2], np.int32), images=images)
    got = answer(there, "getEmbedding", {"type": "images", "use_saved": True})
    assert got == [[1, 2, 5, 6, 18, 21], None, [14, 16], None, None, [3, 4]]
    tables = TASKS["GetEmbedding"].to_tables(got)
    assert tables["cells"] == {"cell_id": [0, 0, 0, 2, 5], "x": [1, 5, 18, 14, 3], "y": [2, 6, 21, 16, 4]}


def test_without_images_that_is_reported(answer):
    with pytest.raises(WorkerError, match="holds no images") as caught:
        answer(small_experiment(), "getEmbedding", {"type": "images"})
    assert caught.value.code is ErrorCode.REDUCTION_NOT_FOUND
