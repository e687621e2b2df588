"""p-values that are ordered by the statistic behind them.

A p-value below 1e-308 is 0 in a double, and the best genes of large clusters all have such p-values: sorting by p-value
then sorts them by position. So tests return `PValues`: `key` orders them, `log` tells how small they are, and the
doubles in `values` are only for display and for comparison with a fixed level. A test
(``tests/test_p_values_order_nothing.py``) checks that nothing outside this module sorts, ranks or reduces by them.

Formulas: tails of the normal distribution by Abramowitz and Stegun 7.1.23, of Student's by 26.5.8, in the log domain;
Benjamini and Hochberg (1995).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cellworker.native import address, kernel

__all__ = ["ORIGINAL_CUT", "PValues", "benjamini_hochberg", "score_keys"]

Floats = NDArray[np.float64]

ORIGINAL_CUT = 37.5193
"""R's ``pnorm`` is exactly 0 at and beyond this many standard deviations (``pnorm_both`` in its nmath)."""

_EXACT = (1e-290, 0.5)
"""The range in which the logarithm of the double is exact to all digits."""


def score_keys(score: Floats, *, original: bool = False) -> Floats:
    """Return keys that order two-sided p-values of normal scores, without computing the p-values.

    Parameters
    ----------
    score
        float64, any shape: absolute values of standard normal deviates; NaN where there is no test.
    original
        Treat all scores at and beyond R's cut as equal, since R's p-values are 0 there.

    Returns
    -------
    numpy.ndarray
        float64 of the same shape, ascending as the p-values do. NaN stays NaN.
    """
    return -np.where(score >= ORIGINAL_CUT, np.inf, score) if original else -score


@dataclass(frozen=True, slots=True)
class PValues:
    """Two-sided p-values with the keys that order them. Arrays of one shape; NaN where there is no test.

    Attributes
    ----------
    values
        The p-values as doubles: for display, never for sorting.
    log
        Their natural logarithms, exact to 1e-12 however small the p-values are; 0 for a p-value of 1.
    key
        Ascends with the p-values; sort and compare by it. Equal only where the statistics are equal (or where Student's
        t are all nearly 0), or, in the original's mode, where the original's p-values are equal.
    original
        Whether p-values that are equal in the original are equal here.
    """

    values: Floats
    log: Floats
    key: Floats
    original: bool

    @classmethod
    def of_scores(cls, score: Floats, *, original: bool = False) -> Self:
        """Make p-values of normal scores.

        Parameters
        ----------
        score, original
            As for `score_keys`. In the original's mode, p-values at and beyond R's cut are 0 and equal; `log` stays
            exact.
        """
        score = np.ascontiguousarray(score, np.float64)
        values, log = np.empty_like(score), np.empty_like(score)
        run = kernel("cw_normal_tails")
        run(
            address(score, np.float64), score.size, address(values, np.float64, writable=True),
            address(log, np.float64, writable=True),
        )  # fmt: skip
        if original:
            values[score >= ORIGINAL_CUT] = 0.0
        return cls(values, log, score_keys(score, original=original), original)

    @classmethod
    def of_t(cls, t: Floats, df: Floats, *, original: bool = False) -> Self:
        """Make p-values of Student's t.

        Parameters
        ----------
        t
            float64: the statistics, with any sign.
        df
            float64 of the same shape: degrees of freedom of each, above 0; infinite is the normal distribution.
        original
            Round the smallest p-values as R's ``pt`` does, and treat as equal what is equal in R.
        """
        from scipy import special  # noqa: PLC0415 - only comparisons between samples need it

        t = np.ascontiguousarray(np.abs(t), np.float64)
        df = np.ascontiguousarray(np.broadcast_to(df, t.shape), np.float64)
        values = np.asarray(2 * special.stdtr(df, -t))
        log = np.empty_like(t)
        run = kernel("cw_student_log_tails")
        run(
            address(t, np.float64), address(df, np.float64), t.size, address(log, np.float64, writable=True)
        )  # fmt: skip
        low, high = _EXACT
        exact = (values > low) & (values < high)
        log[exact] = np.log(values[exact])
        if original:
            small = values <= low
            values[small] = 2 * np.exp(log[small] - np.log(2))  # R doubles the one-sided tail
            return cls(values, log, values, original)
        # Below 1e-290 the logarithms, all negative, still differ where the p-values have too few digits.
        return cls(values, log, np.where(values > low, values, log), original)

    @property
    def log10(self) -> Floats:
        """Decimal logarithms."""
        return np.asarray(self.log / np.log(10) + 0.0)  # no -0

    def adjusted_values(self) -> tuple[Floats, Floats]:
        """Return the adjusted p-values as doubles, with keys, but without logarithms, which cost a sort."""
        adjusted = benjamini_hochberg(self.values)
        return adjusted, adjusted if self.original else self.key

    def adjusted(self) -> Self:
        """Adjust for the false discovery rate, along the last axis (see `benjamini_hochberg`).

        The keys of the p-values also order the adjusted ones: these never fall where the p-values rise, and where
        adjusted ones are equal, as many are, the statistics still differ. The original leaves equal ones in their
        places.
        """
        adjusted, key = self.adjusted_values()
        return type(self)(adjusted, _adjusted_logs(self.log), key, self.original)

    def times(self, number: int) -> Self:
        """Adjust by Bonferroni's method for a number of tests."""
        values = np.minimum(1.0, self.values * number)
        key = values if self.original else self.key
        return type(self)(values, np.minimum(0.0, self.log + np.log(number)), key, self.original)

    def take(self, rows: Any) -> Self:  # noqa: ANN401 - whatever indexes an array
        """Return some of the p-values, like indexing."""
        return type(self)(self.values[rows], self.log[rows], self.key[rows], self.original)


def benjamini_hochberg(p: Floats) -> Floats:
    """Adjust p-values for the false discovery rate (Benjamini and Hochberg 1995), along the last axis.

    NaN stays NaN and does not count among the tests.
    """
    p = np.asarray(p, np.float64)
    if p.ndim > 1:
        return np.stack([benjamini_hochberg(row) for row in p]) if len(p) else p.copy()
    out = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]  # equal values get equal ranks in any order
    scaled = p[order] * len(order) / np.arange(1, len(order) + 1)
    out[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return out


def _adjusted_logs(log: Floats) -> Floats:
    """Do the same in the log domain."""
    if log.ndim > 1:
        return np.stack([_adjusted_logs(row) for row in log]) if len(log) else log.copy()
    out = np.full(log.shape, np.nan)
    known = np.flatnonzero(~np.isnan(log))
    order = known[np.argsort(log[known])]
    scaled = log[order] + np.log(len(order) / np.arange(1, len(order) + 1))
    out[order] = np.minimum(0.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return out
