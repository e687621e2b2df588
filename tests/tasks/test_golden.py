"""Every task answers the original's requests as the original did (pbmc_small, both classes of object)."""

import gzip
import json
from pathlib import Path

import pytest

from cellworker.errors import WorkerError

GOLDEN = Path(__file__).parent.parent / "fixtures" / "pbmcsmall" / "golden"
PATHS = {
    "GeneExpression": "runExpression",
    "ListGenes": "listGenes",
    "GetDoubletScore": "getDoubletScore",
    "GetMitochondrialContent": "getMitochondrialContent",
    "GetNGenes": "getNGenes",
    "GetNUmis": "getNUmis",
    "GetExpressionCellSets": "getExpressionCellSet",
    "GetNormalizedExpression": "GetNormalizedExpression",
    "GetEmbedding": "getEmbedding",
}
# judged beside the other tests of those tasks
ELSEWHERE = (
    "CellCycleScoring",
    "ClusterCells",
    "DifferentialExpression",
    "DotPlot",
    "DownloadAnnotSeuratObject",
    "GetBackgroundExpressedGenes",
    "MarkerHeatmap",
    "SNN",
    "TrajectoryPseudoTime",
    "TrajectoryStartingNodes",
    "pure",
)
NEEDS_ANOTHER_OBJECT = {"GetDoubletScore-missing-column", "GetDoubletScore-with-NA"}
# Stored values are float32: half a unit in their last place.
PRECISION = 6.1e-8


def cases(*tasks):
    names = sorted(path.name.split(".json")[0] for path in GOLDEN.iterdir())
    return [name for name in names if name.split("-")[0] in tasks and name not in NEEDS_ANOTHER_OBJECT]


def golden(case):
    plain = GOLDEN / f"{case}.json"
    return json.loads(
        plain.read_text() if plain.exists() else gzip.decompress((GOLDEN / f"{case}.json.gz").read_bytes())
    )


def ask(answer, opened, case):
    want = golden(case)
    return answer(opened.experiment, PATHS[case.split("-")[0]], want["request"]), want["response"]


def many(value):
    return value if isinstance(value, list) else [value]


def close(got, want, relative=2e-6, absolute=1e-7):
    got, want = many(got), many(want)
    assert [x is None for x in got] == [x is None for x in want]
    assert [x for x in got if x is not None] == pytest.approx(
        [x for x in want if x is not None], rel=relative, abs=absolute
    )


def succeeding(*tasks):
    return [case for case in cases(*tasks) if not golden(case).get("error")]


@pytest.mark.parametrize("case", succeeding("GeneExpression"))
def test_gene_expression_is_the_originals(answer, pbmcsmall, case):
    got, want = ask(answer, pbmcsmall, case)
    assert got["orderedGeneNames"] == want["orderedGeneNames"]
    assert got["cellIds"] == ([] if want["cellIds"] is None else many(want["cellIds"]))
    for name in ("rawMean", "rawStdev", "truncatedMin", "truncatedMax"):
        close(got["stats"][name], want["stats"][name])
    for name in ("index", "ptr", "size"):
        assert got["rawExpression"][name] == want["rawExpression"][name]
    close(got["rawExpression"]["values"], want["rawExpression"]["values"], PRECISION * 2, 0)


@pytest.mark.parametrize("case", succeeding("ListGenes"))
def test_the_gene_list_is_the_originals(answer, pbmcsmall, case):
    got, want = ask(answer, pbmcsmall, case)
    assert got["gene_results"]["gene_names"] == many(want["gene_results"]["gene_names"])
    close(got["gene_results"]["dispersions"], want["gene_results"]["dispersions"], 1e-12, 0)


@pytest.mark.parametrize("case", succeeding("GetDoubletScore", "GetMitochondrialContent", "GetNGenes", "GetNUmis"))
def test_cell_metadata_is_the_originals(answer, pbmcsmall, case):
    got, want = ask(answer, pbmcsmall, case)
    close(got, want, PRECISION * 2, 0)


@pytest.mark.parametrize("case", succeeding("GetExpressionCellSets"))
def test_expression_cell_sets_are_the_originals(answer, pbmcsmall, case):
    got, want = ask(answer, pbmcsmall, case)
    assert (got["name"], got["rootNode"], got["cellIds"]) == (want["name"], want["rootNode"], many(want["cellIds"]))
    assert list(got) == list(want)


# Computed ones are judged with the other tests of that task.
@pytest.mark.parametrize("case", [case for case in succeeding("GetEmbedding") if golden(case)["request"]["use_saved"]])
def test_a_saved_embedding_is_the_originals(answer, pbmcsmall, case):
    got, want = ask(answer, pbmcsmall, case)
    assert [x is None for x in got] == [x is None for x in want]
    for a, b in zip(got, want, strict=True):
        if b is not None:
            close(a, b, PRECISION * 2, 0)


@pytest.mark.parametrize("case", succeeding("GetNormalizedExpression"))
def test_the_normalised_matrix_is_the_originals(answer, pbmcsmall, case):
    path = answer(pbmcsmall.experiment, "GetNormalizedExpression", golden(case)["request"])
    csv = golden(case)["csv"]
    lines = gzip.decompress(path.read_bytes()).decode().removesuffix("\n").split("\n")
    assert len(lines) == csv["n_lines"]
    assert lines[0] == csv["lines"][0]
    table = [line.split(",") for line in lines[1:]], [line.split(",") for line in csv["lines"][1:]]
    for got, want in zip(*table, strict=True):
        assert got[:2] == want[:2]
        assert [x == "0" for x in got] == [x == "0" for x in want]
        close([float(x) for x in got[2:]], [float(x) for x in want[2:]], PRECISION * 2, 0)


@pytest.mark.parametrize("case", [case for case in cases(*PATHS) if ":|:" in golden(case).get("error", "")])
def test_errors_have_the_originals_code_and_words(answer, pbmcsmall, case):
    code, words = golden(case)["error"].split(":|:")
    with pytest.raises(WorkerError) as caught:
        ask(answer, pbmcsmall, case)
    assert (caught.value.code, caught.value.message) == (code, words)


def test_every_golden_is_looked_at():
    judged = set(succeeding(*PATHS)) | {case for case in cases(*PATHS) if golden(case).get("error")}
    lying_there = {path.name.split(".json")[0] for path in GOLDEN.iterdir()}
    assert judged == lying_there - NEEDS_ANOTHER_OBJECT - set(cases(*ELSEWHERE))
