"""Neighbours, graphs of cells, and their clusters."""
