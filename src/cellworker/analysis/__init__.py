"""Numerics on plain arrays: nothing here knows experiments, requests, files or the network."""
