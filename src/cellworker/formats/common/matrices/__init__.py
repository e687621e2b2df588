"""Matrices of files: kinds of values, and building new ones."""
