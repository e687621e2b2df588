"""Tests which clusters are connected: their links against chance (Wolf and others 2019, PAGA)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.neighbour_links import merged
from cellworker.analysis.graphs.snn import Links

__all__ = ["ClusterLinks", "components", "link_tests", "partitions"]

_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class ClusterLinks:
    """The pairs of linked clusters, each pair in both directions, by rows.

    Attributes
    ----------
    a, b
        int64 ``(n_pairs,)``: the clusters.
    adjusted
        float64 ``(n_pairs,)``: p-values, adjusted by Holm's method over all pairs of clusters, linked or not.
    surplus
        float64 ``(n_pairs,)``: share of the links minus the expected share.
    isolated
        bool ``(n_clusters,)``: clusters without any link to others.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    adjusted: NDArray[np.float64]
    surplus: NDArray[np.float64]
    isolated: NDArray[np.bool_]


def link_tests(links: Links, clusters: NDArray[np.int32]) -> ClusterLinks:
    """Test for each pair of clusters whether they have more links than expected from their degrees.

    With L the weight between clusters, e its row sums and T its sum, ``L_ij / T`` has the expectation ``theta = e_i e_j
    / T^2`` and the variance ``theta (1 - theta) / T``; the test is one-sided and normal (doi:10.1186/s13059-019-1663-x,
    as monocle3 computes it). In Holm's adjustment, a pair with an isolated cluster counts as p = 0.

    Parameters
    ----------
    links
        The graph.
    clusters
        int32 ``(n_cells,)``, numbered from 0.
    """
    network = merged(links, clusters)
    n = len(network)
    a = np.repeat(np.arange(n), np.diff(network.indptr))
    b = network.cells.astype(np.int64)
    ends = np.bincount(a, network.weights, minlength=n)
    total = ends.sum()
    isolated = ends == 0
    if not len(a):
        return ClusterLinks(a, b, np.empty(0), np.empty(0), isolated)
    theta = (ends[a] / total) * (ends[b] / total)
    surplus = network.weights / total - theta
    with np.errstate(divide="ignore", invalid="ignore"):
        z = surplus / np.sqrt(theta * (1 - theta) / total)
    p = np.array([1 - 0.5 * math.erfc(-x / math.sqrt(2)) for x in z.tolist()])
    order = np.argsort(-z, kind="stable")  # orders like the p-values, many of which are 0
    certain = n * n - int(np.count_nonzero(~isolated)) ** 2  # these come first among the pairs without links
    factor = n * n - certain - np.arange(len(p))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factor), 1)
    return ClusterLinks(a, b, adjusted, surplus, isolated)


def partitions(links: Links, clusters: NDArray[np.int32]) -> NDArray[np.int32]:
    """Put each cluster into a partition with the clusters that it is significantly linked to.

    Parameters
    ----------
    links, clusters
        As for `link_tests`.

    Returns
    -------
    numpy.ndarray
        int32 ``(n_cells,)``: partitions numbered from 0 in the order of their first clusters.
    """
    n = int(clusters.max(initial=-1)) + 1
    if n <= 1:
        return np.zeros(len(clusters), np.int32)
    tested = link_tests(links, clusters)
    kept = (tested.adjusted <= _LEVEL) & (tested.surplus != 0)
    return components(n, tested.a[kept], tested.b[kept])[clusters]


def components(n: int, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int32]:
    """Return the connected component of each of `n` nodes, numbered from 0 in the order of their first nodes."""
    root = list(range(n))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for one, other in zip(a.tolist(), b.tolist(), strict=True):
        low, high = sorted((find(one), find(other)))
        root[high] = low
    return np.unique([find(i) for i in range(n)], return_inverse=True)[1].astype(np.int32)
