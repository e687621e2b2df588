"""One test for each thing that a biologist must be able to do on the page, what is asked for most often first."""

import csv
import gzip
import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Route, expect
from tests.explorer.conftest import Worker, looking, serving
from tests.explorer.seeing import Explorer, pixels_of

from cellworker import open_experiment

TYPES = {"Monocyte": 178, "Macrophage": 189, "T cell": 85, "NK cell": 55, "B cell": 41}


@pytest.fixture(scope="module")
def engine(sample):
    return open_experiment(sample)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def colours(worker: Worker, name: str = "Cell type") -> dict[str, str]:
    return {item["name"]: item["color"] for item in worker.cell_sets()[name]["children"]}


# 1
def test_a_person_sees_the_map_and_zooms_selects_and_looks_at_cells(explorer: Explorer, worker: Worker):
    explorer.shows("Cell type")
    seen = {name: explorer.count(color) for name, color in colours(worker).items()}
    assert all(count > 50 for count in seen.values()), seen
    assert seen["Macrophage"] > seen["NK cell"] > 0, "more cells are more of the picture"

    explorer.draw_box(0.02, 0.1, 0.45, 0.9)
    explorer.footer("189 cells selected")
    explorer.draw_box(0.5, 0.1, 0.69, 0.62, key="Shift")
    selected = int(re.search(r"(\d+) cells selected", explorer.page.locator("footer").inner_text())[1])
    assert selected > 189
    explorer.draw_box(0.02, 0.1, 0.45, 0.9, key="Alt")
    explorer.footer(f"{selected - 189} cells selected")
    explorer.draw_lasso(0.2, 0.42, 0.15)
    explorer.footer("189 cells selected")

    drawn = int(explorer.canvas().get_attribute("data-drawn"))
    explorer.page.mouse.wheel(0, -600)
    explorer.page.wait_for_function(f"() => Number(document.querySelector('canvas').dataset.drawn) > {drawn}")
    assert explorer.count(colours(worker)["Macrophage"]) > 1.3 * seen["Macrophage"], "closer cells are larger"
    explorer.page.keyboard.press("f")
    explorer.page.keyboard.press("Escape")

    explorer.page.mouse.move(*explorer.point(0.2, 0.4))
    explorer.page.mouse.move(*explorer.point(0.2, 0.41), steps=12)
    expect(explorer.page.locator(".tip")).to_contain_text("Cell type: Macrophage")
    barcodes = worker.get("/v2/experiments/sample/barcodes")
    expect(explorer.page.locator(".tip b")).to_have_text(re.compile("|".join(filter(None, barcodes))))


# 2
def test_colours_are_any_class_gene_or_number_with_a_legend_that_hides_and_isolates(
    explorer: Explorer, worker: Worker, engine
):
    own = colours(worker)
    whole = explorer.count(own["Monocyte"])
    explorer.legend().get_by_role("button", name=re.compile("^Monocyte")).click()
    explorer.page.wait_for_function("() => document.querySelector('.legend .hidden')")
    assert explorer.count(own["Monocyte"]) < 0.05 * whole
    explorer.button("show all").click()
    expect(explorer.page.locator(".legend .hidden")).to_have_count(0)
    explorer.legend().get_by_role("button", name=re.compile("^B cell")).dblclick()
    expect(explorer.page.locator(".legend .hidden")).to_have_count(4)
    assert explorer.count(own["B cell"]) > 30
    assert explorer.count(own["Macrophage"]) < 20
    explorer.button("show all").click()

    result = engine.call("GeneExpression", genes=["CD3D"])
    explorer.tab("Genes")
    explorer.page.get_by_label("Find a gene", exact=True).fill("cd3d")
    explorer.page.keyboard.press("Enter")
    explorer.shows("CD3D")
    expect(explorer.legend()).to_contain_text(f"{result['rawExpression']['ptr'][1]} of 548 cells express it")
    assert explorer.count("#08306b") > 0, "the strongest cells are darkest"

    explorer.page.get_by_label("Find a gene", exact=True).fill("LYZ")
    explorer.page.locator(".gene-row button.gene", has_text=re.compile("^LYZ$")).click(modifiers=["Shift"])
    explorer.shows("CD3D and LYZ")
    expect(explorer.legend()).to_contain_text("both")

    explorer.colour_by("Mitochondrial reads, %")
    explorer.shows("Mitochondrial reads")
    values = [v for v in engine.call("GetMitochondrialContent") if v is not None]
    expect(explorer.legend()).to_contain_text(f"{max(values):.3g}".rstrip("0").rstrip("."))


# 3
def test_two_selections_are_compared_in_all_genes_and_the_table_is_the_engines(
    explorer: Explorer, worker: Worker, engine, tmp_path
):
    key = next(s["key"] for s in worker.cell_sets()["Cell type"]["children"] if s["name"] == "T cell")
    right = engine.call("DifferentialExpression", cellSet=key, compareWith="background", basis="all")["data"]
    explorer.compare("T cell")
    expect(explorer.page.locator(".said")).to_contain_text("All 9,810 genes, every cell (85 against 463)")
    order = sorted(range(9810), key=lambda i: (right["p_val_adj"][i], -abs(right["auc"][i] - 0.5)))
    assert [row[0] for row in explorer.rows()[:8]] == [right["gene_names"][i] for i in order[:8]]
    first = explorer.rows()[0]
    assert float(first[1]) == pytest.approx(right["logFC"][order[0]], abs=0.006)
    assert float(first[5]) == pytest.approx(right["auc"][order[0]], abs=0.0006)

    explorer.page.get_by_role("columnheader", name="log FC").get_by_role("button").click()
    strongest = int(np.argmax(right["logFC"]))
    expect(explorer.page.locator(".table tbody tr").first).to_contain_text(right["gene_names"][strongest])
    explorer.page.get_by_label("Filter genes").fill("trbc")
    kept = [name for name in right["gene_names"] if "TRBC" in name.upper()]
    expect(explorer.page.locator(".count")).to_contain_text(f"{len(kept)} of 9,810 genes")
    explorer.page.get_by_label("Filter genes").fill("")
    rows = read_csv(explorer.download(explorer.page.locator(".count").get_by_role("button", name="CSV"), tmp_path))
    assert len(rows) == 9810
    by_gene = {row["id"]: row for row in rows}
    for i in range(0, 9810, 97):
        found = by_gene[right["Gene"][i]]
        assert float(found["p_val"]) == right["p_val"][i]
        assert float(found["logFC"]) == right["logFC"][i]


def test_a_lasso_is_compared_without_becoming_a_set_and_samples_are_compared_by_counts(
    explorer: Explorer, worker: Worker, engine
):
    before = worker.cell_sets()
    explorer.draw_box(0.02, 0.1, 0.45, 0.9)
    explorer.footer("189 cells selected")
    explorer.page.keyboard.press("a")
    explorer.page.keyboard.press("c")
    expect(explorer.page.locator(".said")).to_contain_text("(189 against 359)")
    key = next(s["key"] for s in before["Cell type"]["children"] if s["name"] == "Macrophage")
    right = engine.call("DifferentialExpression", cellSet=key, compareWith="background", basis="all")["data"]
    best = min(range(9810), key=lambda i: (right["p_val_adj"][i], -abs(right["auc"][i] - 0.5)))
    assert explorer.rows()[0][0] == right["gene_names"][best]
    assert worker.cell_sets() == before

    groups = [item["name"] for item in before["Group"]["children"]]
    explorer.page.keyboard.press("Escape")
    explorer.page.locator("[data-class]", has_text="Group").locator(".fold").click()
    for which, name in zip("ab", groups, strict=True):
        explorer.set_row(name).hover()
        explorer.page.keyboard.press(which)
        expect(explorer.page.locator(f".box.{which.upper()}")).to_contain_text(name)
    explorer.button("samples").click()
    explorer.page.keyboard.press("c")
    expect(explorer.page.locator(".said")).to_contain_text("counts summed by sample")


def test_all_clusters_are_compared_at_once(explorer: Explorer):
    explorer.button("all clusters").click()
    explorer.page.keyboard.press("c")
    expect(explorer.page.locator(".volcano")).to_be_visible()
    options = explorer.page.locator(".field.wide option").all_inner_texts()
    assert options == list(TYPES)
    explorer.page.locator(".field.wide select").select_option("2")
    expect(explorer.page.locator(".said").last).to_contain_text("(85 against 463)")


# 4
def test_the_volcano_picks_genes_for_table_and_map(explorer: Explorer):
    explorer.compare("T cell")
    volcano = explorer.page.locator(".volcano")
    box = volcano.bounding_box()
    explorer.page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + 6)
    explorer.page.mouse.down()
    explorer.page.mouse.move(box["x"] + box["width"] - 4, box["y"] + box["height"] * 0.45, steps=6)
    explorer.page.mouse.up()
    expect(explorer.page.locator(".count")).to_contain_text(re.compile(r"^\d+ of 9,810 genes"))
    rows = explorer.rows()
    assert rows
    assert all(float(row[1]) > 1 for row in rows), "what was picked lies on the right"
    explorer.page.locator(".table tbody tr").first.hover()
    expect(explorer.page.locator(".volcano .lit text")).to_have_text(rows[0][0])
    explorer.page.locator(".table tbody tr").first.click()
    explorer.shows(rows[0][0])
    explorer.button("show all, not only those picked").click()
    expect(explorer.page.locator(".count")).to_contain_text("9,810 genes")


# 5
def test_plots_show_genes_and_composition_by_group(explorer: Explorer, worker: Worker, engine, tmp_path):
    explorer.tab("Genes")
    for gene in ("CD3D", "LYZ"):
        explorer.page.get_by_label("Find a gene", exact=True).fill(gene)
        explorer.page.get_by_label(f"Add {gene} to the plots", exact=True).click()
    explorer.tab("Plots")
    figures = explorer.page.locator(".figure")
    expect(figures).to_have_count(2)
    rows = read_csv(explorer.download(figures.first.get_by_role("button", name="CSV"), tmp_path))
    assert {row["group"]: int(row["cells"]) for row in rows} == TYPES
    members = {s["name"]: s["cellIds"] for s in worker.cell_sets()["Cell type"]["children"]}
    raw = engine.call("GeneExpression", genes=["CD3D"])["rawExpression"]
    dense = np.zeros(raw["size"][0])
    dense[raw["index"]] = raw["values"]
    for row in rows:
        assert float(row["mean"]) == pytest.approx(dense[members[row["group"]]].mean(), rel=1e-5)
    explorer.choose("Plot", "dots")
    expect(figures.first.locator("circle")).to_have_count(10)
    explorer.choose("Plot", "heatmap")
    expect(figures.first.locator("image")).to_have_count(1)
    explorer.choose("Plot", "histogram")
    expect(figures.first).to_contain_text(f"{int((dense > 0).sum())} of 548 cells express it")
    explorer.choose("Plot", "scatter")
    expect(figures.first).to_contain_text("LYZ against CD3D")
    explorer.choose("Plot", "composition")
    rows = read_csv(explorer.download(figures.first.get_by_role("button", name="CSV"), tmp_path))
    samples = {s["name"]: set(s["cellIds"]) for s in worker.cell_sets()["Samples"]["children"]}
    for row in rows:
        assert int(row["cells"]) == len(samples[row["Samples"]] & set(members[row["Cell type"]]))


# 6
def test_every_figure_is_png_and_svg_and_every_table_csv(explorer: Explorer, worker: Worker, tmp_path):
    def export(name: str) -> Path:
        explorer.page.get_by_title("Save pictures, labels, objects").click()
        return explorer.download(explorer.page.locator(".menu").get_by_role("button", name=name, exact=True), tmp_path)

    picture = ET.parse(export("SVG")).getroot()
    namespace = "{http://www.w3.org/2000/svg}"
    dots = "".join(path.get("d", "") for path in picture.iter(f"{namespace}path"))
    assert dots.count("M") == 548, "a dot for each cell"
    assert {text.text for text in picture.iter(f"{namespace}text")} >= set(TYPES)
    image = pixels_of(export("PNG").read_bytes())
    macrophage = np.array([int(colours(worker)["Macrophage"][i : i + 2], 16) for i in (1, 3, 5)])
    assert (np.abs(image - macrophage).max(axis=2) <= 3).sum() > 500

    explorer.compare("T cell")
    counts = explorer.page.locator(".count")
    assert (
        ET.parse(explorer.download(counts.get_by_role("button", name="SVG"), tmp_path)).getroot().tag
        == f"{namespace}svg"
    )
    assert pixels_of(explorer.download(counts.get_by_role("button", name="PNG"), tmp_path).read_bytes()).shape[0] == 600
    explorer.tab("Plots")
    figure = explorer.page.locator(".figure").first
    assert (
        ET.parse(explorer.download(figure.get_by_role("button", name="SVG"), tmp_path))
        .getroot()
        .find(f".//{namespace}path")
        is not None
    )
    assert pixels_of(explorer.download(figure.get_by_role("button", name="PNG"), tmp_path).read_bytes()).std() > 5


# 7
def test_sets_are_made_renamed_coloured_ordered_combined_and_taken_back(explorer: Explorer, worker: Worker, tmp_path):
    def own() -> dict[str, dict]:
        return {item["name"]: item for item in worker.cell_sets()["Custom cell sets"]["children"]}

    before = own()
    explorer.draw_box(0.02, 0.1, 0.45, 0.9)
    explorer.page.keyboard.press("n")
    expect(explorer.set_row("Selection 1")).to_be_visible()
    assert len(own()["Selection 1"]["cellIds"]) == 189
    explorer.button("Selection 1").dblclick()
    explorer.page.get_by_label("New name of Selection 1").fill("All macrophages")
    explorer.page.keyboard.press("Enter")
    expect(explorer.set_row("All macrophages")).to_be_visible()
    assert "All macrophages" in own()
    explorer.set_row("All macrophages").hover()
    explorer.button("What to do with All macrophages").click()
    explorer.page.locator(".menu input[type=color]").fill("#123456")
    expect(explorer.page.locator(".menu")).to_have_count(0)
    explorer.page.wait_for_function("() => document.querySelectorAll('.state.waiting').length === 0")
    expect(explorer.button("Undo: colour All macrophages (U)")).to_be_enabled()
    assert own()["All macrophages"]["color"] == "#123456"
    explorer.set_row("All macrophages").drag_to(explorer.set_row("Proliferating (MKI67)"))
    expect(explorer.button("Undo: move All macrophages (U)")).to_be_enabled()
    assert next(iter(own())) == "All macrophages"

    for _ in range(4):
        label = explorer.page.get_by_role("button", name=re.compile("^Undo: ")).get_attribute("aria-label")
        explorer.page.keyboard.press("u")
        expect(explorer.button(label)).to_have_count(0)
    assert own() == before
    explorer.page.keyboard.press("Shift+U")
    expect(explorer.set_row("Selection 1")).to_be_visible()

    explorer.page.get_by_text("Combine two sets").click()
    explorer.page.get_by_label("First set").select_option(label="T cell")
    explorer.page.get_by_label("How they are combined").select_option("union")
    explorer.page.get_by_label("Second set").select_option(label="B cell")
    explorer.button("Select").click()
    explorer.footer("126 cells selected")

    explorer.page.get_by_title("Save pictures, labels, objects").click()
    labels = read_csv(
        explorer.download(
            explorer.page.locator(".menu").get_by_role("button", name="Labels of all cells (.csv)"), tmp_path
        )
    )
    assert Counter(row["Cell type"] for row in labels) == TYPES
    assert sum("Selection 1" in row["Custom cell sets"] for row in labels) == 189
    explorer.page.get_by_title("Save pictures, labels, objects").click()
    file = explorer.download(explorer.page.locator(".menu").get_by_role("button", name="AnnData (.h5ad)"), tmp_path)
    found = anndata.read_h5ad(file)
    assert int(found.obs["custom_cellset-Selection 1"].sum()) == 189
    explorer.page.get_by_title("Save pictures, labels, objects").click()
    file = explorer.download(explorer.page.locator(".menu").get_by_role("button", name="Seurat (.rds)"), tmp_path)
    assert file.suffix == ".rds"
    with open_experiment(file) as again:
        marked = next(name for name in again.cells.columns if name.endswith("Selection 1"))
        assert int(again.cells[marked].astype(str).str.upper().isin(["TRUE", "1"]).sum()) == 189


# 8
def test_maps_stand_side_by_side_and_move_together(explorer: Explorer, worker: Worker):
    explorer.page.get_by_title("Add a map beside this one").click()
    expect(explorer.page.locator("main canvas")).to_have_count(2)
    explorer.colour_by("Samples", 2)
    explorer.shows("Samples", 2)
    explorer.shows("Cell type", 1)
    before = explorer.count(colours(worker)["Macrophage"])
    drawn = int(explorer.canvas(2).get_attribute("data-drawn"))
    explorer.page.mouse.move(*explorer.point(0.2, 0.42))
    explorer.page.mouse.wheel(0, -500)
    explorer.page.wait_for_function(f"() => Number(document.querySelectorAll('canvas')[1].dataset.drawn) > {drawn}")
    assert explorer.count(colours(worker)["Macrophage"]) > before
    explorer.page.locator(".map").nth(1).get_by_title("Choose the map").click()
    explorer.page.locator(".menu").get_by_role("button", name="pca", exact=True).click()
    expect(explorer.page.locator(".map").nth(1).locator(".t")).to_contain_text("PCA saved")
    explorer.page.locator(".map").nth(1).get_by_title("Choose the map").click()
    explorer.page.locator(".menu").get_by_label("Compute", exact=True).select_option("tsne")
    explorer.page.locator(".menu").get_by_role("button", name="Compute", exact=True).click()
    expect(explorer.page.locator(".map").nth(1).locator(".t")).to_contain_text("t-SNE computed")
    expect(explorer.page.locator(".map").nth(1).locator(".state")).to_have_count(0)
    explorer.shows("Samples", 2)


# 9
def test_a_view_is_shared_as_an_address_and_as_a_file(explorer: Explorer, browser, worker: Worker, tmp_path):
    explorer.compare("T cell")
    explorer.tab("Genes")
    explorer.page.get_by_label("Find a gene", exact=True).fill("GNLY")
    explorer.page.keyboard.press("Enter")
    explorer.shows("GNLY")
    explorer.draw_box(0.02, 0.1, 0.45, 0.9)
    explorer.footer("189 cells selected")
    explorer.page.wait_for_function("() => location.hash.includes('selected=') && location.hash.includes('GNLY')")
    address = explorer.evaluate("location.hash")
    explorer.page.get_by_title("Share this view").click()
    session = explorer.download(explorer.page.locator(".menu").get_by_role("button", name="Save session"), tmp_path)

    with looking(browser, worker.url) as again:
        again.open(address)
        again.shows("GNLY")
        again.footer("189 cells selected")
        expect(again.page.locator(".box.A")).to_contain_text("T cell · 85")
    with looking(browser, worker.url) as other:
        other.open("#map=saved~umap|gene~NOSUCHGENE&a=nothing")
        other.noted("does not have the gene “NOSUCHGENE”")
        other.page.evaluate("location.hash = '%%%&left=nowhere'")
        other.noted("The address has a part that cannot be read (the part “%%%”)")
        other.noted("does not have the choice left “nowhere”")
        other.page.get_by_title("Share this view").click()
        other.page.locator("input[type=file]").set_input_files(session)
        other.shows("GNLY")
        other.footer("189 cells selected")
        content = json.loads(session.read_text())
        content["experiment"]["key"] = "another"
        (tmp_path / "other.json").write_text(json.dumps(content))
        other.page.get_by_title("Share this view").click()
        other.page.locator("input[type=file]").set_input_files(tmp_path / "other.json")
        other.noted("belongs to another experiment")


# 10
def test_cells_are_clustered_at_another_resolution_and_that_is_taken_back(explorer: Explorer, worker: Worker):
    before = worker.cell_sets()["louvain clusters"]
    explorer.tab("Clusters")
    explorer.page.get_by_label("Resolution", exact=True).fill("3")
    explorer.page.keyboard.press("Enter")
    explorer.button("Cluster all cells").click()
    explorer.noted("louvain clusters: ")
    explorer.shows("louvain clusters")
    now = worker.cell_sets()["louvain clusters"]
    assert len(now["children"]) > len(before["children"])
    expect(explorer.legend().locator(".row")).to_have_count(min(14, len(now["children"])))
    explorer.page.keyboard.press("u")
    explorer.noted("Undone")
    assert worker.cell_sets()["louvain clusters"]["children"] == before["children"]


# 11
def test_a_pasted_list_of_genes_is_kept_and_scored(explorer: Explorer, engine):
    explorer.tab("Scores")
    explorer.page.get_by_label("Name", exact=True).fill("T cells")
    explorer.page.get_by_label("Genes", exact=True).fill("cd3d, TRBC2\nIL7R NOSUCH")
    explorer.choose("Score", "mean")
    expect(explorer.page.locator(".form .hint").first).to_contain_text("3 genes known; not in this experiment: NOSUCH")
    explorer.button("Keep and score").click()
    explorer.shows("T cells")
    raw = engine.call("GeneExpression", genes=["CD3D", "TRBC2", "IL7R"])["rawExpression"]
    score = np.zeros(raw["size"][0])
    np.add.at(score, raw["index"], np.array(raw["values"]) / 3)
    expect(explorer.legend().locator(".ends")).to_contain_text(f"{score.max():.3g}")
    explorer.page.reload()
    explorer.tab("Scores")
    expect(explorer.button("T cells")).to_be_visible()


# 12
def test_cells_are_gated_by_two_genes(explorer: Explorer, worker: Worker, engine):
    explorer.tab("Genes")
    explorer.page.get_by_text("Cells by thresholds on genes").click()
    explorer.page.get_by_label("Gene of threshold 1").fill("CD3D")
    explorer.page.get_by_label("Value of threshold 1").fill("0.5")
    explorer.button("And another gene").click()
    explorer.page.get_by_label("Gene of threshold 2").fill("NOSUCH")
    explorer.button("Make a set").click()
    expect(explorer.page.get_by_role("alert")).to_contain_text("no gene “NOSUCH”")
    explorer.page.get_by_label("Gene of threshold 2").fill("GNLY")
    explorer.page.get_by_label("Direction of threshold 2").select_option("lessThan")
    explorer.page.get_by_label("Value of threshold 2").fill("1")
    explorer.button("Make a set").click()
    expect(explorer.set_row("CD3D>0.5, GNLY<1")).to_be_visible()
    raw = engine.call("GeneExpression", genes=["CD3D", "GNLY"])
    dense = np.zeros(raw["rawExpression"]["size"])
    for g in range(2):
        part = slice(*raw["rawExpression"]["ptr"][g : g + 2])
        dense[raw["rawExpression"]["index"][part], g] = raw["rawExpression"]["values"][part]
    cd3d, gnly = (dense[:, raw["orderedGeneNames"].index(name)] for name in ("CD3D", "GNLY"))
    made = next(s for s in worker.cell_sets()["Custom cell sets"]["children"] if s["name"] == "CD3D>0.5, GNLY<1")
    assert set(made["cellIds"]) == set(np.flatnonzero((cd3d > 0.5) & (gnly < 1)).tolist())


def test_a_box_in_gene_against_gene_is_a_set_in_three_clicks(explorer: Explorer, worker: Worker, engine, tmp_path):
    explorer.page.keyboard.press("g")
    for gene in ("CD3D", "GNLY"):
        explorer.page.get_by_label("Find a gene", exact=True).fill(gene)
        explorer.page.keyboard.press("Shift+Enter" if gene == "GNLY" else "Enter")
    explorer.page.get_by_title("Gate: cells by two genes, one against the other (T)").click()  # 1
    expect(explorer.page.locator(".figure")).to_contain_text("GNLY against CD3D")
    box = explorer.page.locator(".figure .catch").bounding_box()
    mouse = explorer.page.mouse
    mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 4)
    mouse.down()  # 2
    mouse.move(box["x"] + box["width"] - 2, box["y"] + 0.5 * box["height"], steps=4)
    mouse.up()
    explorer.page.get_by_role("button", name="Make a set of").click()  # 3
    expect(explorer.set_row("Selection 1")).to_be_visible()
    cells = worker.cell_sets()["Custom cell sets"]["children"][-1]["cellIds"]
    raw = engine.call("GeneExpression", genes=["CD3D", "GNLY"])["rawExpression"]
    dense = np.zeros(raw["size"])
    for g in range(2):
        part = slice(*raw["ptr"][g : g + 2])
        dense[raw["index"][part], g] = raw["values"][part]
    assert cells
    assert (dense[cells] > 0).all(), "right and above of the middle both genes are expressed"


# 13
def test_types_and_cell_cycle_are_named_and_pseudotime_runs_from_roots_on_the_map(
    explorer: Explorer, worker: Worker, engine
):
    explorer.tab("Types")
    explorer.button("Score the cell cycle").click()
    explorer.shows("Phase")
    assert {s["name"] for s in worker.cell_sets()["Phase"]["children"]} <= {"G1", "S", "G2M"}
    explorer.button("Name the clusters").click()
    explorer.noted("ScType")
    typed = next(item for name, item in worker.cell_sets().items() if "ScType" in name)
    assert sum(len(item["cellIds"]) for item in typed["children"]) == 548
    explorer.shows(typed["name"])
    explorer.page.get_by_placeholder("Peripheral blood").fill("blood")
    explorer.button("Ask the language model").click()
    expect(explorer.page.locator("aside.right").get_by_role("alert")).to_contain_text(
        "CASSIA asks a language model, and none is set up here. ScType names cell types without one"
    )
    explorer.colour_by("Cell type")
    explorer.tab("Trajectory")
    explorer.button("Learn the trajectory").click()
    expect(explorer.page.locator(".trajectory .nodes")).to_have_count(1)
    said = explorer.page.locator(".panel .said")
    nodes = int(re.match(r"(\d+) nodes", said.inner_text())[1])
    place = explorer.evaluate(
        """() => { const box = document.querySelector('.overlay').getBoundingClientRect();
        const nodes = document.querySelector('.trajectory .nodes').getAttribute('d');
        const [x, y] = nodes.match(/M([\\d.]+) ([\\d.]+)/).slice(1);
        return [box.left + Number(x), box.top + Number(y)]; }"""
    )
    explorer.page.mouse.click(*place)
    expect(said).to_contain_text(f"{nodes} nodes, 1 chosen as roots")
    explorer.button("None").click()
    explorer.draw_box(0.02, 0.1, 0.45, 0.9)
    explorer.footer("189 cells selected")
    inside = explorer.evaluate(
        """() => { const box = document.querySelector('.overlay').getBoundingClientRect();
        const path = document.querySelector('.trajectory .nodes').getAttribute('d');
        const between = (value, low, high, size) => value > low * size && value < high * size;
        const within = ([, x, y]) => between(x, 0.02, 0.45, box.width) && between(y, 0.1, 0.9, box.height);
        return [...path.matchAll(/M([\\d.]+) ([\\d.]+)/g)].filter(within).length; }"""
    )
    explorer.button("Nodes in the lasso").click()
    expect(said).to_contain_text(f"{nodes} nodes, {inside} chosen as roots")
    explorer.page.keyboard.press("Escape")
    explorer.button("Compute pseudotime").click()
    explorer.shows("Pseudotime")
    expect(explorer.page.locator(".figure")).to_contain_text("along pseudotime")
    assert explorer.count("#440154") + explorer.count("#fde725") > 0

    # An answer about a trajectory that was removed meanwhile colours nothing.
    explorer.colour_by("Cell type")
    explorer.shows("Cell type")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if "PseudoTime" in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    explorer.page.route("**/workRequest/**", hold)
    explorer.button("Compute pseudotime").click()
    waiting = explorer.page.get_by_text("Computing pseudotime")
    expect(waiting).to_be_visible()
    explorer.button("Remove it from the map").click()
    expect(explorer.page.locator(".trajectory .nodes")).to_have_count(0)
    held[0].continue_()
    expect(waiting).to_have_count(0)
    explorer.shows("Cell type")


# 14
def test_cells_are_seen_over_the_image_of_their_tissue(browser, tmp_path):
    half = np.zeros((400, 400, 3), np.float32)
    half[:, :200], half[:, 200:] = (204 / 255, 51 / 255, 77 / 255), (51 / 255, 153 / 255, 230 / 255)
    library = {"images": {"hires": half}, "scalefactors": {"tissue_hires_scalef": 0.1}}
    counts = np.random.default_rng(5).poisson(2, (120, 40)).astype(np.float32)
    places = np.random.default_rng(6).uniform(100, 3900, (120, 2))
    data = anndata.AnnData(np.log1p(counts), layers={"counts": counts}, obsm={"spatial": places})
    data.obs["side"] = pd.Categorical(np.where(places[:, 0] < 2000, "left", "right"))
    data.obsm["X_umap"] = np.random.default_rng(7).normal(size=(120, 2))
    data.uns |= {"log1p": {"base": None}, "spatial": {"slice": library}}
    data.write_h5ad(tmp_path / "tissue.h5ad")
    with serving(tmp_path / "tissue.h5ad", tmp_path / "data") as worker, looking(browser, worker.url) as explorer:
        explorer.open()
        explorer.tab("Tissue")
        explorer.button("In its place").click()
        expect(explorer.page.locator(".t")).to_contain_text("Tissue")
        expect(explorer.page.locator(".map .state.waiting")).to_have_count(0)
        explorer.page.wait_for_function("() => document.querySelector('canvas').dataset.backdrop === '400 x 400'")
        image = pixels_of(explorer.canvas().screenshot())
        red, blue = ((np.abs(image - colour).max(axis=2) <= 2) for colour in ((204, 51, 77), (51, 153, 230)))
        assert red.sum() > 20_000 < blue.sum()
        assert np.flatnonzero(red.any(axis=0)).max() < np.flatnonzero(blue.any(axis=0)).min(), "red lies to the left"
        middle = (np.flatnonzero(red.any(axis=0)).max() + 1) / image.shape[1]
        explorer.draw_box(0.02, 0.15, middle, 0.98)
        explorer.footer(f"{int((places[:, 0] < 2000).sum())} cells selected")
        explorer.page.keyboard.press("Escape")
        explorer.page.get_by_label("Image", exact=True).fill("0")
        explorer.page.keyboard.press("Enter")
        explorer.page.get_by_title("Save pictures, labels, objects").click()
        picture = explorer.download(
            explorer.page.locator(".menu").get_by_role("button", name="SVG", exact=True), tmp_path
        )
        assert "data:image/png;base64," in picture.read_text()
        assert (np.abs(pixels_of(explorer.canvas().screenshot()) - (204, 51, 77)).max(axis=2) <= 2).sum() == 0


def test_the_matrix_of_the_selection_is_a_file(explorer: Explorer, tmp_path):
    explorer.draw_box(0.02, 0.1, 0.45, 0.9)
    explorer.footer("189 cells selected")
    explorer.page.get_by_title("Save pictures, labels, objects").click()
    press = explorer.page.locator(".menu").get_by_role("button", name="Expression of 189 selected cells (.csv.gz)")
    file = explorer.download(press, tmp_path)
    header = gzip.decompress(file.read_bytes()).split(b"\n", 1)[0]
    assert len(header.split(b",")) == 2 + 189
