"""Compressed sparse matrices: checked, ordered, split, sorted by gene, and values that counts stand for."""
