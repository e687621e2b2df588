"""Maps of cells: UMAP and t-SNE."""
