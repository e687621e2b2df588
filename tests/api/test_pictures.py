"""cellworker.pl: what is on the pictures, of an AnnData and of an experiment alike."""

import itertools
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

import cellworker as cw
from cellworker import ErrorCode, WorkerError

plt = pytest.importorskip("matplotlib.pyplot")
colors = pytest.importorskip("matplotlib.colors")

OWN = ["#101010", "#20aa20", "#3030ff", "#ff4040"]


pytestmark = pytest.mark.usefixtures("drawing")


@pytest.fixture(scope="module")
def adata():
    from tests.api.conftest import make

    made = make(300, 60)
    made.uns["group_colors"] = OWN
    random = np.random.default_rng(1)
    centres = np.array([[0, 0], [6, 0], [0, 6], [6, 6]])
    made.obsm["X_umap"] = (centres[made.obs["group"].cat.codes] + random.normal(size=(300, 2))).astype(np.float32)
    made.obs["depth"] = np.asarray(made.layers["counts"].sum(axis=1)).ravel()
    cw.pp.pca(made, 8)
    return made


@pytest.fixture(scope="module")
def experiment(adata):
    with cw.open(adata, sample="sample") as opened:
        yield opened


@pytest.fixture(params=["adata", "experiment"])
def source(request):
    """Either of the two: what a picture shows must not depend on it."""
    return request.getfixturevalue(request.param)


def faces(collection):
    return [colors.to_hex(color) for color in collection.get_facecolors()]


def legend_of(ax):
    legend = ax.get_legend()
    return {
        text.get_text(): handle.get_color()
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
    }


def boxes(texts):
    return [text.get_window_extent() for text in texts]


def overlapping(texts):
    return [(a, b) for a, b in itertools.combinations(boxes(texts), 2) if a.overlaps(b)]


def test_a_map_has_a_point_per_cell_in_the_colour_of_its_group(source, adata):
    ax = cw.pl.embedding(source, "group")
    [cloud] = ax.collections
    assert len(cloud.get_offsets()) == 300
    expected = {
        tuple(np.round(place, 4)): OWN[code]
        for place, code in zip(adata.obsm["X_umap"].astype(float), adata.obs["group"].cat.codes, strict=True)
    }
    drawn = {
        tuple(np.round(place, 4)): face for place, face in zip(cloud.get_offsets().tolist(), faces(cloud), strict=True)
    }
    assert drawn == expected
    assert legend_of(ax) == dict(zip(["g0", "g1", "g2", "g3"], OWN, strict=True))
    assert (ax.get_xlabel().casefold(), ax.get_ylabel().casefold()) == ("umap 1", "umap 2")


def test_a_map_of_a_gene_has_its_values_as_colours_the_highest_on_top(source, adata):
    ax = cw.pl.embedding(source, "gene3", limits=(0, 5), cmap="magma")
    [cloud] = ax.collections
    values = adata[:, "gene3"].X.toarray().ravel()
    order = np.argsort(values, kind="stable")
    np.testing.assert_allclose(cloud.get_offsets(), adata.obsm["X_umap"][order], rtol=1e-6)
    np.testing.assert_allclose(cloud.get_facecolors(), plt.get_cmap("magma")(np.clip(values[order] / 5, 0, 1)))
    assert [other.get_ylabel() for other in ax.figure.axes] == [ax.get_ylabel(), "gene3"]


def test_a_map_of_numbers_and_of_nothing(source):
    assert [bar.get_ylabel() for bar in cw.pl.embedding(source, "depth").figure.axes][1:] == ["depth"]
    plain = cw.pl.embedding(source)
    assert set(faces(plain.collections[0])) == {"#888888"}
    assert plain.get_legend() is None


def test_axes_go_in_and_out(source):
    figure, (left, right) = plt.subplots(1, 2)
    assert cw.pl.embedding(source, "group", ax=left, legend="none") is left
    assert cw.pl.violin(source, "gene1", "group", ax=right) is right
    assert len(figure.axes) == 2
    assert len(plt.get_fignums()) == 1


def test_names_on_the_map_do_not_cover_each_other(adata):
    crowded = adata.copy()
    names = [f"a long name of a kind of cells, number {i}" for i in range(24)]
    crowded.obs["kind"] = pd.Categorical([names[i % 24] for i in range(300)], categories=names)
    ax = cw.pl.embedding(crowded, "kind", legend="on")
    assert sorted(text.get_text() for text in ax.texts) == sorted(names)
    ax.figure.canvas.draw()
    assert overlapping(ax.texts) == []


def test_other_colours_can_be_asked_for(source):
    ax = cw.pl.embedding(source, "group", palette={"g1": "orange"})
    assert legend_of(ax) == {"g0": OWN[0], "g1": "orange", "g2": OWN[2], "g3": OWN[3]}


def test_violins_have_the_groups_order_and_colours(source, adata):
    ax = cw.pl.violin(source, "gene2", "group", groups=["g3", "g0"], points=True)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["g3", "g0"]
    first, second, bars, middles, cloud = ax.collections
    assert [faces(body)[0] for body in (first, second)] == [OWN[3], OWN[0]]
    values = {name: adata[adata.obs["group"] == name, "gene2"].X.toarray().ravel() for name in ("g3", "g0")}
    np.testing.assert_allclose(middles.get_offsets()[:, 1], [np.median(values["g3"]), np.median(values["g0"])])
    np.testing.assert_allclose(bars.get_segments()[0][:, 1], np.quantile(values["g3"], [0.25, 0.75]))
    assert len(cloud.get_offsets()) == len(values["g3"]) + len(values["g0"])


def test_dots_are_as_large_as_the_share_of_cells_that_express(source, adata):
    genes = {"first": ["gene1", "gene2"], "second": ["gene9"]}
    ax = cw.pl.dotplot(source, genes, "group")
    dots = ax.collections[0]
    assert len(dots.get_offsets()) == 4 * 3
    frame = adata.to_df()[["gene1", "gene2", "gene9"]].groupby(adata.obs["group"].to_numpy())
    shares = frame.agg(lambda values: (values > 0).mean()).to_numpy().ravel()
    np.testing.assert_allclose(dots.get_sizes(), 120 * shares)
    np.testing.assert_allclose(dots.get_array(), frame.mean().to_numpy().ravel(), rtol=1e-5)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["gene1", "gene2", "gene9"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["g0", "g1", "g2", "g3"]
    assert [text.get_text() for text in ax.texts] == ["first", "second"]
    scaled = cw.pl.dotplot(source, genes, "group", scale=True).collections[0].get_array().reshape(4, 3)
    np.testing.assert_allclose([scaled.min(axis=0), scaled.max(axis=0)], [[0, 0, 0], [1, 1, 1]], atol=1e-12)


def test_a_heat_map_has_cells_group_by_group_below_their_colours(source, adata):
    ax = cw.pl.heatmap(source, ["gene1", "gene5"], "group", values="expression")
    order = np.argsort(adata.obs["group"].cat.codes, kind="stable")
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_allclose(shown, adata.to_df()[["gene1", "gene5"]].to_numpy()[order].T, rtol=1e-6)
    [strip] = ax.child_axes
    found = [colors.to_hex(color) for color in np.asarray(strip.images[0].get_array())[0]]
    assert found == [OWN[code] for code in adata.obs["group"].cat.codes.iloc[order]]
    few = cw.pl.heatmap(source, "gene1", "group", max_cells=40)
    assert 36 <= few.images[0].get_array().shape[1] <= 40
    assert np.abs(few.images[0].get_array()).max() <= 2.5


def test_the_bars_of_a_composition_add_up(source, adata):
    ax = cw.pl.composition(source, "sample", "group")
    expected = pd.crosstab(adata.obs["group"], adata.obs["sample"], normalize="columns")
    heights = [[bar.get_height() for bar in container] for container in ax.containers]
    np.testing.assert_allclose(heights, expected)
    assert [colors.to_hex(container[0].get_facecolor()) for container in ax.containers] == OWN
    tops = [bar.get_y() + bar.get_height() for bar in ax.containers[-1]]
    np.testing.assert_allclose(tops, 1)
    assert [text.get_text() for text in ax.get_xticklabels()] == [f"s{i}" for i in range(6)]
    counted = cw.pl.composition(source, "sample", "group", counts=True)
    assert sum(bar.get_height() for container in counted.containers for bar in container) == 300


@pytest.fixture(scope="module")
def table():
    """Tests of 400 genes, the best close together."""
    random = np.random.default_rng(0)
    fold = np.concatenate([random.normal(0, 0.4, 360), random.normal(2, 0.05, 20), random.normal(-2, 0.05, 20)])
    logs = np.concatenate([-random.uniform(0, 1, 360), -random.uniform(20, 21, 40)])
    genes = [f"gene{i}" for i in range(400)]
    return pd.DataFrame({"gene": genes, "log_fold_change": fold, "log10_p_adj": logs, "p_val_adj": 10.0**logs})


def test_a_volcano_names_the_best_genes_without_overlap(table):
    ax = cw.pl.volcano(table, label=12)
    [cloud] = [one for one in ax.collections if len(one.get_offsets()) == 400]
    assert faces(cloud).count("#cc4455") == faces(cloud).count("#3377bb") == 20
    best = table.sort_values("log10_p_adj")["gene"][:12]
    assert {text.get_text() for text in ax.texts} == set(best)
    ax.figure.canvas.draw()
    assert overlapping(ax.texts) == []
    points = ax.transData.transform(table[table["gene"].isin(best)][["log_fold_change", "log10_p_adj"]] * [1, -1])
    assert not any(box.contains(*point) for box in boxes(ax.texts) for point in points)


def test_a_volcano_of_p_values_that_underflow_keeps_every_gene(table):
    zero = table.drop(columns="log10_p_adj").assign(
        p_val_adj=lambda frame: frame["p_val_adj"].where(frame.index < 399, 0)
    )
    ax = cw.pl.volcano(zero, label=["gene399"])
    heights = ax.collections[0].get_offsets()[:, 1]
    assert len(heights) == 400
    assert np.isfinite(heights).all()
    assert [text.get_text() for text in ax.texts] == ["gene399"]


def test_a_volcano_takes_tests_from_wherever_they_are(adata, experiment):
    tested = adata.copy()
    cw.tl.rank_genes_groups(tested, "group", reference="g1")
    of_adata = cw.pl.volcano(tested, "g0", label=3)
    of_experiment = cw.pl.volcano(experiment, "g0", "g1", label=3)
    of_table = cw.pl.volcano(experiment.compare("g0", "g1"), label=3)
    assert (of_adata.get_title(), of_experiment.get_title()) == ("g0", "g0 vs g1")
    assert {text.get_text() for text in of_table.texts} == {text.get_text() for text in of_experiment.texts}
    assert len(of_adata.collections[0].get_offsets()) == 60
    cw.tl.pseudobulk(tested, "treated", sample="sample", group="yes", reference="no")
    assert len(cw.pl.volcano(tested, key="pseudobulk").collections[0].get_offsets()) > 0


def test_a_trajectory_is_on_its_layout(adata, experiment):
    learned = adata.copy()
    cw.tl.trajectory(learned)
    cw.tl.pseudotime(learned, 0)
    graph = experiment.trajectory()
    experiment.pseudotime(0)
    assert len(graph.links) == len(learned.uns["trajectory"]["links"])
    for source in (learned, experiment):
        ax = cw.pl.trajectory(source)
        cloud, links, nodes = ax.collections[:3]
        assert len(cloud.get_offsets()) == 300
        assert len(links.get_segments()) == len(graph.links)
        np.testing.assert_allclose(nodes.get_offsets(), learned.uns["trajectory"]["nodes"], rtol=1e-5)
        assert {text.get_text() for text in ax.texts} <= {str(i) for i in range(len(graph.nodes))}
        assert len(ax.texts) > 1
        ax.figure.canvas.draw()
        assert overlapping(ax.texts) == []
        assert ax.figure.axes[-1].get_ylabel() == "pseudotime"
        assert len(cw.pl.trajectory(source, nodes="all").texts) > len(ax.texts)
        assert len(cw.pl.trajectory(source, nodes="none").texts) == 0


@pytest.fixture(scope="module")
def spatial(adata):
    made = adata.copy()
    made.obsm["spatial"] = np.stack(np.divmod(np.arange(300), 20), axis=1) * 100.0
    made.uns["spatial"] = {
        "slice": {
            "images": {"hires": np.ones((150, 200, 3))},
            "scalefactors": {"tissue_hires_scalef": 0.1, "spot_diameter_fullres": 60.0},
        }
    }
    return made


def test_a_tissue_has_spots_of_their_size_on_its_picture(spatial):
    with cw.open(spatial) as opened:
        for source in (spatial, opened):
            ax = cw.pl.tissue(source, "group")
            [spots] = ax.collections
            np.testing.assert_allclose(spots.get_offsets(), spatial.obsm["spatial"] * 0.1)
            np.testing.assert_allclose(spots.get_widths(), 6)
            assert faces(spots) == [OWN[code] for code in spatial.obs["group"].cat.codes]
            assert ax.images[0].get_array().shape == (150, 200, 3)
            assert ax.yaxis_inverted()
            assert ax.get_aspect() == 1
    plain = cw.pl.tissue(spatial, "gene1", image=False, size=4)
    assert len(plain.images) == 0
    assert set(plain.collections[0].get_sizes()) == {4}


def test_files_are_fit_for_a_paper(source, tmp_path):
    ax = cw.pl.embedding(source, "group", legend="on")
    first, second = (cw.pl.save(ax, tmp_path / name) for name in ("a.svg", "b.svg"))
    assert first.read_bytes() == second.read_bytes()
    text = "{http://www.w3.org/2000/svg}text"
    written = {"".join(node.itertext()).strip() for node in ET.parse(first).getroot().iter(text)}
    assert {"g0", "g1", "g2", "g3", "group"} <= written
    pdf = cw.pl.save(ax, tmp_path / "a.pdf").read_bytes()
    assert re.search(rb"/Subtype /(TrueType|Type0|CIDFontType2)", pdf)
    assert b"/Subtype /Type3" not in pdf
    with pytest.raises(WorkerError, match="dpi: expected a whole number from 1 to 2400"):
        cw.pl.save(ax, tmp_path / "a.png", dpi=100_000_000)
    assert cw.pl.save(ax, tmp_path / "a.png", dpi=50).read_bytes().startswith(b"\x89PNG")


def test_a_great_many_points_do_not_choke_a_drawing_program(adata, tmp_path):
    import anndata

    great = anndata.AnnData(np.zeros((20_001, 1), np.float32))
    great.obsm["X_umap"] = np.random.default_rng(0).normal(size=(20_001, 2))
    assert cw.pl.save(cw.pl.embedding(great), tmp_path / "great.svg", dpi=60).stat().st_size < 500_000


def test_cells_without_a_group_or_a_place_are_distinguished(adata):
    some = adata.copy()
    some.obs["partly"] = some.obs["group"].where(some.obs["group"] != "g2")
    some.uns["partly_colors"] = OWN
    some.obsm["X_umap"][:10] = np.nan
    ax = cw.pl.embedding(some, "partly")
    assert len(ax.collections[0].get_offsets()) == 290
    assert legend_of(ax)["(none)"] == "#d3d3d3"
    assert "g2" not in legend_of(ax)
    assert legend_of(ax)["g3"] == OWN[3]


@pytest.mark.parametrize(
    ("draw", "says"),
    [
        (lambda s: cw.pl.embedding(s, "group", basis="tsn"), r"basis: "),
        (lambda s: cw.pl.embedding(s, "group", palette={"g9": "red"}), r"palette: there is no group 'g9'"),
        (lambda s: cw.pl.embedding(s, "group", palette={"g1": "redd"}), r"palette: 'redd' is no colour"),
        (lambda s: cw.pl.embedding(s, "gene1", cmap="virids"), r"cmap: matplotlib has no colour map 'virids'"),
        (lambda s: cw.pl.embedding(s, "gene1", limits=(2, 1)), r"limits: expected two ascending numbers"),
        (lambda s: cw.pl.embedding(s, "group", legend="left"), r"legend: expected one of 'right', 'on', 'none'"),
        (lambda s: cw.pl.embedding(s, size=-1), r"size: expected a number from 0"),
        (lambda s: cw.pl.embedding(s, ax=plt.subplots(2)[1]), r"ax: expected one matplotlib axes, found ndarray"),
        (lambda s: cw.pl.violin(s, "group", "group"), r"of: 'group' holds labels, not numbers"),
        (lambda s: cw.pl.violin(s, "gene1", "group", groups=["g9"]), r"groups: .*'g9'"),
        (lambda s: cw.pl.violin(s, "gene1", "grup"), r"by: .*'grup'"),
        (lambda s: cw.pl.violin(s, "gene1", "depth"), r"by: 'depth' holds numbers|by: there is no class"),
        (lambda s: cw.pl.dotplot(s, [], "group"), r"genes: expected genes, as"),
        (lambda s: cw.pl.heatmap(s, "gene1", "group", values="zz"), r"values: expected 'z' or 'expression'"),
        (lambda s: cw.pl.heatmap(s, "gene1", "group", max_cells=0), r"max_cells: expected a whole number from 1"),
        (lambda s: cw.pl.composition(s, "sampel", "group"), r"of: .*'sampel'"),
        (lambda s: cw.pl.trajectory(s, nodes="some"), r"nodes: .*'some'"),
        (cw.pl.tissue, r"source: "),
        (lambda s: cw.pl.volcano(3), r"results: expected a table, an AnnData or an experiment, found int"),
        (lambda s: cw.pl.volcano(pd.DataFrame({"gene": []})), r"results: the table has no column of a log fold change"),
        (lambda s: cw.pl.save(cw.pl.embedding(s), "picture.docx"), r"path: expected a name that ends in \.svg"),
        (lambda s: cw.pl.embedding("pbmc.h5ad"), r"adata: expected an AnnData, found str"),
    ],
)
def test_slips_are_named_with_what_would_be_right(source, draw, says):
    with pytest.raises(WorkerError, match=says) as caught:
        draw(source)
    assert caught.value.code is ErrorCode.INVALID_INPUT


def test_unknown_genes_are_named(source):
    for draw in (
        lambda: cw.pl.embedding(source, "MS4A1"),
        lambda: cw.pl.dotplot(source, ["gene1", "MS4A1"], "group"),
        lambda: cw.pl.violin(source, "MS4A1", "group"),
    ):
        with pytest.raises(WorkerError, match=r"MS4A1.*genes are named like 'gene0'"):
            draw()
