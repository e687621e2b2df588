"""Waltman and van Eck's optimiser in plain Python: every visit sums a node's links anew, as the original does.

It is what `cellworker.analysis.graphs.louvain` is compared with on small graphs: same visits, same sums, same order.
"""

from dataclasses import dataclass
from itertools import pairwise

from cellworker.analysis.graphs.snn import Links

__all__ = ["slow_louvain"]

_MASK = (1 << 48) - 1


class _Random:
    """java.util.Random."""

    def __init__(self, seed: int) -> None:
        self.state = (seed ^ 0x5DEECE66D) & _MASK

    def _next31(self) -> int:
        self.state = (self.state * 0x5DEECE66D + 0xB) & _MASK
        return self.state >> 17

    def below(self, n: int) -> int:
        if n & -n == n:
            return (n * self._next31()) >> 31
        while True:
            bits = self._next31()
            if bits - bits % n + (n - 1) < 1 << 31:
                return bits % n


@dataclass
class _Network:
    """Each node's links in order, its strength, and the weight that lies inside the nodes."""

    links: list[list[tuple[int, float]]]
    strength: list[float]
    inside: float = 0.0


def slow_louvain(links: Links, resolution: float, *, seed: int, n_starts: int = 10, n_passes: int = 10) -> list[int]:
    """Return what `louvain` returns."""
    n = len(links)
    if not len(links.cells):
        return list(range(n))
    ends = links.indptr.tolist()
    pairs = list(zip(links.cells.tolist(), links.weights.tolist(), strict=True))
    rows = [pairs[a:b] for a, b in pairwise(ends)]
    net = _Network(rows, [_sum(weight for _, weight in row) for row in rows])
    whole = _sum(weight for _, weight in pairs)
    random, best, highest = _Random(seed), list(range(n)), float("-inf")
    for _ in range(n_starts):
        cluster = list(range(n))
        for _ in range(n_passes):
            cluster, moved = _improve(net, resolution / whole, random, cluster)
            if not moved:
                break
        quality = _excess(net, resolution / whole, cluster) / whole
        if quality > highest:
            best, highest = cluster, quality
    sizes = {label: best.count(label) for label in set(best)}
    by_size = sorted(sizes, key=lambda label: (-sizes[label], label))
    return [by_size.index(label) for label in best]


def _sum(values) -> float:
    total = 0.0
    for value in values:  # one after another: the built-in sum of newer Pythons compensates
        total += value
    return total


def _improve(net: _Network, resolution: float, random: _Random, cluster: list[int]) -> tuple[list[int], bool]:
    if len(net.links) == 1:
        return cluster, False
    cluster, moved = _move(net, resolution, random, cluster)
    count = max(cluster) + 1
    if count == len(net.links):
        return cluster, moved
    outer, more = _improve(_merge(net, cluster, count), resolution, random, list(range(count)))
    return ([outer[c] for c in cluster] if more else cluster), moved or more


def _move(net: _Network, resolution: float, random: _Random, cluster: list[int]) -> tuple[list[int], bool]:
    n, cluster, moved = len(net.links), list(cluster), False
    total, sizes = [0.0] * n, [0] * n
    for node, c in enumerate(cluster):
        total[c] += net.strength[node]
        sizes[c] += 1
    empty, order = [c for c in range(n) if not sizes[c]], list(range(n))
    for i in range(n):
        j = random.below(n)
        order[i], order[j] = order[j], order[i]
    at = stable = 0
    while stable < n:
        node = order[at]
        home, strength = cluster[node], net.strength[node]
        near: dict[int, float] = {}
        for other, weight in net.links[node]:
            near[cluster[other]] = near.get(cluster[other], 0.0) + weight
        total[home] -= strength
        sizes[home] -= 1
        if not sizes[home]:
            empty.append(home)
        gains = [(link - strength * total[c] * resolution, -c) for c, link in near.items()]
        gain, c = max(gains, default=(0.0, 0))
        best = -c if gain > 0 else empty.pop()
        total[best] += strength
        sizes[best] += 1
        stable = stable + 1 if best == home else 1
        moved |= best != home
        cluster[node] = best
        at = (at + 1) % n
    names = {c: k for k, c in enumerate(c for c in range(n) if sizes[c])}
    return [names[c] for c in cluster], moved


def _merge(net: _Network, cluster: list[int], count: int) -> _Network:
    merged = _Network([], [0.0] * count, net.inside)
    for c in range(count):
        near: dict[int, float] = {}
        for node in (node for node, own in enumerate(cluster) if own == c):
            merged.strength[c] += net.strength[node]
            for other, weight in net.links[node]:
                if cluster[other] == c:
                    merged.inside += weight
                else:
                    near[cluster[other]] = near.get(cluster[other], 0.0) + weight
        merged.links.append(list(near.items()))
    return merged


def _excess(net: _Network, resolution: float, cluster: list[int]) -> float:
    quality, total = 0.0, [0.0] * len(cluster)
    for node, row in enumerate(net.links):
        for other, weight in row:
            if cluster[other] == cluster[node]:
                quality += weight
    quality += net.inside
    for node, c in enumerate(cluster):
        total[c] += net.strength[node]
    for value in total:
        quality -= value * value * resolution
    return quality
