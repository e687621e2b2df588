"""The Python interface: an experiment in a notebook."""

from cellworker.api.experiment import OpenExperiment, open_experiment

__all__ = ["OpenExperiment", "open_experiment"]
