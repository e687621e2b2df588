"""Summaries of a variable by group: moments, quantiles, histograms and densities for violins."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PROBABILITIES", "Summary", "density", "summary"]

Floats = NDArray[np.float64]

PROBABILITIES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_FINE = 1024  # intervals of the grid on which values are binned before smoothing
_NORMAL_IQR = 1.34  # interquartile range of a normal distribution, in R's bw.nrd0


@dataclass(frozen=True, slots=True)
class Summary:
    """Summary of one group's values.

    Attributes
    ----------
    n, missing
        Number of values, and of those that are not finite; the latter count nowhere else.
    positive
        Number of values above 0.
    mean, deviation
        NaN without values; the deviation (n - 1) is NaN below two values.
    quantiles
        float64: at `PROBABILITIES`, by linear interpolation (R's type 7); NaN without values.
    counts
        int64: values between the edges; the last interval includes its end.
    """

    n: int
    missing: int
    positive: int
    mean: float
    deviation: float
    quantiles: Floats
    counts: NDArray[np.int64]


def summary(values: Floats, edges: Floats) -> Summary:
    """Summarise a group.

    Parameters
    ----------
    values
        float64 ``(n,)``, in any order; a value that is not finite counts as missing.
    edges
        float64 ``(k + 1,)``, ascending: the edges of the histogram.
    """
    known = values[np.isfinite(values)]
    n = len(known)
    deviation = float(np.std(known, ddof=1)) if n > 1 else float("nan")
    quantiles = np.quantile(known, PROBABILITIES) if n else np.full(len(PROBABILITIES), np.nan)
    return Summary(
        n=n,
        missing=len(values) - n,
        positive=int(np.count_nonzero(known > 0)),
        mean=float(known.mean()) if n else float("nan"),
        deviation=deviation,
        quantiles=quantiles,
        counts=np.histogram(known, edges)[0].astype(np.int64),
    )


def density(values: Floats, at: Floats) -> Floats:
    """Estimate the density of values with a Gaussian kernel.

    The bandwidth is R's ``bw.nrd0`` (Silverman 1986, equation 3.31). Values are binned on a fine grid first, each split
    between its two nearest points, as in R's ``density``. There is no correction at the ends.

    Parameters
    ----------
    values
        float64 ``(n,)``, finite, between the ends of `at`.
    at
        float64 ``(k,)``, evenly spaced and ascending: where to evaluate the density.

    Returns
    -------
    numpy.ndarray
        float64 ``(k,)``, per unit of the values; empty without values, or where all of `at` is one point.
    """
    low, high = (float(at[0]), float(at[-1])) if len(at) else (0.0, 0.0)
    if not len(values) or not high > low:
        return np.empty(0)
    width = _bandwidth(values)
    place = (values - low) / (high - low) * (_FINE - 1)
    left = np.clip(np.floor(place).astype(np.int64), 0, _FINE - 2)
    share = place - left
    weights = np.bincount(left, 1 - share, _FINE) + np.bincount(left + 1, share, _FINE)
    grid = np.linspace(low, high, _FINE)
    kernel = np.exp(-0.5 * ((at[:, None] - grid[None, :]) / width) ** 2)
    return np.asarray(kernel @ weights / (len(values) * width * np.sqrt(2 * np.pi)))


def _bandwidth(values: Floats) -> float:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    lower, upper = np.quantile(values, (0.25, 0.75))
    spread = min(deviation, float(upper - lower) / _NORMAL_IQR) or deviation or abs(float(values[0])) or 1.0
    return float(0.9 * spread * len(values) ** -0.2)
