"""Seurat objects."""
