"""Chooses the reduction from which new clusters, embeddings and trajectories start."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cellworker.experiment.model import Reduction
from cellworker.formats.common.cells.measures import plain_name

__all__ = ["ActiveReduction", "choose_active", "default_reduction"]

_PCA: Final = "pca"
_LATENT = (
    "harmony", "integrated", "scanvi", "scvi", "totalvi", "multivi", "peakvi", "fastmnn", "mnn", "scanorama", "rpca",
    "cca", "liger", "inmf", "lsi", "glmpca", "wpca", "spca", "pca", "latent", "ica", "nmf", "svd", "mofa", "lda", "emb",
)  # fmt: skip
"""Parts of the names of latent spaces, the most informative first."""
_MAP = re.compile(
    r"umap|tsne|forceatlas|drawgraph|^f[ar]2?$|^fle$|phate|diffmap|spatial|centroid|tissue|trimap|pacmap|mde$"
)
"""Maps for plots, whose distances mean little, and positions in a tissue."""
_MIN_DIMS: Final = 4
"""A latent space without a known name has at least this many dimensions; one with fewer is a map for plots."""


@dataclass(frozen=True, slots=True)
class ActiveReduction:
    """The choice: `name` is what is used; `found` is empty where it is just what was asked for, else says why not."""

    name: str
    found: str = ""


def choose_active(
    reductions: Mapping[str, Reduction], named: Sequence[str] = (), *, strict: bool = False
) -> ActiveReduction:
    """Choose the reduction to start from.

    Parameters
    ----------
    reductions
        The file's reductions, by name.
    named
        Reductions that the file declares as used, the most informative first. Case and punctuation do not count.
    strict
        A name in `named` that is not there is an error: nothing stands in for it.

    Returns
    -------
    One of `named`, else the principal components, else a latent space: one with a known name, else one that is no
    map. The name is none of `reductions` where nothing can serve.
    """
    wanted = [name for name in named if name]
    for name in wanted:
        found = _same(name, reductions)
        if found is not None:
            return ActiveReduction(found, "" if found == name else f"no {name}, but {found}")
    if wanted and strict:
        return ActiveReduction(wanted[0])
    pca = _same(_PCA, reductions)
    if pca is not None:
        return ActiveReduction(pca, "" if pca == _PCA else f"no {_PCA}, but {pca}")
    spaces = [name for name in reductions if not _MAP.search(plain_name(name))]
    for part in _LATENT:
        for name in spaces:
            if part in plain_name(name):
                return ActiveReduction(name, f"no {_PCA}, and the latent space {name}")
    deep = [name for name in spaces if reductions[name].values.shape[1] >= _MIN_DIMS]
    return ActiveReduction(deep[0], f"no {_PCA}, and the coordinates {deep[0]}") if deep else ActiveReduction(_PCA)


def _same(name: str, reductions: Mapping[str, Reduction]) -> str | None:
    if name in reductions:
        return name
    plain = plain_name(name).removeprefix("x")
    alike = (other for other in reductions if plain and plain_name(other).removeprefix("x") == plain)
    return next(alike, None)


def default_reduction(reductions: Iterable[str]) -> str:
    """Return the reduction that Seurat plots by default: the first with umap in its name, else tsne, else pca."""
    names = list(reductions)
    for kind in ("umap", "tsne", "pca"):
        for name in names:
            if kind in name.lower():
                return name
    return ""
