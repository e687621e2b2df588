"""Benchmark "trajectories": principal graphs and pseudotime of cells in a plane.

The cells are around trees of several branches, islands apart, as in a UMAP of a developmental course. Neighbours are
searched once before the clock starts where a case says that it leaves them out; one thread. Palantir and scFates get
the same coordinates as the space that they work in.
"""

# ruff: noqa: PLC0415 - every case is a process of its own: it pays for its own imports

import warnings

import numpy as np

from benchmarks.harness import Bar, Case, Command, pick, python, run_cases, timed

__all__ = ["cells", "run"]

HERE = "benchmarks.trajectories"
SMALL, MIDDLE, LARGE = 43_000, 100_000, 1_000_000
TREES, BRANCHES = 6, 9


def run(*, quick: bool, only: str = "") -> None:
    """Measure 43,000 cells, and, unless `quick`, 100,000 and 1,000,000 too."""
    bars = {
        SMALL: [Bar("cpu_s", 1, "under 1 s of CPU")],
        MIDDLE: [Bar("cpu_s", 5, "under 5 s of CPU")],
        LARGE: [Bar("cpu_s", 60, "under a minute of CPU"), Bar("peak_mb", 4000, "below 4 GB")],
    }
    cases = []
    for n in [SMALL] if quick else [SMALL, MIDDLE, LARGE]:
        repeats = 1 if n == LARGE else 3
        for method in ("louvain", "leiden"):
            case = f"graph and pseudotime by {method} without the neighbour search; {n // 1000}k cells"
            ours = Command(python(f"{HERE}:graph", n, method))
            cases.append(Case(case, ours, repeats=repeats, bars=bars[n]))
        peers = {name: Command(python(f"{HERE}:{name}", n)) for name in ("palantir", "scfates")} if n == SMALL else {}
        whole = Command(python(f"{HERE}:whole", n))
        cases.append(Case(f"all of it, by louvain; {n // 1000}k cells", whole, peers, repeats=1 if peers else repeats))
        cases.append(Case(f"other roots on the same graph; {n // 1000}k cells", Command(python(f"{HERE}:roots", n))))
    chosen = pick(cases, only)
    run_cases(
        "trajectories-quick" if quick else "trajectories",
        chosen,
        {"trees": TREES, "branches": BRANCHES},
        write=not only,
    )


def cells(n: int) -> np.ndarray:
    """Return places of cells, ``(n, 2)``: trees of unequal sizes whose branches end anywhere, in random order."""
    random = np.random.default_rng(1)
    tree = random.choice(TREES, n, p=random.dirichlet(np.full(TREES, 2.0)))
    starts, ends = np.empty((TREES, BRANCHES, 2)), np.empty((TREES, BRANCHES, 2))
    for t in range(TREES):
        tips = [(random.uniform(-15, 15, 2), random.uniform(0, 2 * np.pi))]
        for b in range(BRANCHES):
            start, angle = tips[random.integers(len(tips))]
            angle += random.normal() * 0.6
            starts[t, b] = start
            ends[t, b] = start + random.uniform(2, 5) * np.array([np.cos(angle), np.sin(angle)])
            tips.append((ends[t, b], angle))
    branch, part = random.integers(BRANCHES, size=n), random.beta(1.2, 1.2, size=(n, 1))
    a, b = starts[tree, branch], ends[tree, branch]
    return a + part * (b - a) + random.normal(size=(n, 2)) * 0.35


def _learn(points: np.ndarray, method: str, search):
    from cellworker.analysis.trajectories.pseudotime import pseudotime
    from cellworker.analysis.trajectories.trajectory import learn_trajectory

    graph = learn_trajectory(points, method, "euclidean", search)
    pseudotime(graph.nodes, graph.links, graph.places, graph.anchors[:1])
    return graph


def _search(points, k, metric, *, on_progress):
    from cellworker.analysis.graphs.fast_neighbours import fast_neighbours

    return fast_neighbours(points, k, metric, threads=1, on_progress=on_progress)


def graph(n: str, method: str) -> None:
    points, known = cells(int(n)), []

    def remember(*asked, **more):
        known.append(_search(*asked, **more))
        return known[-1]

    _learn(points, method, remember)
    known.reverse()
    with timed() as details:
        found = _learn(points, method, lambda *_, **__: known.pop())
        details |= {"nodes": len(found.nodes), "partitions": int(found.partition.max()) + 1}


def whole(n: str) -> None:
    points = cells(int(n))
    with timed():
        _learn(points, "louvain", _search)


def roots(n: str) -> None:
    from cellworker.analysis.trajectories.pseudotime import pseudotime

    found = _learn(cells(int(n)), "louvain", _search)
    with timed():
        pseudotime(found.nodes, found.links, found.places, np.unique(found.anchors[:3]))


def palantir(n: str) -> None:
    warnings.simplefilter("ignore")
    import palantir as peer
    import pandas as pd

    names = [str(i) for i in range(int(n))]
    frame = pd.DataFrame(cells(int(n)), index=names, columns=["x", "y"])
    with timed():
        maps = peer.utils.run_diffusion_maps(frame, n_components=5)
        space = peer.utils.determine_multiscale_space(maps)
        peer.core.run_palantir(space, names[0], num_waypoints=500, use_early_cell_as_start=True)


def scfates(n: str) -> None:
    warnings.simplefilter("ignore")
    import anndata
    import scFates as peer  # noqa: N813

    points = cells(int(n))
    data = anndata.AnnData(np.zeros((len(points), 1), np.float32))
    data.obsm["X_umap"] = points
    with timed():
        peer.tl.tree(data, method="ppt", Nodes=300, use_rep="X_umap", ndims_rep=2, ppt_sigma=0.1, ppt_lambda=1, seed=1)
        peer.tl.root(data, int(data.uns["graph"]["tips"][0]))
        peer.tl.pseudotime(data, n_jobs=1, n_map=1, seed=1)
