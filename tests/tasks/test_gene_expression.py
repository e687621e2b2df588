"""GeneExpression beyond what the goldens show."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import small_experiment
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.model import Genes
from cellworker.protocol.value_json import encode
from cellworker.tasks.catalog import TASKS
from cellworker.tasks.task import Context

TASK = TASKS["GeneExpression"]


def spaced():
    """Four cells with ids 5, 0, 3, 2: 1 and 4 were removed."""
    return small_experiment(cell_ids=np.array([5, 0, 3, 2], np.int32))


def test_rows_are_cell_ids_and_removed_cells_are_empty(answer):
    got = answer(spaced(), "runExpression", {"genes": ["GENE1"]})
    assert got["rawExpression"] == {"values": [2.0, 1.0], "index": [0, 2], "ptr": [0, 2], "size": [6, 1]}
    assert got["cellIds"] == []


def test_given_cells_are_rows_in_their_order_repeated_or_removed(answer):
    got = answer(spaced(), "runExpression", {"genes": ["GENE1"], "cellIds": [2, 0, 4, 99, 2]})
    assert got["rawExpression"] == {"values": [1.0, 2.0, 1.0], "index": [0, 1, 4], "ptr": [0, 3], "size": [5, 1]}
    assert got["cellIds"] == [2, 0, 4, 99, 2]


def test_statistics_are_over_all_cells_whatever_is_asked(answer):
    everything = answer(spaced(), "runExpression", {"genes": ["GENE1"]})
    one = answer(spaced(), "runExpression", {"genes": ["GENE1"], "cellIds": [5]})
    assert one["stats"] == everything["stats"]
    assert everything["stats"]["rawMean"] == [0.75]
    assert everything["stats"]["rawStdev"] == [pytest.approx(np.std([0, 2, 0, 1], ddof=1))]


def test_no_cells_give_no_rows_and_one_cell_gives_arrays(answer):
    none = answer(spaced(), "runExpression", {"genes": ["GENE1"], "cellIds": []})
    assert none["rawExpression"] == {"values": [], "index": [], "ptr": [0, 0], "size": [0, 1]}
    one = answer(spaced(), "runExpression", {"genes": "GENE1", "cellIds": 0})
    assert one["rawExpression"] == {"values": [2.0], "index": [0], "ptr": [0, 1], "size": [1, 1]}
    assert one["cellIds"] == [0]


def test_genes_come_in_annotation_order_once_and_with_every_namesake(answer):
    experiment = small_experiment(genes=Genes(["i1", "i2", "i3"], ["Lyz", "CD3D", "LYZ"], ["Lyz", "CD3D", "LYZ"]))
    got = answer(experiment, "runExpression", {"genes": ["lyz", "cd3d", "LYZ", "nope"]})
    assert got["orderedGeneNames"] == ["Lyz", "CD3D", "LYZ"]


@pytest.mark.parametrize("ids", [[-1], [2**31], [1.5], ["3"], [None]])
def test_ids_that_are_no_ids_are_refused(answer, ids):
    with pytest.raises(WorkerError, match=r"request\.cellIds") as caught:
        answer(spaced(), "runExpression", {"genes": ["GENE1"], "cellIds": ids})
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_a_single_cell_has_no_deviation(answer):
    got = answer(small_experiment([[1.5]]), "runExpression", {"genes": ["GENE1"]})
    assert got["stats"] == {"rawMean": [1.5], "rawStdev": [None], "truncatedMin": [1.5], "truncatedMax": [1.5]}


@given(st.integers(0, 2**32 - 1))
def test_the_sparse_matrix_is_the_dense_one(seed):
    random = np.random.default_rng(seed)
    dense = np.where(random.random((200, 3)) < random.random(3), random.normal(size=(200, 3)), 0).astype(np.float32)
    ids = random.permutation(300)[:200].astype(np.int32)
    experiment = small_experiment(dense, cell_ids=ids)
    got = json.loads(encode(TASK.compute(experiment, TASK.request(genes=["GENE1", "GENE2", "GENE3"]), Context())))
    sparse = got["rawExpression"]
    back = np.zeros((sparse["size"][0], 3), np.float32)
    for gene in range(3):
        part = slice(sparse["ptr"][gene], sparse["ptr"][gene + 1])
        assert sparse["index"][part] == sorted(sparse["index"][part])
        back[sparse["index"][part], gene] = sparse["values"][part]
    np.testing.assert_array_equal(back[ids], dense)
    assert back.shape[0] == ids.max() + 1


def cell_sets():
    def one(key, classes):
        return {"key": key, "name": key, "children": [{"key": k, "name": k, "cellIds": v} for k, v in classes.items()]}

    return CellSets.parse(
        json.dumps(
            {
                "cellSets": [
                    one("louvain", {"l0": list(range(3000)), "l1": list(range(3000, 4000))}),
                    # Sets that overlap, and cells 4000 to 4999 that quality control removed.
                    one("track", {"t0": list(range(2500)), "t1": list(range(2000, 5000))}),
                    one("scratchpad", {}),
                ]
            }
        ).encode()
    )


def test_a_sample_has_at_most_a_thousand_cells_of_every_combination_each_once(prepare):
    settings = {"selectedCellSet": "track", "groupedTracks": ["louvain", "track"]}
    ids = prepare("GeneExpression", {"genes": ["A"], "downsampleSettings": settings}, cell_sets()).cell_ids
    assert len(ids) == len(set(ids))
    buckets = [range(2500), range(2500, 3000), range(3000, 4000)]
    assert [sum(i in bucket for i in ids) for bucket in buckets] == [1000, 500, 1000]
    assert max(ids) < 4000


def test_a_sample_is_repeatable_and_differs_between_settings(prepare):
    def ids(tracks, genes):
        settings = {"selectedCellSet": "louvain", "groupedTracks": tracks}
        return prepare("GeneExpression", {"genes": genes, "downsampleSettings": settings}, cell_sets()).cell_ids

    assert ids(["louvain"], ["A"]) == ids(["louvain"], ["B"])
    assert set(ids(["louvain"], ["A"])) != set(ids(["louvain", "louvain"], ["A"]))


def test_no_cells_or_no_tracks_are_an_empty_sample(prepare):
    for settings in ({"selectedCellSet": "scratchpad", "groupedTracks": ["louvain"]}, {"selectedCellSet": "louvain"}):
        assert prepare("GeneExpression", {"genes": ["A"], "downsampleSettings": settings}, cell_sets()).cell_ids == []


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"selectedCellSet": "nope", "groupedTracks": []}, "selectedCellSet"),
        ({"selectedCellSet": "louvain", "groupedTracks": ["nope"]}, "groupedTracks"),
        ({"groupedTracks": ["louvain"]}, "selectedCellSet"),
    ],
)
def test_unknown_keys_are_named(prepare, settings, field):
    with pytest.raises(WorkerError, match=rf"body\.downsampleSettings\.{field}"):
        prepare("GeneExpression", {"genes": ["A"], "downsampleSettings": settings}, cell_sets())


def test_given_cells_and_all_cells_need_no_sample(prepare):
    assert prepare("GeneExpression", {"genes": ["A"], "downsampleSettings": {"cellIds": [4, 2]}}).cell_ids == [4, 2]
    request = prepare("GeneExpression", {"genes": ["A"]})
    assert request.cell_ids is None


def test_cell_sets_are_read_only_where_a_sample_is_drawn():
    def reads(body):
        return TASK.reads_cell_sets(TASK.read_body({"genes": [], **body}))

    assert not reads({})
    assert not reads({"downsampleSettings": {"cellIds": [1]}})
    assert reads({"downsampleSettings": {"selectedCellSet": "louvain"}})


def test_tables_name_genes_and_cells(answer):
    tables = TASK.to_tables(answer(spaced(), "runExpression", {"genes": ["GENE1", "GENE2"]}))
    assert tables["genes"]["gene"] == ["GENE1", "GENE2"]
    assert tables["expression"]["gene"] == ["GENE1", "GENE1", "GENE2", "GENE2"]
    assert tables["expression"]["cell_id"] == [0, 2, 2, 5]
    tables = TASK.to_tables(answer(spaced(), "runExpression", {"genes": ["GENE1"], "cellIds": [3, 2]}))
    assert tables["expression"] == {"gene": ["GENE1"], "cell_id": [2], "value": [1.0]}
