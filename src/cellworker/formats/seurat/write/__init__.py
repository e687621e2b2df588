"""Seurat objects, written: annotated copies and fresh ones."""
