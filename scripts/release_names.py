"""Print what a run of the CI workflow calls its image and its deployment, as lines of ``name=value``.

The names are the platform's (contract 8.7): a release is called after its tag alone, which deployments compare as a
semantic version; everything else has commit and time, so that the newest can be chosen.
"""

import os
import re
import sys
import time
from collections.abc import Mapping

__all__ = ["names"]

_VERSION = re.compile(r"v?(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)")


def names(environment: Mapping[str, str], now: float) -> dict[str, str]:
    """Return ``tag``, ``version`` (of a release; else empty) and ``environment``.

    Parameters
    ----------
    environment
        What GitHub sets: ``GITHUB_REF``, ``GITHUB_SHA`` and ``GITHUB_EVENT_NAME``.
    now
        Seconds since 1970.

    Raises
    ------
    ValueError
        If a release's tag is not a version.
    """
    ref, event = environment["GITHUB_REF"], environment["GITHUB_EVENT_NAME"]
    label = re.sub(r"[^A-Za-z0-9_.-]+", "-", ref)[:80]
    if event == "release":
        found = _VERSION.fullmatch(ref.removeprefix("refs/tags/"))
        if found is None:
            message = f"a release is tagged 1.2.3 or v1.2.3, and this one {ref!r}"
            raise ValueError(message)
        return {"tag": label, "version": found[1], "environment": "production"}
    tag = f"{label}-{environment['GITHUB_SHA'][:40]}-{int(now)}"
    return {"tag": tag, "version": "", "environment": "develop" if event == "push" else "staging"}


if __name__ == "__main__":
    try:
        for key, value in names(os.environ, time.time()).items():
            print(f"{key}={value}")
    except ValueError as error:
        sys.exit(str(error))
