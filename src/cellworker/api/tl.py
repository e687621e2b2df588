"""Tools for AnnData under scanpy's names: ``cellworker.tl``."""

from cellworker.api.anndata.clusters import leiden, louvain
from cellworker.api.anndata.courses import pseudotime, trajectory
from cellworker.api.anndata.layouts import tsne, umap
from cellworker.api.anndata.ranks import rank_genes_groups
from cellworker.api.anndata.samples import pseudobulk
from cellworker.api.anndata.scores import cell_types, score_cell_cycle, score_genes

__all__ = [
    "cell_types",
    "leiden",
    "louvain",
    "pseudobulk",
    "pseudotime",
    "rank_genes_groups",
    "score_cell_cycle",
    "score_genes",
    "trajectory",
    "tsne",
    "umap",
]
