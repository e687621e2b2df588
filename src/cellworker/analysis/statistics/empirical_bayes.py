"""Robust empirical Bayes moderation of variances (Phipson, Lee, Majewski, Alexander and Smyth 2016).

The steps are those of algorithms.md, section 3.8: winsorised log variances give the prior's scale and degrees of
freedom, genes that are more variable than the prior allows get fewer prior degrees of freedom of their own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

__all__ = ["moderate"]

Floats = NDArray[np.float64]
_TAILS = (0.05, 0.10)


@dataclass(frozen=True, slots=True)
class _Prior:
    scale: float
    df: Floats | float


def moderate(contrast: Floats, variance: Floats, df: float) -> Floats:
    """Return two-sided p-values of moderated t-statistics.

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
    t = contrast / np.sqrt(posterior)
    return np.asarray(2 * stats.t.sf(np.abs(t), total))


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
    e = np.log(x) - special.digamma(d1 / 2) + np.log(d1 / 2)
    mean, excess = e.mean(), e.var(ddof=1) - special.polygamma(1, d1 / 2)
    if excess > 0:
        d2 = 2 * _trigamma_inverse(float(excess))
        return _Prior(float(np.exp(mean + special.digamma(d2 / 2) - np.log(d2 / 2))), d2)
    return _Prior(float(x.mean()), np.inf)


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
    z = np.log(x)
    cut = int(np.floor(0.1 * n))
    trend = float(np.sort(z)[cut : n - cut].mean())
    residual = z - trend
    w = np.clip(residual, np.quantile(residual, _TAILS[0]), np.quantile(residual, 1 - _TAILS[1]))
    mean, variance = float(w.mean()), float(w.var(ddof=1))
    moment_inf, variance_inf = _winsorised_moments(d1, np.inf)
    if variance <= 0 or np.log(variance / variance_inf) <= 0:
        return _Prior(*_infinite_prior(x, d1, float(np.exp(trend + mean - moment_inf))))
    if not np.isfinite(plain.df):
        return plain
    d2 = _solve_df(variance, d1, float(plain.df))
    scale = float(np.exp(trend + mean - _winsorised_moments(d1, d2)[0]))
    return _Prior(scale, _outlier_df(x / scale, d1, d2))


def _infinite_prior(x: Floats, d1: float, scale: float) -> tuple[float, Floats | float]:
    n = len(x)
    tail = stats.chi2.sf(d1 * x / scale, d1)
    empirical = (n - stats.rankdata(x) + 0.5) / n
    p = np.minimum(tail / empirical, 1.0)
    df = np.full(n, np.inf)
    if (p < 1).any():
        df[p < 1] = p[p < 1] * n * d1
        order = np.argsort(tail, kind="stable")
        df[order] = np.maximum.accumulate(df[order])
    return scale, df


def _solve_df(variance: float, d1: float, plain: float) -> float:
    def excess(u: float) -> float:
        d2 = u / (1 - u) if u < 1 else np.inf
        return float(np.log(variance / _winsorised_moments(d1, d2)[1]))

    left = plain / (1 + plain)
    if excess(left) >= 0:
        return plain
    u = optimize.brentq(excess, left, 1.0, xtol=1e-12, rtol=1e-12)
    return float(u / (1 - u))


def _log_tail(f: Floats | float, d1: float, d2: float) -> Floats:
    return np.asarray(stats.f.logsf(f, d1, d2) if np.isfinite(d2) else stats.chi2.logsf(np.asarray(f) * d1, d1))


def _outlier_df(f: Floats, d1: float, d2: float) -> Floats | float:
    n = len(f)
    log_tail = _log_tail(f, d1, d2)
    log_empirical = np.log(n - stats.rankdata(f) + 0.5) - np.log(n)
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
    order = np.argsort(log_tail, kind="stable")
    sorted_df = df[order]
    running = np.cumsum(sorted_df) / np.arange(1, n + 1)
    at = int(np.argmin(running))
    sorted_df[: at + 1] = running[at]
    df[order] = np.maximum.accumulate(sorted_df)
    return np.asarray(df)
