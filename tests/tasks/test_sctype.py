"""ScTypeAnnotate: cell types by cluster as a class of cell sets."""

import gzip
import json
import uuid
from pathlib import Path

import numpy as np
import pytest

import goldens
from builders import cell_major, small_experiment
from cellworker.analysis.annotation.marker_scores import marker_weights, one_row_per_symbol
from cellworker.errors import ErrorCode, WorkerError
from cellworker.experiment.cell_sets import CellSets
from cellworker.experiment.count_layers import CountLayers
from cellworker.experiment.model import Genes, Origin, ScaledData
from cellworker.formats.common.marker_table import read_marker_table
from cellworker.formats.opening.open import open_experiment
from cellworker.gateway.core.cell_set_patches import examine
from cellworker.local.merge import merge_cell_sets
from cellworker.settings import Settings
from cellworker.tasks.catalog import TASKS
from cellworker.tasks.task import Context

TASK = TASKS["ScTypeAnnotate"]
TABLE = {
    "Blood": {
        "positive": {"T": ["CD3D", "CD3E"], "B": ["MS4A1", "CD79A"], "NK": ["NKG7", "GNLY"], "None": ["ZZZ1"]},
        "negative": {"B": ["CD3D"]},
    },
    "Skin": {"positive": {"K": ["KRT5"]}},
}
NAMES = ["Cd3d", "CD3E", "MS4A1", "CD79A", "NKG7", "OTHER"]
VALUES = [
    [2, 2, -1, -1, 0, 9],
    [1, 2, -1, -1, 0, 9],
    [-1, -1, 2, 2, 0, -9],
    [-1, -1, 2, 1, 0, -9],
    [0, 0, 0, 0, 0.1, 0],
]


def blood(names=NAMES, values=VALUES, **parts):
    values = np.array(values, np.float32)
    ids = [f"ENSG{i}" for i in range(len(names))]
    scaled = ScaledData(np.arange(len(names), dtype=np.int32), values)
    cell_ids = np.array([7, 1, 4, 0, 9], np.int32)
    parts = {"genes": Genes(ids, names, names), "scaled": scaled, "cell_ids": cell_ids} | parts
    return small_experiment(np.maximum(values, 0), **parts)


def louvain(*sets, **classes):
    children = [{"name": name, "cellIds": ids} for name, ids in sets]
    return {"louvain": {"key": "louvain", "name": "louvain clusters", "children": children}, **classes}


CLUSTERS = louvain(("Cluster 0", [0, 4]), ("Cluster 1", [1, 7, 1000]), ("Cluster 2", 9))


@pytest.fixture
def ask(answer):
    def ask(experiment=None, clusters=CLUSTERS, *, species="human", tissue="Blood", content=TABLE, **more):
        request = {"species": species, "tissue": tissue, "cellSets": clusters}
        more.setdefault("marker_table", json.dumps(content).encode)
        return answer(experiment or blood(), "ScTypeAnnotate", request, **more)

    return ask


def sets(value):
    return {child["name"]: child["cellIds"] for child in value["children"]}


def refused(code, ask, **more):
    with pytest.raises(WorkerError) as told:
        ask(**more)
    assert told.value.code is code
    return told.value.message


def test_each_cluster_gets_its_best_type(ask):
    got = ask()
    assert got["name"] == "ScType-Blood-human"
    assert (got["rootNode"], got["type"]) == (True, "cellSets")
    # In the order of first appearance, the cells in the object's order; a tenth is no quarter of a cell.
    assert list(sets(got).items()) == [("T", [7, 1]), ("B", [4, 0]), ("Unknown", [9])]
    for child in got["children"]:
        assert list(child) == ["key", "name", "rootNode", "type", "color", "cellIds"]
        assert uuid.UUID(child["key"])
    assert [child["color"] for child in got["children"]][:2] == ["#77aadd", "#ee8866"]
    assert len({child["color"] for child in got["children"]}) == 3


def test_clusters_of_one_name_are_one_and_cells_of_none_are_left_out(ask):
    clusters = louvain(("C", [0]), ("D", [1]), ("C", [4]))
    assert sets(ask(clusters=clusters)) == {"T": [1], "B": [4, 0]}


def test_cells_without_scaled_values_follow_their_cluster(ask):
    values = np.array(VALUES, np.float32)
    values[[1, 4]] = np.nan
    assert sets(ask(blood(values=values))) == {"T": [7, 1], "B": [4, 0], "Unknown": [9]}


def test_without_scaled_values_the_variable_genes_are_scaled(ask):
    values = [[2, 2, 0, 0, 0, 1], [2, 1, 0, 0, 0, 1], [0, 0, 2, 2, 0, 1], [0, 0, 2, 1, 0, 1], [0, 0, 0, 0, 3, 1]]
    assert sets(ask(blood(values=values, scaled=None))) == {"T": [7, 1], "B": [4, 0], "NK": [9]}


def test_a_marker_that_varies_less_than_2000_other_genes_is_not_looked_at(ask):
    """As in the original. CD3D is a little higher in the T cells; the other genes vary more, and none is a marker."""
    counts = np.random.default_rng(0).negative_binomial(0.05, 0.01, (40, 2300))
    counts[:, 0] = np.arange(40) % 2 + 20
    names = ["CD3D", *(f"G{i}" for i in range(2298)), "MS4A1"]
    counts[:, -1] = np.where(np.arange(40) % 2, 0, 900)
    ids = np.arange(40, dtype=np.int32)
    clusters = louvain(("A", ids[1::2].tolist()), ("B", ids[::2].tolist()))
    experiment = blood(names, np.log1p(counts), scaled=None, cell_ids=ids, counts=cell_major(counts))
    for original in (False, True):
        got = sets(ask(experiment, clusters, like_original=original))
        assert got == {"Unknown": ids[1::2].tolist(), "B": ids[::2].tolist()}
    with_all = blood(names[:1] + names[-1:], np.log1p(counts[:, [0, -1]]), scaled=None, cell_ids=ids)
    with_all.counts = cell_major(counts[:, [0, -1]])
    assert sets(ask(with_all, clusters)) == {"T": ids[1::2].tolist(), "B": ids[::2].tolist()}


def test_layers_of_split_counts_are_looked_at_one_by_one_as_seurat_5_does(ask):
    """CD3D is all that sets the layers apart: over all cells it varies most, within each layer not at all."""
    counts = np.random.default_rng(0).negative_binomial(0.05, 0.01, (40, 2300))
    first = np.arange(40) < 20
    counts[:, 0] = np.where(first, 1, 900)
    counts[:, -1] = np.where(np.arange(40) % 2, 0, 900)
    names = ["CD3D", *(f"G{i}" for i in range(2298)), "MS4A1"]
    ids = np.arange(40, dtype=np.int32)
    clusters = louvain(("A", ids[21::2].tolist()), ("B", ids[::2].tolist()))

    def experiment(layers=None):
        origin = Origin("own", count_layers=layers)
        return blood(names, np.log1p(counts), scaled=None, cell_ids=ids, counts=cell_major(counts), origin=origin)

    everywhere = np.empty(0, np.int64)
    assert sets(ask(experiment(), clusters)) == {"B": ids[::2].tolist(), "T": ids[21::2].tolist()}
    split = CountLayers.of(np.where(first, 0, 1), everywhere)
    assert sets(ask(experiment(split), clusters)) == {"B": ids[::2].tolist(), "Unknown": ids[21::2].tolist()}
    lacking = CountLayers.of(np.where(first, 0, 1), np.array([2299]))
    with pytest.raises(WorkerError, match="none of the marker genes"):
        ask(experiment(lacking), clusters)


def test_without_counts_the_normalised_values_tell_which_genes_vary(ask):
    values = [[2, 2, 0, 0, 0, 1], [2, 1, 0, 0, 0, 1], [0, 0, 2, 2, 0, 1], [0, 0, 2, 1, 0, 1], [0, 0, 0, 0, 3, 1]]
    experiment = blood(values=values, scaled=None)
    assert experiment.counts is None
    assert sets(ask(experiment)) == {"T": [7, 1], "B": [4, 0], "NK": [9]}


def test_one_cell_alone_cannot_be_scaled(ask):
    one = blood(values=[[1, 2, 0, 0, 0, 0]], scaled=None, cell_ids=np.array([0], np.int32))
    assert "one cell" in refused(ErrorCode.INVALID_INPUT, ask, experiment=one, clusters=louvain(("A", [0])))


def test_of_a_repeated_symbol_the_gene_with_the_highest_mean_counts(ask):
    names = ["CD3E", "cd3e", "MS4A1"]
    values = [[-2, 2, 1], [-2, 2, 1], [2, -2, 0], [2, -2, 0], [0, 0, 0]]
    dense = np.array([[0, 3, 1]] * 5, np.float32)
    experiment = blood(names, values)
    experiment.data = small_experiment(dense).data
    assert list(sets(ask(experiment))) == ["T", "Unknown"]
    # The original keeps the first.
    assert sets(ask(experiment, like_original=True))["T"] == [4, 0]


def test_the_species_is_in_the_name_alone(ask):
    got = ask(species="mouse")
    assert got["name"] == "ScType-Blood-mouse"
    assert sets(got) == sets(ask())


def test_what_is_not_known_is_refused_with_what_is(ask):
    assert "known are human and mouse" in refused(ErrorCode.INVALID_INPUT, ask, species="rat")
    assert "'Nowhere' is not known; known are Blood, Skin" in refused(ErrorCode.INVALID_INPUT, ask, tissue="Nowhere")
    assert "marker genes of 'Skin'" in refused(ErrorCode.INVALID_INPUT, ask, tissue="Skin")


@pytest.mark.parametrize("clusters", [{}, louvain(), louvain(("C", [])), louvain(("C", [1000]))])
def test_without_clusters_there_is_nothing_to_annotate(ask, clusters):
    assert "ClusterCells" in refused(ErrorCode.INVALID_INPUT, ask, clusters=clusters)


def test_genes_without_symbols_are_refused_in_the_originals_words(ask):
    golden = "Features file doesn't contain gene symbols."
    for names in (["ENSG1", "ENSG2", "ENSG3", "A", "B", "C"], [f"ENSMUSG{i}" for i in range(6)]):
        assert refused(ErrorCode.R_WORKER_NO_GENE_SYMBOLS, ask, experiment=blood(names)) == golden
    ask(blood(["ENSG1", "ENSG2", "MS4A1", "CD3D", "B", "C"]))
    experiment = blood(["ENSG1", "ENSG2", "ENSG3", "ENSG4", "B", "C"])
    symbols = Genes(NAMES, NAMES, experiment.genes.original_names)
    assert "among the scaled genes" in refused(ErrorCode.INVALID_INPUT, ask, experiment=blood(genes=symbols))


def test_without_a_table_the_error_is_the_tables(ask):
    assert "table of marker genes" in refused(ErrorCode.INVALID_INPUT, ask, marker_table=Context().marker_table)


def test_types_of_one_name_are_one_label(ask):
    content = {"Blood": {"positive": {"T": ["CD3D"], "Unknown": ["MS4A1"], "NK": ["NKG7"]}}}
    assert sets(ask(content=content)) == {"T": [7, 1], "Unknown": [4, 0, 9]}


def test_the_answer_does_not_depend_on_threads(ask):
    answers = [ask(threads=n) for n in (1, 2, 5)]
    assert sets(answers[0]) == sets(answers[1]) == sets(answers[2])
    assert len({item["key"] for item in answers}) == 1


def test_the_request_holds_the_clusters_and_the_names_of_the_rest(prepare):
    new = {"key": "k", "name": "n", "cellIds": [3]}
    classes = [{"key": key, "name": f"{key}!", "children": [new]} for key in ("louvain", "sample")]
    file = CellSets.parse(json.dumps({"cellSets": [*classes, {**classes[0], "children": []}]}).encode())
    request = prepare("ScTypeAnnotate", {"species": "human", "tissue": "Liver"}, file)
    assert (request.species, request.tissue) == ("human", "Liver")
    assert {key: (item.name, len(item.children)) for key, item in request.cell_sets.items()} == {
        "louvain": ("louvain!", 1), "sample": ("sample!", 0),
    }  # fmt: skip
    assert request.cell_sets["louvain"].children[0].cell_ids == [3]


def test_annotating_again_replaces_every_class_of_the_same_name(ask):
    stale = {key: {"key": key, "name": "ScType-Blood-human", "children": []} for key in ("u-1", 'u"2')}
    other = {"o": {"key": "o", "name": "ScType-Skin-human", "children": []}}
    got = ask(clusters={**CLUSTERS, **stale, **other})
    assert got["key"] == "u-1"
    operations = TASK.patch(json.dumps(got).encode())
    assert examine(operations).always
    file = {"cellSets": [{"key": "louvain", "name": "l", "children": []}, *stale.values(), *other.values()]}
    after = merge_cell_sets(file, operations)["cellSets"]
    assert [item["key"] for item in after] == ["louvain", "o", "u-1"]
    assert list(after[-1]) == ["key", "name", "rootNode", "type", "children"]


def test_a_first_annotation_comes_last_and_may_be_sent_twice(ask):
    first, second = ask(), ask()
    assert first["key"] == second["key"]
    assert uuid.UUID(first["key"])
    assert ask(species="mouse")["key"] != first["key"]
    operations = TASK.patch(json.dumps(first).encode())
    assert [next(iter(item)) for item in operations] == ["$match", "$append"]
    assert operations[0]["$match"] == {
        "query": f'$[?(@.key == "{first["key"]}")]', "value": {"$remove": True},
    }  # fmt: skip
    assert operations[1]["$append"] == first


def test_the_table_has_a_row_for_each_cell(ask):
    (rows,) = TASK.to_tables(ask()).values()
    assert dict(zip(rows["cell_id"], rows["cell_type"], strict=True)) == {7: "T", 1: "T", 4: "B", 0: "B", 9: "Unknown"}


@pytest.fixture
def published(shared):
    return (shared / "data" / "sctype" / "ScTypeDB_full.xlsx").read_bytes


def compare(answer, experiment, folder, case, published, *, exact):
    golden = goldens.read(folder, case)
    got = answer(experiment, "ScTypeAnnotate", golden["request"], marker_table=published, like_original=exact)
    want = golden["response"]
    assert got["name"] == want["name"]
    theirs = {child["name"]: goldens.many(child["cellIds"]) for child in want["children"]}
    if exact:
        assert list(sets(got).items()) == list(theirs.items())
        return
    label = {cell: name for name, cells in theirs.items() for cell in cells}
    same = [label[cell] == name for name, cells in sets(got).items() for cell in cells]
    assert len(same) == len(label)
    # Of the symbols that several genes have, ours are others: that moves a small cluster.
    assert np.mean(same) >= 0.97


@pytest.mark.shared
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("tissue", ["Brain", "Immune-system", "Liver"])
def test_cell_types_are_the_originals(answer, pbmcsmall, shared, published, tissue, exact):
    folder = shared / "golden" / "pbmcsmall"
    compare(answer, pbmcsmall.experiment, folder, f"ScTypeAnnotate-{tissue}", published, exact=exact)


@pytest.mark.shared
@pytest.mark.parametrize("tissue", ["Brain", "Immune-system", "Liver"])
def test_the_scores_of_every_cell_are_the_originals(larger, published, tissue):
    opened, folder = larger
    golden = goldens.read(folder, f"ScTypeAnnotate-{tissue}")
    types, scaled = read_marker_table(published())[golden["request"]["tissue"]], opened.experiment.scaled
    symbols = [opened.experiment.genes.original_names[gene].upper() for gene in scaled.genes.tolist()]
    kept = one_row_per_symbol(symbols, np.zeros(len(symbols)))
    weights = marker_weights(
        [symbols[row] for row in kept.tolist()], [item.positive for item in types], [item.negative for item in types]
    )
    found = golden["intermediate"]
    assert [types[k].name for k in weights.types.tolist()] == found["cell_types"]
    scores = weights.scores(scaled.values[:, kept[weights.rows]])
    np.testing.assert_allclose(scores.T, np.array(found["score_matrix"], float), atol=1e-5)  # values are float32


@pytest.mark.shared
@pytest.mark.parametrize("exact", [False, True])
def test_cell_types_of_a_larger_experiment_are_the_originals(answer, larger, published, exact):
    opened, folder = larger
    for case in goldens.names(folder, "ScTypeAnnotate"):
        compare(answer, opened.experiment, folder, case, published, exact=exact)


class WithoutScaled:
    """An experiment of which the scaled values were taken away."""

    scaled = None

    def __init__(self, experiment):
        self._experiment = experiment

    def __getattr__(self, name):
        return getattr(self._experiment, name)


SEURATS = json.loads(gzip.decompress((Path(__file__).parent.parent / "fixtures/seurat/sctype.json.gz").read_bytes()))


@pytest.mark.shared
@pytest.mark.parametrize("original", [False, True])
@pytest.mark.parametrize("name", SEURATS)
def test_without_scaled_values_each_cluster_is_called_what_seurats_values_say(
    answer, shared, published, tmp_path, name, original
):
    """Every tissue of the table, cluster by cluster: the genes are the original's in both modes."""
    folder = shared / "data" / "experiments" / name / "v4"
    experiment = WithoutScaled(open_experiment(folder, Settings(store_dir=tmp_path)).experiment)
    classes = json.loads((folder / "cell_sets.json").read_bytes())["cellSets"]
    clusters = next(item for item in classes if item["key"] == "louvain")
    request = {"species": "human", "cellSets": {"louvain": clusters}}
    compared = 0
    for tissue, want in SEURATS[name]["original" if original else "decided"].items():
        if not want:
            continue
        got = answer(
            experiment, "ScTypeAnnotate", {**request, "tissue": tissue}, marker_table=published, like_original=original
        )
        label = {cell: called for called, cells in sets(got).items() for cell in cells}
        for child in clusters["children"]:
            mine = {label[cell] for cell in child["cellIds"] if cell in label}
            assert mine == {want[child["key"]]["name"]}, (tissue, child["key"])
            compared += 1
    assert compared > 50


@pytest.mark.shared
@pytest.mark.parametrize("case", ["x-incomplete-clusters", "x-one-cell-cluster"])
def test_where_the_original_crashes_there_is_an_answer(answer, pbmcsmall, shared, published, case):
    golden = goldens.read(shared / "golden" / "pbmcsmall", f"ScTypeAnnotate-{case}")
    assert golden["error"]
    got = answer(pbmcsmall.experiment, "ScTypeAnnotate", golden["request"], marker_table=published)
    asked = golden["request"]["cellSets"]["louvain"]["children"]
    clustered = sum(len(goldens.many(child["cellIds"])) for child in asked)
    assert sum(map(len, sets(got).values())) == clustered
