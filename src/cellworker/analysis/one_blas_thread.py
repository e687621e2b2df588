"""BLAS kept to one thread where our own threads work already."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["one_blas_thread"]


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep BLAS to one thread: several round otherwise, and spin where our own threads work already.

    Engines start with one (`OPENBLAS_NUM_THREADS`); a notebook has as many as processors, and on a busy machine they
    took 3.5 times the CPU time of one. Without the package threadpoolctl, which comes with scikit-learn and with the
    extra ``prepare``, nothing is changed.
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
