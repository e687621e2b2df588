"""Cells and their columns: names, ids, samples, measures, cell sets."""
