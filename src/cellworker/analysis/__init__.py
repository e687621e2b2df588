"""Numerics on plain arrays, independent of experiments, requests, files and the network."""
