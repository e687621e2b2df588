"""Limits BLAS to one thread where our own threads do the work."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_blas_thread", "started_with_one"]

_started_with_one: list[bool] = []


def started_with_one() -> None:
    """Note that BLAS had one thread when this process started, so that nobody looks for it: that takes `/proc`.

    Variables of the environment do not tell it: Dask sets them in a process whose BLAS has long been started.
    """
    _started_with_one.append(True)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread: several threads round differently, and spin beside our own threads.

    Engines start with one thread (`OPENBLAS_NUM_THREADS`). A notebook has one per processor; on a busy machine these
    take 3.5 times the CPU time of one. Without the package threadpoolctl, which comes with scikit-learn and with the
    extras ``notebook``, ``dask`` and ``prepare``, this changes nothing.
    """
    if _started_with_one:
        yield
        return
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 - optional
    except ImportError:
        yield
        return
    import scipy.linalg  # noqa: F401, PLC0415 - loads its BLAS, so that it is found

    with threadpool_limits(1, "blas"):
        yield
