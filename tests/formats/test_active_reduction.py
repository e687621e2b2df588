"""Which reduction new clusters and embeddings start from."""

import numpy as np
import pytest

from cellworker.experiment.model import Reduction
from cellworker.formats.common.active_reduction import choose_active


def widths(**dims: int) -> dict[str, Reduction]:
    return {name: Reduction(np.zeros((3, width))) for name, width in dims.items()}


@pytest.mark.parametrize(
    ("reductions", "named", "chosen"),
    [
        (widths(umap=2, pca=30), (), "pca"),
        (widths(UMAP=2, PCA=30), (), "PCA"),
        (widths(pca=30, harmony=30), ("harmony",), "harmony"),
        (widths(pca=30, Harmony=30), ("HARMONY",), "Harmony"),
        (widths(umap=2, scVI=10), (), "scVI"),
        (widths(umap=2, mnn=10), (), "mnn"),
        (widths(umap=2, pca_harmony=20, spatial=2), (), "pca_harmony"),
        (
            {"umap.cca": Reduction(np.zeros((3, 2))), "integrated.cca": Reduction(np.zeros((3, 30)))},
            (),
            "integrated.cca",
        ),
        (widths(umap=2, my_space=12), (), "my_space"),
        (widths(pca=30, umap=2), ("gone",), "pca"),
    ],
)
def test_the_active_reduction(reductions, named, chosen):
    found = choose_active(reductions, named)
    assert found.name == chosen
    assert bool(found.found) == (chosen not in {"pca", *named})


@pytest.mark.parametrize("reductions", [widths(), widths(umap=2, spatial=2), widths(umap_harmony=2, tsne=3)])
def test_maps_serve_nothing_but_to_be_looked_at(reductions):
    assert choose_active(reductions).name not in reductions


def test_nothing_stands_in_for_what_the_platform_names():
    assert choose_active(widths(pca=30), ["harmony"], strict=True).name == "harmony"
