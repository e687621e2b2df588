"""The name of a result: equal for equal requests to equal data, in any order of keys."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from cellworker.identifiers import ETag
from cellworker.version import __version__

__all__ = ["RESULT_VERSION", "etag_of"]

RESULT_VERSION = 1
"""Raised when results for the same request change between two packages of one version."""


def etag_of(
    body: Mapping[str, Any], request_props: Mapping[str, Any], experiment_key: str, cell_sets_version: str
) -> ETag:
    """Return the ETag of a request: the MD5 hex digest of a canonical form of everything that its answer depends on.

    Parameters
    ----------
    body, request_props
        As the client sent them.
    experiment_key
        Names the content of the experiment.
    cell_sets_version
        Names the content of the cell sets; empty for tasks that do not read them.
    """
    question = {
        "body": _canonical(body),
        "requestProps": _canonical(request_props),
        "experiment": experiment_key,
        "cellSets": cell_sets_version,
        "version": [__version__, RESULT_VERSION],
    }
    text = orjson.dumps(question, option=orjson.OPT_SORT_KEYS)
    return ETag(hashlib.md5(text, usedforsecurity=False).hexdigest())


def _canonical(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Write whole numbers one way: JavaScript knows no difference between 1 and 1.0."""
    if isinstance(value, Mapping):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
