"""What the file knows of its cells, and what is asked of some of them: columns, scores, summaries, subsets, results."""

import csv
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import expect
from tests.explorer.conftest import Worker, looking, serving
from tests.explorer.seeing import Explorer

from cellworker import open_experiment

CELLS, GENES = 240, 3000
BLUE, ROSE = "#4477aa", "#cc6677"
"""The first two of the palette."""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with columns of every kind, three groups of cells, and scanpy's tests of them."""
    random = np.random.default_rng(11)
    kind = np.arange(CELLS) % 3
    means = random.gamma(1, 1, (3, GENES))
    counts = random.poisson(means[kind]).astype(np.float32)
    data = anndata.AnnData(np.log1p(counts), layers={"counts": counts})
    data.var_names = [f"GENE{i}" for i in range(GENES)]
    data.obs_names = [f"cell{i}" for i in range(CELLS)]
    score = random.normal(size=CELLS)
    score[:20] = np.nan
    data.obs["cell_type"] = pd.Categorical([("alpha", "beta", "gamma")[i] for i in kind])
    data.obs["quality"] = score
    data.obs["treated"] = random.random(CELLS) < 0.25
    days = pd.Timestamp("2024-03-01") + pd.to_timedelta(np.arange(CELLS) % 90, unit="D")
    data.obs["taken"] = days.strftime("%Y-%m-%d")
    data.obsm["X_umap"] = np.c_[10 * kind, np.zeros(CELLS)] + random.normal(size=(CELLS, 2))
    data.obsm["X_pca"] = np.c_[10 * kind, random.normal(size=(CELLS, 9))]
    genes = np.array([tuple(f"GENE{g * 10 + i}" for g in range(3)) for i in range(10)], [(n, "O") for n in "abc"])
    numbers = np.array([tuple(9.0 - i - g / 4 for g in range(3)) for i in range(10)], [(n, "f4") for n in "abc"])
    data.uns |= {
        "log1p": {"base": None},
        "rank_genes_groups": {
            "params": {"groupby": "cell_type", "method": "wilcoxon", "reference": "rest"},
            "names": genes, "scores": numbers, "logfoldchanges": numbers, "pvals": numbers,
            "pvals_adj": numbers,
        },
    }  # fmt: skip
    path = tmp_path_factory.mktemp("columns") / "columns.h5ad"
    data.write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def engine(file: Path) -> Any:
    return open_experiment(file)


@pytest.fixture(scope="module")
def served(browser, file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with serving(file, tmp_path_factory.mktemp("data")) as worker:
        yield worker


@pytest.fixture
def page(browser, served: Worker) -> Iterator[Explorer]:
    with looking(browser, served.url) as explorer:
        explorer.open()
        yield explorer
    served.forget_changes()


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as content:
        return list(csv.DictReader(content))


def column(page: Explorer, name: str):
    return page.page.locator(f'[data-column="{name}"]')


def colour(page: Explorer, name: str) -> None:
    page.tab("Columns")
    page.page.get_by_label(f"Colour the map by {name}", exact=True).click()
    page.shows(name)


# 2
def test_every_kind_of_column_colours_the_map(page: Explorer, file: Path):
    obs = anndata.read_h5ad(file, backed="r").obs
    colour(page, "treated")
    for answer, number in (("true", int(obs["treated"].sum())), ("false", int((~obs["treated"]).sum()))):
        expect(page.legend().get_by_role("button", name=re.compile(f"^{answer}"))).to_contain_text(str(number))
    shares = page.count(BLUE), page.count(ROSE)
    assert 0 < shares[0] < shares[1], "a quarter of the cells was treated"
    page.legend().get_by_role("button", name=re.compile("^false")).click()
    expect(page.page.locator(".legend .hidden")).to_have_count(1)
    assert page.count(ROSE) < 0.05 * shares[1]
    page.page.reload()
    page.shows("treated")
    expect(page.page.locator(".legend .hidden")).to_have_count(1)
    page.button("show all").click()

    colour(page, "quality")
    low, high = obs["quality"].min(), obs["quality"].max()
    for end in (low, high):
        expect(page.legend().locator(".ends")).to_contain_text(f"{end:.3g}")
    assert page.count("#440154") + page.count("#fde725") > 0
    colour(page, "taken")
    expect(page.legend().locator(".ends")).to_contain_text("2024-03-01")
    expect(page.legend().locator(".ends")).to_contain_text("2024-05-29")


def test_a_column_selects_cells_and_becomes_cell_sets(page: Explorer, served: Worker, file: Path):
    obs = anndata.read_h5ad(file, backed="r").obs
    page.tab("Columns")
    column(page, "treated").get_by_role("button", name="treated", exact=True).click()
    column(page, "treated").get_by_role("button", name=re.compile("^true")).click()
    page.footer(f"{int(obs['treated'].sum())} cells selected")
    column(page, "treated").get_by_role("button", name="Make cell sets of it").click()
    expect(page.button("Undo: make treated (U)")).to_be_enabled()
    made = {item["name"]: item["cellIds"] for item in served.cell_sets()["treated"]["children"]}
    assert made["true"] == np.flatnonzero(obs["treated"]).tolist()


# 5
def test_violins_are_the_engines_summaries(page: Explorer, engine, tmp_path):
    page.tab("Columns")
    column(page, "quality").get_by_role("button", name="quality", exact=True).click()
    column(page, "quality").get_by_role("button", name="Add to the plots").click()
    figure = page.page.locator(".figure").first
    expect(figure).to_contain_text("quality")
    found = rows_of(page.download(figure.get_by_role("button", name="CSV"), tmp_path))
    cells = engine.cells
    for row in found:
        values = cells["quality"][cells["cell_type"] == row["group"]].to_numpy(float)
        assert int(row["missing"]) == int(np.isnan(values).sum())
        assert float(row["mean"]) == pytest.approx(np.nanmean(values), rel=1e-5)
        assert float(row["quantile_0.5"]) == pytest.approx(np.nanmedian(values), rel=1e-5)
    assert [row["group"] for row in found] == ["alpha", "beta", "gamma"]
    assert figure.locator("path[fill-opacity]").count() == 3, "a shape for each group"
    page.choose("Plot", "histogram")
    counts = rows_of(page.download(figure.get_by_role("button", name="CSV"), tmp_path))
    assert sum(int(row["alpha"]) for row in counts) == int(
        cells["quality"][cells["cell_type"] == "alpha"].notna().sum()
    )

    page.evaluate(MANY_SETS)
    page.page.reload()
    page.choose("Plot", "violin")
    page.choose("Groups", "clones")
    expect(page.page.locator("aside.right .hint").first).to_contain_text("The 100 largest of 120 groups are plotted")
    found = rows_of(page.download(figure.get_by_role("button", name="CSV"), tmp_path))
    assert [row["group"] for row in found] == [f"clone {i}" for i in range(100)], "of two cells each, the others of one"
    page.page.get_by_label("Plot groups whose names hold").fill("clone 11")
    page.page.keyboard.press("Enter")
    for plot in ("dots", "heatmap", "composition"):
        page.choose("Plot", plot)
        expect(figure).to_be_visible()
    expect(page.page.locator("aside.right .hint").first).to_contain_text(
        "11 with “clone 11” in their names are plotted"
    )
    page.page.get_by_label("Largest groups plotted").fill("2")
    page.page.keyboard.press("Enter")
    page.choose("By", "cell_type")
    by_type = page.page.get_by_label("Share of clones in 3 groups of cell_type")
    expect(by_type, "what is said of a class with many sets holds for no other").to_be_visible()


def test_a_drag_over_a_histogram_selects_a_range_in_either_direction(page: Explorer, file: Path):
    quality = anndata.read_h5ad(file, backed="r").obs["quality"].to_numpy()
    shares = (quality - np.nanmin(quality)) / (np.nanmax(quality) - np.nanmin(quality))
    page.tab("Columns")
    column(page, "quality").get_by_role("button", name="quality", exact=True).click()
    chart = page.page.get_by_role("application", name=re.compile("^quality"))
    box = chart.bounding_box()
    for begin, end in ((0.2, 0.6), (0.6, 0.2)):
        page.page.keyboard.press("Escape")
        page.page.mouse.move(box["x"] + begin * box["width"], box["y"] + 20)
        page.page.mouse.down()
        page.page.mouse.move(box["x"] + end * box["width"], box["y"] + 20, steps=4)
        page.page.mouse.up()
        page.footer(f"{int(((shares >= 0.2) & (shares <= 0.6)).sum())} cells selected")
        chart.press("Shift+ArrowRight")
        page.footer(f"{int(((shares >= 0.2) & (shares <= 0.625)).sum())} cells selected")


MANY_SETS = """async () => {
  const children = Array.from({ length: 120 }, (_, i) => ({
    key: `clone-${i}`, name: `clone ${i}`, color: "#4477aa", rootNode: false,
    cellIds: i < 100 ? [2 * i, 2 * i + 1] : [100 + i],
  }));
  const value = { key: "clones", name: "clones", rootNode: true, type: "cellSets", children };
  const body = JSON.stringify([{ $insert: { index: 0, value } }]);
  await fetch("./v2/experiments/columns/cellSets", { method: "PATCH", body });
}"""


# 10
def test_some_cells_are_clustered_and_mapped_alone(page: Explorer, served: Worker, tmp_path):
    before = served.cell_sets()
    alpha = next(item for item in before["cell_type"]["children"] if item["name"] == "alpha")
    page.button("alpha").click()
    page.footer(f"{CELLS // 3} cells selected")
    page.tab("Clusters")
    page.page.get_by_label("Of which cells").first.select_option("selection")
    page.page.get_by_label("Resolution", exact=True).fill("1.5")
    page.button("Cluster these cells").click()
    page.shows("louvain of selection")
    made = served.cell_sets()["louvain of selection"]["children"]
    assert len(made) > 1
    assert sorted(cell for item in made for cell in item["cellIds"]) == sorted(alpha["cellIds"])
    assert {name: item for name, item in served.cell_sets().items() if name in before} == before

    page.page.get_by_label("Of which cells").nth(1).select_option("selection")
    page.button("Show their map").click()
    expect(page.page.locator(".map").nth(1).locator(".t")).to_contain_text("UMAP of selection")
    expect(page.page.locator(".map").nth(1).locator(".state")).to_have_count(0)
    page.shows("louvain of selection", 2)
    page.page.locator(".map").nth(1).get_by_title("Points, names, pictures").click()
    picture = page.download(page.page.locator(".menu").get_by_role("button", name="SVG", exact=True), tmp_path)
    dots = "".join(path.get("d", "") for path in ET.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}path"))
    assert dots.count("M") == CELLS // 3, "only these cells have a place"
    page.page.reload()
    expect(page.page.locator(".map").nth(1).locator(".t")).to_contain_text("UMAP of selection")
    page.page.get_by_title("Text for the methods of a paper").click()
    text = page.page.get_by_label("Text for the methods of a paper").last.input_value()
    assert "principal components of these cells alone" in text


# 11
@pytest.mark.parametrize("method", ["seurat", "scanpy"])
def test_a_gene_set_is_scored_as_the_field_does(page: Explorer, engine, method):
    genes = [f"GENE{i}" for i in range(8)]
    page.tab("Scores")
    page.page.get_by_label("Genes", exact=True).fill(" ".join(genes))
    page.choose("Score", method)
    page.button("Keep and score").click()
    page.shows("Gene set 1")
    values = engine.call("ScoreGenes", genes=genes, method=method)["columns"][0]["values"]
    for end in (min(values), max(values)):
        expect(page.legend().locator(".ends")).to_contain_text(f"{end:.3g}")
    page.page.get_by_title("Text for the methods of a paper").click()
    said = page.page.get_by_label("Text for the methods of a paper").last.input_value()
    assert {"seurat": "AddModuleScore", "scanpy": "score_genes"}[method] in said
    assert "GENE7" in said


# 15
def test_results_that_the_file_brought_are_looked_through_and_taken_along(page: Explorer, tmp_path):
    page.tab("Results")
    expect(page.page.get_by_label("Result", exact=True)).to_contain_text("rank_genes_groups")
    expect(page.page.locator("aside.right .said").first).to_contain_text("tests of groups")
    page.page.get_by_label("Group of the result").select_option("b")
    expect(page.rows_shown("GENE10")).to_have_count(1)
    found = rows_of(page.download(page.page.locator(".bar").get_by_role("button", name="CSV"), tmp_path))
    assert [row["names"] for row in found] == [f"GENE{10 + i}" for i in range(10)]
    assert float(found[3]["scores"]) == pytest.approx(9 - 3 - 0.25)
    page.page.get_by_label("Filter rows").fill("gene13")
    expect(page.page.locator(".count")).to_contain_text("1 of 10 rows")
    page.page.locator(".stored").get_by_role("button", name="GENE13", exact=True).click()
    page.shows("GENE13")
