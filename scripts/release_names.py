"""Print the names of a CI run's image and deployment, as lines of ``name=value``.

The platform's deployments look for these names (contract 8.7 and 10): a release is named after its
version alone, which compares as a semantic version; everything else has commit and time, so that the newest build
of a ref can be chosen. The image of a name gets the endings ``-python`` and ``-r``, as the original's two images do.
"""

import hashlib
import os
import re
import sys
import time
from collections.abc import Mapping

__all__ = ["names"]

_VERSION = re.compile(r"v?(\d+\.\d+\.\d+)")
_MAX_LABEL = 60
"""A tag may have 128 characters: what follows a label takes 40 of the commit, 10 of the time, and the endings."""


def names(environment: Mapping[str, str], now: float) -> dict[str, str]:
    """Return the names of this run.

    Parameters
    ----------
    environment
        GitHub's variables ``GITHUB_REF``, ``GITHUB_SHA`` and ``GITHUB_EVENT_NAME``; and, where a maintainer starts the
        workflow by hand for a pull request, its number as ``PULL_REQUEST``.
    now
        Seconds since 1970.

    Returns
    -------
    dict
        ``event``: the kind of deployment, for ``.github/deploy/fill.py``. ``label``: the ref in the platform's
        spelling. ``tag``: of the image, without endings. ``version``: of a release, else empty. ``environment``:
        production or staging.

    Raises
    ------
    ValueError
        If a release's tag is not a version, or the pull request is no number.
    """
    ref, event = environment["GITHUB_REF"], environment["GITHUB_EVENT_NAME"]
    if event == "release":
        found = _VERSION.fullmatch(ref.removeprefix("refs/tags/"))
        if found is None:
            message = f"a release is tagged 1.2.3 or v1.2.3, and this one {ref!r}: deployments take no other"
            raise ValueError(message)
        label = f"refs-tags-{found[1]}"
        return {
            "event": "release", "label": label, "tag": label, "version": found[1], "environment": "production",
        }  # fmt: skip
    request = environment.get("PULL_REQUEST", "")
    if request and not re.fullmatch(r"[1-9][0-9]{0,8}", request):
        message = f"a pull request has a number, and this is none: {request[:40]!r}"
        raise ValueError(message)
    label = f"refs-pull-{request}-merge" if request else _label(ref)
    return {
        "event": "push" if event == "push" else "pull_request",
        "label": label,
        "tag": f"{label}-{environment['GITHUB_SHA'][:40]}-{int(now)}",
        "version": "",
        "environment": "staging",
    }


def _label(ref: str) -> str:
    """Return a ref as it stands in tags, file names and patterns; one that is cut keeps a name of its own."""
    label = re.sub(r"[^A-Za-z0-9_.-]", "-", ref)
    if len(label) <= _MAX_LABEL:
        return label
    return f"{label[: _MAX_LABEL - 9]}-{hashlib.sha256(ref.encode()).hexdigest()[:8]}"


if __name__ == "__main__":
    try:
        for key, value in names(os.environ, time.time()).items():
            print(f"{key}={value}")
    except ValueError as error:
        sys.exit(str(error))
