"""Preprocessing of AnnData under scanpy's names: ``cellworker.pp``."""

from cellworker.api.anndata.neighbourhoods import neighbors, pca

__all__ = ["neighbors", "pca"]
