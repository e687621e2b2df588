"""What `cellworker check` tells about an experiment."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cellworker.formats.check.checking import check_experiment, render
from cellworker.formats.r.rds.build import doubles, integers, named_list, strings
from cellworker.formats.r.rds.model import RList
from cellworker.formats.r.rds.writer import write_rds
from cellworker.settings import Settings


@pytest.fixture
def stores(tmp_path) -> Settings:
    return Settings(store_dir=tmp_path / "stores", threads=1)


def cell_sets(**classes) -> bytes:
    """Make a file; each class a list of sets of ids."""
    return json.dumps({"cellSets": [
        {"key": key, "name": key, "rootNode": True, "type": "cellSets", "children": [
            {"key": f"{key}-{i}" if key != "sample" else f"s{i + 1}", "name": str(i), "color": None, "cellIds": ids}
            for i, ids in enumerate(sets)]}
        for key, sets in classes.items()]}).encode()  # fmt: skip


GOOD = {"louvain": [[5, 0, 3], [9, 1, 2]], "scratchpad": [], "sample": [[5, 0, 3, 7], [9, 1, 2]]}


@pytest.fixture
def check(tmp_path, stores):
    """Write an object with its cell sets, and check it."""

    def run(root, sets=None):
        folder = tmp_path / "experiment"
        folder.mkdir(exist_ok=True)
        write_rds(root, folder / "r.rds")
        (folder / "cell_sets.json").write_bytes(cell_sets(**GOOD) if sets is None else sets)
        return check_experiment(folder, stores)

    return run


def fields(report, severity):
    return [problem.field for problem in report.problems if problem.severity == severity]


def test_a_sound_experiment_has_no_problems(check, trees):
    report = check(trees.platform())
    assert (report.status, report.problems) == (0, [])
    assert (report.contents["cells"], report.contents["genes"], report.contents["samples"]) == (6, 4, 2)
    assert report.contents["stored values"] == np.count_nonzero(trees.counts)
    assert report.contents["cell sets"] == {"louvain": 2, "scratchpad": 0, "sample": 2}
    assert 0 < report.memory["mapped"] < 1
    assert report.memory["private"] > 50


def test_the_second_check_reports_the_same_from_the_store(check, trees):
    assert check(trees.seurat()) == check(trees.seurat())


def test_every_stand_in_of_a_users_own_object_is_reported(check, trees):
    report = check(trees.seurat())
    assert report.status == 0
    assert {"meta.data cells_id", "misc gene_annotations", "misc color_pool", "dispersions"} <= set(
        fields(report, "note")
    )


def test_missing_columns_name_the_request_that_will_be_refused(check, trees):
    root = trees.seurat(**{"meta.data": trees.metadata(my_percent_mt=doubles([1] * 6))})
    advice = {problem.field: problem.advice for problem in check(root).problems}
    assert advice["meta.data doublet_scores"] == "GetDoubletScore will be refused"
    assert advice["meta.data percent.mt"].endswith("if my_percent_mt holds it, copy that column to percent.mt")


def test_every_problem_of_an_object_that_cannot_be_served_is_reported_at_once(check, trees):
    counts = trees.sparse(trees.counts)
    counts.slots["p"] = integers([0])
    root = trees.seurat(**{
        "assays": named_list({"RNA": trees.assay(counts=counts)}),
        "meta.data": trees.metadata(cells_id=integers([0, 0, 1, 2, 3, 4])), "reductions": RList([]),
    })  # fmt: skip
    report = check(root)
    assert report.status == 1
    assert fields(report, "error") == ["assay RNA counts, slot p", "meta.data cells_id"]
    assert fields(report, "warning") == ["reductions"]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"not an rds file", "saveRDS"), (b"", ""), (b"X\n\0\0\0\3", ""), (None, "no file or folder")],
)
def test_what_cannot_be_read_at_all_has_status_2(tmp_path, stores, content, words):
    path = tmp_path / "r.rds"
    if content is not None:
        path.write_bytes(content)
    report = check_experiment(path, stores)
    assert report.status == 2
    assert len(report.problems) == 1
    assert words in report.problems[0].found
    assert "Traceback" not in render(report)


def test_an_object_of_another_class_has_status_1(check, trees):
    report = check(named_list({"a": doubles([1])}))
    assert report.status == 1
    assert "a list of 1" in report.problems[0].found


def test_strange_values_are_reported(check, trees):
    data, counts = trees.data.copy(), trees.counts.copy()
    data[0, 0], data[1, 1], counts[0, 0] = np.nan, -1, 2.5
    root = trees.platform()
    ids = ["ENSG1", "ENSG2", "ENSG3", "ENSG4"]
    root.slots["assays"] = named_list(
        {"RNA": trees.assay(counts=trees.sparse(counts, ids), data=trees.sparse(data, ids))}
    )
    found = {problem.field: problem.found for problem in check(root).problems}
    assert found["assay RNA data"] == "1 missing, 1 negative values"
    assert found["assay RNA counts"] == "1 values that are no whole numbers"


def test_an_object_without_pca_and_without_counts_is_warned_of(check, trees, stores, tmp_path):
    assay = trees.assay(counts=trees.empty())
    report = check(trees.seurat(assays=named_list({"RNA": assay}), reductions=RList([])))
    assert "assay RNA counts" in fields(report, "warning")
    assert "reductions" not in fields(report, "warning")
    assert {"reductions pca", "reductions umap"} <= set(fields(report, "note")), "they are made"
    report = check_experiment(tmp_path / "experiment", replace(stores, make_missing=False))
    assert {"assay RNA counts", "reductions"} <= set(fields(report, "warning"))
    assert report.status == 0


def test_ensembl_ids_without_symbols_are_warned_of(check, trees):
    root = trees.platform()
    root.slots["misc"] = RList([])
    assert "cell-type annotation" in next(p.advice for p in check(root).problems if p.field == "genes")


@pytest.mark.parametrize(
    ("sets", "status", "words"),
    [
        (b"{", 1, "JSON"),
        (cell_sets(louvain=[["x"]]), 1, "cellIds"),
        (cell_sets(**GOOD | {"louvain": [[100, 101]], "sample": []}), 1, "none is in the object"),
        (cell_sets(**GOOD | {"louvain": [[5, 0, 3], [9, 1, 2, 77, 78]]}), 0, "2 cells that are not in the object"),
        (cell_sets(**GOOD | {"louvain": [[5, 0, 3]]}), 0, "3 of 6 cells in no cluster"),
        (cell_sets(louvain=GOOD["louvain"], scratchpad=[]), 0, "no class sample"),
        (cell_sets(**GOOD | {"sample": [[5, 0, 3]]}), 0, "no set for the samples s2 of the object"),
    ],
)  # fmt: skip
def test_cell_sets_that_do_not_fit_are_reported(check, trees, sets, status, words):
    report = check(trees.platform(), sets)
    assert report.status == status
    assert any(words in problem.found for problem in report.problems), render(report)


def test_repeated_keys_are_reported(check, trees):
    sets = json.loads(cell_sets(**GOOD))
    sets["cellSets"][0]["children"][1]["key"] = "louvain-0"
    report = check(trees.platform(), json.dumps(sets).encode())
    assert any(problem.found == "repeated keys: louvain-0" for problem in report.problems)


def test_the_report_for_people_names_contents_memory_and_problems(check, trees):
    root = trees.platform()
    root.slots["meta.data"] = trees.metadata(
        cells_id=integers([5, 0, 3, 9, 1, 2]), samples=strings(["s1"] * 3 + ["s2"] * 3)
    )
    text = render(check(root))
    assert text.splitlines()[0].endswith("experiment: can be served (2 warnings)")
    assert "  cells             6\n" in text
    assert "memory to serve" in text
    assert (
        "warning: meta.data percent.mt\n  found     no such column\n  expected  one number from 0 up per cell\n" in text
    )


def test_the_report_for_programs_is_json(check, trees):
    report = json.loads(check(trees.seurat()).to_json())
    assert report["status"] == 0
    assert report["contents"]["cells"] == 6
    assert {"field", "found", "expected", "advice", "severity", "code"} == report["problems"][0].keys()


@pytest.mark.shared
def test_the_experiments_of_the_platform_are_sound(shared, stores):
    report = check_experiment(Path(shared / "data" / "experiments" / "pbmcsmall" / "v5"), stores)
    assert (report.status, report.problems) == (0, [])
