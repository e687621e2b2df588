"""From a parsed Seurat object to an experiment."""
