"""Matrices of BPCells: folders or archives beside the object, and the operations that the object has put on them."""
