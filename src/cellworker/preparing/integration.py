"""Integration of samples that are separate in the space of principal components."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cellworker.analysis.graphs.fast_neighbours import fast_neighbours
from cellworker.errors import ErrorCode, WorkerError
from cellworker.extras import how_to_install

__all__ = ["Integrated", "integrate", "separation"]

Floats = NDArray[np.float64]
Progress = Callable[[float], None]

_NEIGHBOURS = 30


@dataclass(frozen=True, slots=True)
class Integrated:
    """The outcome.

    Attributes
    ----------
    method
        "none", "harmony" or "mnn".
    coordinates
        float64 ``(n_cells, n_dims)``; those that came in where the method is "none".
    before, after
        `separation` of the samples.
    reason
        Why, in a sentence.
    """

    method: Literal["none", "harmony", "mnn"]
    coordinates: Floats
    before: float
    after: float
    reason: str


def separation(coordinates: Floats, samples: NDArray[np.int32], *, threads: int = 1) -> float:
    """Return how separate samples are: 0 where neighbours come from all samples by their size, 1 where from one's own.

    For each cell: the share of its own sample among its 30 nearest neighbours, less the share expected from that
    sample's size, divided by the largest possible excess. The result is the mean over all cells, at least 0.
    """
    n = len(coordinates)
    sizes = np.bincount(samples).astype(np.float64)
    if np.count_nonzero(sizes) < 2:
        return 0.0
    k = min(_NEIGHBOURS, n - 1)
    near = fast_neighbours(coordinates, k + 1, "euclidean", threads=threads).cells[:, 1:]
    own = (samples[near] == samples[:, None]).mean(axis=1)
    expected = (sizes[samples] - 1) / (n - 1)
    return float(max(0.0, np.mean((own - expected) / (1 - expected))))


def integrate(
    coordinates: Floats,
    samples: NDArray[np.int32],
    wanted: Literal["auto", "none", "harmony", "mnn"],
    limit: float,
    *,
    threads: int = 1,
    progress: Progress = lambda fraction: None,  # noqa: ARG005
) -> Integrated:
    """Integrate samples where the parameters ask for it, or where they separate.

    Parameters
    ----------
    coordinates
        float64 ``(n_cells, n_dims)``: principal components.
    samples
        int32: each cell's sample.
    wanted
        "auto" takes Harmony where the separation is above `limit`, and MNN where it still is after that.
    threads
        Threads to use; the result does not depend on it.

    Raises
    ------
    WorkerError
        ``INVALID_INPUT`` where the library is not installed.
    """
    before = separation(coordinates, samples, threads=threads)
    progress(0.2)
    if wanted == "none" or len(np.unique(samples)) < 2:
        why = "not asked for" if wanted == "none" else "there is one sample"
        return Integrated("none", coordinates, before, before, f"not integrated: {why}")
    if wanted == "auto" and before <= limit:
        return Integrated(
            "none", coordinates, before, before, f"not integrated: samples are mixed ({before:.2f} <= {limit:g})"
        )
    asked = "asked for" if wanted != "auto" else f"samples lie apart ({before:.2f} > {limit:g})"
    if wanted in ("auto", "harmony"):
        found = _harmony(coordinates, samples)
        after = separation(found, samples, threads=threads)
        progress(0.6)
        if wanted == "harmony" or after <= limit:
            return Integrated("harmony", found, before, after, f"Harmony: {asked}")
        asked += f", after Harmony still ({after:.2f})"
    found = _mnn(coordinates, samples, threads)
    progress(0.9)
    return Integrated("mnn", found, before, separation(found, samples, threads=threads), f"MNN: {asked}")


def _harmony(coordinates: Floats, samples: NDArray[np.int32]) -> Floats:
    """Run Harmony (Korsunsky et al. 2019, doi:10.1038/s41592-019-0619-0)."""
    try:
        import harmonypy  # noqa: PLC0415 - of the extra
    except ImportError:
        raise _missing("harmonypy") from None
    # One core: the rounding of sums over several cores differs from run to run.
    found = harmonypy.run_harmony(
        coordinates, {"sample": samples.astype(str)}, ["sample"], verbose=False, random_state=0, ncores=1
    )
    out = np.asarray(found.Z_corr, np.float64)
    return np.ascontiguousarray(out if out.shape == coordinates.shape else out.T)


def _mnn(coordinates: Floats, samples: NDArray[np.int32], threads: int) -> Floats:
    """Correct by mutual nearest neighbours (Haghverdi et al. 2018, doi:10.1038/nbt.4091), as libscran does."""
    try:
        import scranpy  # noqa: PLC0415 - of the extra
    except ImportError:
        raise _missing("scranpy") from None
    found = scranpy.correct_mnn(np.asfortranarray(coordinates.T), samples, num_threads=threads)
    return np.ascontiguousarray(np.asarray(found["corrected"], np.float64).T)


def _missing(library: str) -> WorkerError:
    message = (
        f"samples are integrated with {library}, which is not installed ({how_to_install('prepare')}); or leave them "
        "as they are with --integration none"
    )
    return WorkerError(ErrorCode.INVALID_INPUT, message)
