"""Columns of labels."""

from collections.abc import Sequence

import numpy as np

from cellworker.experiment.model import Categorical

__all__ = ["categorical"]


def categorical(labels: Sequence[str | None]) -> Categorical:
    """Make a column of labels; categories in the order of first appearance."""
    places: dict[str, int] = {}
    codes = [-1 if label is None else places.setdefault(label, len(places)) for label in labels]
    return Categorical(np.array(codes, np.int32), list(places))
