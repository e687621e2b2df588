"""Benchmark "maps": neighbours, UMAP, t-SNE and clusters of cells in 30 principal components, speed beside quality.

A time counts only beside the quality, so every case reports that too, measured after its clock has stopped: of maps
the trustworthiness (15 neighbours) and the share of 30 neighbours that the map preserves, both of 1,000 cells and
against exact neighbours by the metric that was asked for; of searches the share of true neighbours; of clusterings of
a given graph the modularity, all by the same formula; of clusterings from coordinates, where each program makes its
own graph, the adjusted Rand index with the groups that the cells were drawn from. Two threads for each.
"""

# ruff: noqa: PLC0415 - every case is a process of its own: it pays for its own imports, and for nothing else

import shutil
import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.harness import Bar, Case, Command, pick, python, run_cases, timed

__all__ = ["cells", "run"]

HERE, PEERS = "benchmarks.maps", "benchmarks.map_peers"
QUICK, MIDDLE, LARGE, LARGEST = 5_000, 20_000, 100_000, 200_000
CLUSTER_BARS = {"leiden": {LARGE: 3.5, LARGEST: 10}, "louvain": {LARGE: 29, LARGEST: 70}}
"""CPU seconds from coordinates to clusters."""
DIMS, GROUPS = 30, 30
THREADS = 2
K, MIN_DIST = 30, 0.3  # the task's
PERPLEXITY, ITERATIONS = 30, 1000
CLUSTER_K, CLUSTER_DIMS, RESOLUTION = 20, 10, 0.8
SAMPLED, TRUSTED, PRESERVED = 1_000, 15, 30
LIMIT_S = 480
WARM_UP_S = 600  # to compile at a first call, on a few cells
ENVIRONMENT = {name: str(THREADS) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def run(*, quick: bool, only: str = "") -> None:
    """Measure 20,000 and 100,000 cells, clusters of 200,000 too; or 5,000 cells if `quick`."""
    with tempfile.TemporaryDirectory(prefix="bench-maps-") as name:
        work = Path(name)
        cases = []
        for n in [QUICK] if quick else [MIDDLE, LARGE, LARGEST]:
            folder = work / str(n)
            folder.mkdir()
            points, groups = cells(n)
            np.save(folder / "points.npy", points)
            np.save(folder / "groups.npy", groups)
            cases += _cluster_cases(folder, n) if n == LARGEST else _cases(folder, n)
        about = {
            "dims": DIMS,
            "groups": GROUPS,
            "threads": THREADS,
            "sampled": SAMPLED,
            "peers_cut_off_after_cpu_s": LIMIT_S,
        }
        run_cases("maps-quick" if quick else "maps", pick(cases, only), about, write=not only)


def _cases(folder: Path, n: int) -> list[Case]:
    size = f"{n // 1000}k cells"
    large = n == LARGE

    def command(module: str, function: str, *arguments: object, **more) -> Command:
        line = python(f"{module}:{function}", folder, *arguments)
        return Command(line, ENVIRONMENT | more.pop("environment", {}), limit_s=LIMIT_S, **more)

    def case(name: str, ours: Command, peers: dict[str, Command], repeats: int, *bars: Bar) -> Case:
        beaten = [] if n == QUICK else [Bar("cpu_s", 1, f"no more CPU than {peer}", peer) for peer in peers]
        return Case(f"{name}; {size}", ours, peers, 1 if large or n == QUICK else repeats, [*bars, *beaten])

    def goal(seconds: float, what: str) -> list[Bar]:
        return [Bar("wall_s", seconds, f"{what} of 100,000 cells within {seconds:g} s")] if large else []

    def graph() -> None:
        _ensure_graph(folder)

    umap_peers = {
        "umap-learn": command(PEERS, "umap_learn", warm_up_s=WARM_UP_S),
        "scranpy": command(PEERS, "umap_scranpy"),
    }
    return [
        case(
            f"{K} neighbours",
            command(HERE, "neighbours"),
            {
                "scranpy, Annoy": command(PEERS, "neighbours_scranpy", "Annoy"),
                "scranpy, HNSW": command(PEERS, "neighbours_scranpy", "Hnsw"),
                "pynndescent": command(PEERS, "neighbours_pynndescent", warm_up_s=WARM_UP_S),
            },
            3,
        ),
        case("UMAP with its neighbours", command(HERE, "umap"), umap_peers, 3, *goal(20, "a UMAP")),
        *([] if large else [_first(folder, n, command)]),
        case(
            "t-SNE with its neighbours, automatic learning rate",
            command(HERE, "tsne", 0),
            {"openTSNE": command(PEERS, "opentsne")},
            1,
            *goal(60, "a t-SNE"),
        ),
        case(
            "t-SNE with its neighbours, learning rate 200",
            command(HERE, "tsne", 200),
            {"scranpy": command(PEERS, "tsne_scranpy")},
            1,
            *goal(60, "a t-SNE"),
        ),
        case(
            "Leiden from coordinates",
            command(HERE, "clusters", "leiden"),
            {
                "scanpy": command(PEERS, "clusters_scanpy", warm_up_s=WARM_UP_S),
                "scranpy": command(PEERS, "clusters_scranpy", "leiden"),
            },
            3,
            *_cluster_bar("leiden", n),
        ),
        case(
            "Louvain, Seurat's ten starts, from coordinates",
            command(HERE, "clusters", "louvain"),
            {"scranpy": command(PEERS, "clusters_scranpy", "multilevel")},
            3,
            *_cluster_bar("louvain", n),
        ),
        case(
            "Leiden of a given graph",
            command(HERE, "communities", "leiden", prepare=graph),
            {
                "igraph, 2 iterations": command(PEERS, "communities_igraph", 2),
                "igraph, until it gains no more": command(PEERS, "communities_igraph", -1),
                "scanpy": command(PEERS, "communities_scanpy"),
                "scranpy": command(PEERS, "communities_scranpy", "leiden"),
            },
            3,
            *goal(4, "Leiden"),
        ),
        case(
            "Louvain, Seurat's ten starts, of a given graph",
            command(HERE, "communities", "louvain", prepare=graph),
            {
                "igraph multilevel, one start": command(PEERS, "communities_igraph", 0),
                "scranpy": command(PEERS, "communities_scranpy", "multilevel"),
            },
            3,
        ),
    ]


def _cluster_cases(folder: Path, n: int) -> list[Case]:
    """Clusters from coordinates, without peers."""
    names = {"leiden": "Leiden from coordinates", "louvain": "Louvain, Seurat's ten starts, from coordinates"}
    return [
        Case(
            f"{name}; {n // 1000}k cells",
            Command(python(f"{HERE}:clusters", folder, method), ENVIRONMENT, limit_s=LIMIT_S),
            {},
            1,
            _cluster_bar(method, n),
        )
        for method, name in names.items()
    ]


def _cluster_bar(method: str, n: int) -> list[Bar]:
    seconds = CLUSTER_BARS[method].get(n)
    return [Bar("cpu_s", seconds, f"{method} of {n:,} cells within {seconds:g} CPU s")] if seconds else []


def _first(folder: Path, n: int, command) -> Case:
    """The first map of a process, with its imports and a peer's compilation."""
    cache, again = folder / "numba", "cellworker, the second time"

    def forget() -> None:
        shutil.rmtree(cache, ignore_errors=True)

    fresh = {"NUMBA_CACHE_DIR": str(cache)}
    cold = command(PEERS, "umap_learn_first", environment=fresh, prepare=forget, warm_up_s=WARM_UP_S)
    return Case(
        f"first UMAP of a process, imports included; {n // 1000}k cells",
        command(HERE, "umap_again", 1),
        {again: command(HERE, "umap_again", 2), "umap-learn, never run before": cold},
        1 if n == QUICK else 3,
        [] if n == QUICK else [Bar("cpu_s", 1.25, "the first UMAP at most a quarter above the second", again)],
    )


def cells(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return principal components float32 ``(n, 30)`` of cells in groups, and each cell's group.

    Groups have unequal sizes and are in few curved dimensions each; every third is drawn out, as a course of
    development is. The variance falls from component to component.
    """
    random = np.random.default_rng(7)
    fall = 0.6 + 4 * np.exp(-np.arange(DIMS) / 8)
    groups = random.choice(GROUPS, n, p=random.dirichlet(np.full(GROUPS, 1.5)))
    points = random.normal(size=(n, DIMS)) * 0.45
    for group in range(GROUPS):
        own = np.flatnonzero(groups == group)
        within = random.normal(size=(len(own), 6)) * [1.5, 1.0, 0.8, 0.6, 0.5, 0.4]
        if group % 3 == 0:
            within[:, 0] = random.uniform(-4, 4, len(own))
        spread = within @ (random.normal(size=(6, DIMS)) / np.sqrt(6))
        curved = spread + 0.25 * np.tanh(spread) * random.normal(size=DIMS)
        points[own] += random.normal(size=DIMS) * fall * 1.8 + 1.3 * curved * np.sqrt(fall)
    points -= points.mean(axis=0)
    _, axes = np.linalg.eigh(points.T @ points)
    return np.ascontiguousarray(points @ axes[:, ::-1], np.float32), groups


def points_of(folder: str) -> np.ndarray:
    return np.load(Path(folder) / "points.npy")


def unit(points: np.ndarray) -> np.ndarray:
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def centred(points: np.ndarray) -> np.ndarray:
    """Return the points as Rtsne and the task prepare them."""
    moved = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    return moved / np.abs(moved).max()


def map_quality(points: np.ndarray, layout: np.ndarray) -> dict[str, float]:
    """Trustworthiness and preserved neighbours of some cells, against exact neighbours."""
    n = len(points)
    points, layout = np.asarray(points, np.float64), np.asarray(layout, np.float64)
    far, kept = 0, 0
    rows = _sample(n)
    for row in rows:
        truth, shown = _distances(points, row), _distances(layout, row)
        near = np.argpartition(shown, TRUSTED)[:TRUSTED]
        ranks = 1 + np.array([np.count_nonzero(truth < truth[cell]) for cell in near])
        far += np.maximum(ranks - TRUSTED, 0).sum()
        kept += len(
            np.intersect1d(np.argpartition(truth, PRESERVED)[:PRESERVED], np.argpartition(shown, PRESERVED)[:PRESERVED])
        )
    most = len(rows) * TRUSTED * (2 * n - 3 * TRUSTED - 1) / 2
    return {"trustworthiness": round(float(1 - far / most), 4), "preserved": round(kept / (len(rows) * PRESERVED), 4)}


def recall(points: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Share of true neighbours among ``(n, K)`` or ``(n, K - 1)`` that were found, the cell itself not counted."""
    points = np.asarray(points, np.float64)
    rows, hits = _sample(len(points)), 0
    for row in rows:
        truth = np.argpartition(_distances(points, row), K - 1)[: K - 1]
        hits += len(np.intersect1d(truth, np.setdiff1d(found[row], row)))
    return {"recall": round(hits / (len(rows) * (K - 1)), 4)}


def _sample(n: int) -> np.ndarray:
    return np.random.default_rng(1).choice(n, min(n, SAMPLED), replace=False)


def _distances(points: np.ndarray, row: int) -> np.ndarray:
    """Squared distances of one point, that to itself infinite."""
    out = ((points - points[row]) ** 2).sum(axis=1)
    out[row] = np.inf
    return out


def agreement(folder: str, labels: np.ndarray) -> dict[str, float]:
    """Adjusted Rand index (Hubert and Arabie 1985) with the groups that the cells were drawn from."""
    groups = np.load(Path(folder) / "groups.npy")
    table = np.zeros((groups.max() + 1, labels.max() + 1))
    np.add.at(table, (groups, labels), 1)
    both, one, other, pairs = (
        (counts * (counts - 1) / 2).sum()
        for counts in (table, table.sum(axis=0), table.sum(axis=1), np.array([len(labels)], float))
    )
    expected = one * other / pairs
    index = (both - expected) / ((one + other) / 2 - expected)
    return {"clusters": len(np.unique(labels)), "rand_index": round(float(index), 4)}


def graph_of(folder: str):
    """Return the graph of shared neighbours that all programs get."""
    from cellworker.analysis.graphs.snn import Links

    with np.load(Path(folder) / "graph.npz") as file:
        return Links(file["indptr"], file["cells"], file["weights"])


def modularity_of(folder: str, labels: np.ndarray) -> dict[str, float]:
    from cellworker.analysis.graphs.leiden import modularity

    reached = modularity(graph_of(folder), np.asarray(labels), RESOLUTION)
    return {"clusters": len(np.unique(labels)), "modularity": round(reached, 6)}


def _ensure_graph(folder: Path) -> None:
    if not (folder / "graph.npz").exists():
        from cellworker.analysis.graphs.neighbours import nearest_neighbours
        from cellworker.analysis.graphs.snn import shared_neighbours

        points = points_of(str(folder))[:, :CLUSTER_DIMS]
        links = shared_neighbours(nearest_neighbours(points, CLUSTER_K, "euclidean", threads=THREADS).cells)
        np.savez(folder / "graph.npz", indptr=links.indptr, cells=links.cells, weights=links.weights)


def neighbours(folder: str) -> None:
    from cellworker.analysis.graphs.fast_neighbours import fast_neighbours

    points = points_of(folder)
    with timed() as details:
        found = fast_neighbours(points, K, "euclidean", threads=THREADS)
    details |= recall(points, found.cells)


def _umap(points: np.ndarray) -> tuple[np.ndarray, float]:
    from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
    from cellworker.analysis.maps.umap import umap as lay_out

    begun = time.process_time()
    found = fast_neighbours(points, K, "cosine", threads=THREADS)
    searched = time.process_time() - begun
    return lay_out(found, min_dist=MIN_DIST, metric="cosine", points=points, threads=THREADS), searched


def umap(folder: str) -> None:
    points = points_of(folder)
    _umap(points[:2000])
    with timed() as details:
        layout, searched = _umap(points)
    details |= {"searching_cpu_s": round(searched, 3)} | map_quality(unit(points), layout)


def umap_again(folder: str, time_: str) -> None:
    points = points_of(folder)
    for _ in range(int(time_) - 1):
        _umap(points)
    with timed():
        _umap(points)


def tsne(folder: str, rate: str) -> None:
    from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
    from cellworker.analysis.maps.tsne import neighbours_for
    from cellworker.analysis.maps.tsne import tsne as lay_out

    points = centred(points_of(folder))
    with timed() as details:
        begun = time.process_time()
        found = fast_neighbours(points, neighbours_for(PERPLEXITY, len(points)), "euclidean", threads=THREADS)
        details["searching_cpu_s"] = round(time.process_time() - begun, 3)
        layout = lay_out(
            found,
            perplexity=PERPLEXITY,
            learning_rate=float(rate),
            points=points,
            n_iterations=ITERATIONS,
            threads=THREADS,
        )
    details |= map_quality(points, layout)


def clusters(folder: str, method: Literal["louvain", "leiden"]) -> None:
    """Cluster as the task does: Leiden on exact neighbours, Louvain on the original's."""
    from cellworker.analysis.graphs.clusters import cell_graph, clusters_of

    points = points_of(folder)[:, :CLUSTER_DIMS].astype(np.float64)
    with timed() as details:
        begun = time.process_time()
        links = cell_graph(points, method, threads=THREADS)
        details["graph_cpu_s"] = round(time.process_time() - begun, 3)
        labels, _ = clusters_of(links, method, RESOLUTION)
    details |= agreement(folder, labels)


def communities(folder: str, method: str) -> None:
    from cellworker.analysis.graphs.leiden import leiden
    from cellworker.analysis.graphs.louvain import louvain

    links = graph_of(folder)
    with timed() as details:
        labels = (louvain if method == "louvain" else leiden)(links, RESOLUTION)
    details |= modularity_of(folder, labels)
