"""Limits BLAS to one thread where our own threads do the work."""

import os
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
    if os.environ.get("OPENBLAS_NUM_THREADS") == os.environ.get("MKL_NUM_THREADS") == "1":
        yield  # it has one: nothing has to be found out, which takes a look at /proc
        return
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415 - optional
    except ImportError:
        yield
        return
    import scipy.linalg  # noqa: F401, PLC0415 - loads its BLAS, so that it is found

    with threadpool_limits(1, "blas"):
        yield
