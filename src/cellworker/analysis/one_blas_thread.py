"""Limits BLAS to one thread where our own threads do the work."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_blas_thread"]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread: several threads round differently, and spin beside our own threads.

    Engines start with one thread (`OPENBLAS_NUM_THREADS`). A notebook has one per processor; on a busy machine these
    take 3.5 times the CPU time of one. Without the package threadpoolctl, which comes with scikit-learn and with the
    extra ``prepare``, this changes nothing.
    """
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 - optional
    except ImportError:
        yield
        return
    import scipy.linalg  # noqa: F401, PLC0415 - loads its BLAS, so that it is found

    with threadpool_limits(1, "blas"):
        yield
