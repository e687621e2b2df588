"""The Python door: an experiment in a notebook."""
