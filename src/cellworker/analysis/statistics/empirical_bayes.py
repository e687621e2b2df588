"""Robust empirical Bayes moderation of variances (Phipson, Lee, Majewski, Alexander and Smyth 2016).

The steps are those of algorithms.md, section 3.8: winsorised log variances give the prior's scale and degrees of
freedom, genes more variable than the prior allows get fewer prior degrees of freedom.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from cellworker.analysis.statistics.r_arithmetic import library_function, mean

__all__ = ["moderate"]

Floats = NDArray[np.float64]
_TAILS = (0.05, 0.10)
_ROOT_TOLERANCE = 1e-8  # of limma's uniroot
_MAX_STEPS = 1000


@dataclass(frozen=True, slots=True)
class _Prior:
    scale: float
    df: Floats | float


def moderate(contrast: Floats, variance: Floats, df: float) -> tuple[Floats, Floats]:
    """Return moderated t-statistics, and the degrees of freedom of each.

    Parameters
    ----------
    contrast
        float64 ``(n_genes,)``: coefficient over its unscaled standard deviation.
    variance
        float64 ``(n_genes,)``: residual variances.
    df
        Residual degrees of freedom of every gene.
    """
    prior = _robust_prior(variance, df)
    d0 = np.broadcast_to(np.asarray(prior.df, np.float64), variance.shape)
    finite = np.isfinite(d0)
    posterior = np.full(variance.shape, prior.scale)
    posterior[finite] = (df * variance[finite] + d0[finite] * prior.scale) / (df + d0[finite])
    total = np.minimum(df + d0, df * len(variance))
    return contrast / np.sqrt(posterior), np.asarray(total)


def _trigamma_inverse(x: float) -> float:
    if x > 1e7:
        return float(1 / np.sqrt(x))
    if x < 1e-6:
        return 1 / x
    y = 0.5 + 1 / x
    for _ in range(50):
        value = special.polygamma(1, y)
        step = value * (1 - value / x) / special.polygamma(2, y)
        y += step
        if -step / y < 1e-8:
            break
    return float(y)


def _plain_prior(x: Floats, d1: float) -> _Prior:
    x = np.maximum(x, 1e-5 * np.median(x))
    e = library_function("log", x) - special.digamma(d1 / 2) + np.log(d1 / 2)
    centre, excess = mean(e), e.var(ddof=1) - special.polygamma(1, d1 / 2)
    if excess > 0:
        d2 = 2 * _trigamma_inverse(float(excess))
        return _Prior(float(np.exp(centre + special.digamma(d2 / 2) - np.log(d2 / 2))), d2)
    return _Prior(mean(x), np.inf)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(128)


def _winsorised_moments(d1: float, d2: float) -> tuple[float, float]:
    """Mean and variance of log F(d1, d2), winsorised at the tails' quantiles."""
    low, high = _quantile(_TAILS[0], d1, d2), _quantile(1 - _TAILS[1], d1, d2)
    a, b = low / (1 + low), high / (1 + high)
    node = a + (b - a) * (_NODES + 1) / 2
    weight = _WEIGHTS * (b - a) / 2
    f = node / (1 - node)
    density = _density(f, d1, d2) / (1 - node) ** 2
    z, z_low, z_high = np.log(f), np.log(low), np.log(high)
    mean = float(np.sum(weight * density * z) + z_low * _TAILS[0] + z_high * _TAILS[1])
    variance = float(
        np.sum(weight * density * (z - mean) ** 2) + (z_low - mean) ** 2 * _TAILS[0] + (z_high - mean) ** 2 * _TAILS[1]
    )
    return mean, variance


def _quantile(p: float, d1: float, d2: float) -> float:
    return float(stats.f.ppf(p, d1, d2) if np.isfinite(d2) else stats.chi2.ppf(p, d1) / d1)


def _density(f: Floats, d1: float, d2: float) -> Floats:
    return np.asarray(stats.f.pdf(f, d1, d2) if np.isfinite(d2) else stats.chi2.pdf(f * d1, d1) * d1)


def _robust_prior(x: Floats, d1: float) -> _Prior:
    n = len(x)
    median = float(np.median(x))
    if median <= 0:
        raise ValueError("the samples do not differ within their groups")
    if n == 1:
        return _Prior(float(x[0]), 0.0)
    x = np.maximum(x, 1e-12 * median)
    plain = _plain_prior(x, d1)
    if n == 2 or (_TAILS[0] < 1 / n and _TAILS[1] < 1 / n):
        return plain
    z = library_function("log", x)
    cut = int(np.floor(0.1 * n))
    trend = mean(np.sort(z)[cut : n - cut])
    residual = z - trend
    w = np.clip(residual, np.quantile(residual, _TAILS[0]), np.quantile(residual, 1 - _TAILS[1]))
    centre = mean(w)
    variance = mean((w - centre) ** 2) * n / (n - 1)
    moment_inf, variance_inf = _winsorised_moments(d1, np.inf)
    if variance <= 0 or np.log(variance / variance_inf) <= 0:
        corrected = trend + centre - moment_inf
        return _Prior(math.exp(corrected), _infinite_df(z, corrected, d1))
    if not np.isfinite(plain.df):
        return plain
    d2 = _solve_df(variance, d1, float(plain.df))
    corrected = trend + centre - _winsorised_moments(d1, d2)[0]
    return _Prior(math.exp(corrected), _outlier_df(z, corrected, d1, d2))


# Rank and order by the logarithms of the variances, as limma does: logarithms can be equal for variances that differ in
# the last bit. Tail probabilities have the same order except for rounding.


def _infinite_df(z: Floats, corrected: float, d1: float) -> Floats:
    n = len(z)
    tail = stats.chi2.sf(np.exp(z - corrected) * d1, d1)
    empirical = (n - stats.rankdata(z) + 0.5) / n
    p = np.minimum(tail / empirical, 1.0)
    df = np.full(n, np.inf)
    if (p < 1).any():
        df[p < 1] = p[p < 1] * n * d1
        order = np.argsort(-z, kind="stable")
        df[order] = np.maximum.accumulate(df[order])
    return df


def _solve_df(variance: float, d1: float, plain: float) -> float:
    def excess(u: float) -> float:
        d2 = u / (1 - u) if u < 1 else np.inf
        return float(np.log(variance / _winsorised_moments(d1, d2)[1]))

    left = plain / (1 + plain)
    if excess(left) >= 0:
        return plain
    u = _root(excess, left, 1.0)
    return u / (1 - u)


def _root(f: Callable[[float], float], a: float, b: float) -> float:
    """Find a root between `a` and `b`, where `f` has different signs, to 1e-8 (Brent 1973).

    SciPy's version may stop elsewhere within the tolerance, which near 1 changes the ninth digit of the degrees of
    freedom. As in R's ``uniroot``, an interpolated step is accepted when it is less than half of the previous one.
    """
    f_a, f_b = f(a), f(b)
    c, f_c = a, f_a
    for _ in range(_MAX_STEPS):
        before = b - a
        if abs(f_c) < abs(f_b):
            a, b, c = b, c, b
            f_a, f_b, f_c = f_b, f_c, f_b
        min_step = 2 * np.finfo(np.float64).eps * abs(b) + _ROOT_TOLERANCE / 2
        half = (c - b) / 2
        if abs(half) <= min_step or f_b == 0:
            break
        step = half
        if abs(before) >= min_step and abs(f_a) > abs(f_b):
            p, q = _interpolated((a, b, c), (f_a, f_b, f_c))
            if p < min(1.5 * half * q - abs(min_step * q) / 2, abs(before * q / 2)):
                step = p / q
        if abs(step) < min_step:
            step = np.copysign(min_step, step) if step else -min_step
        a, f_a = b, f_b
        b += step
        f_b = f(b)
        if f_b * f_c > 0:
            c, f_c = a, f_a
    return float(b)


def _interpolated(x: tuple[float, float, float], f: tuple[float, float, float]) -> tuple[float, float]:
    """Return the step from the second point to the root of the line or inverse parabola, as p / q with p >= 0."""
    (a, b, c), (f_a, f_b, f_c) = x, f
    if a == c:
        ratio = f_b / f_a
        p, q = (c - b) * ratio, 1 - ratio
    else:
        q, t1, t2 = f_a / f_c, f_b / f_c, f_b / f_a
        p = t2 * ((c - b) * q * (q - t1) - (b - a) * (t1 - 1))
        q = (q - 1) * (t1 - 1) * (t2 - 1)
    return (p, -q) if p > 0 else (-p, q)


def _log_tail(f: Floats | float, d1: float, d2: float) -> Floats:
    return np.asarray(stats.f.logsf(f, d1, d2) if np.isfinite(d2) else stats.chi2.logsf(np.asarray(f) * d1, d1))


def _outlier_df(z: Floats, corrected: float, d1: float, d2: float) -> Floats | float:
    n = len(z)
    f = np.exp(z - corrected)
    log_tail = _log_tail(f, d1, d2)
    log_empirical = np.log(n - stats.rankdata(z) + 0.5) - np.log(n)
    log_p = np.minimum(log_tail - log_empirical, 0.0)
    if not (log_p < 0).any():
        return d2
    p, smallest = np.exp(log_p), float(log_tail.min())
    if smallest == -np.inf:
        df = p * d2
    else:
        outlier = np.log(0.5) / smallest * d2
        outlier = np.log(0.5) / float(_log_tail(float(f.max()), d1, outlier)) * outlier
        df = p * d2 + (1 - p) * outlier
    order = np.argsort(-z, kind="stable")
    sorted_df = df[order]
    running = np.cumsum(sorted_df) / np.arange(1, n + 1)
    at = int(np.argmin(running))
    sorted_df[: at + 1] = running[at]
    df[order] = np.maximum.accumulate(sorted_df)
    return np.asarray(df)
