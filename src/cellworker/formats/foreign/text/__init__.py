"""Matrices in text: Matrix Market, tables of numbers, lists of entries."""
