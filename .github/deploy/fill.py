"""Write the Flux objects that deploy the worker into a clone of the releases repository: ``fill.py FOLDER``.

The environment says what to write: ``EVENT`` (``push``, ``pull_request`` or ``release``), ``LABEL``, ``TAG``,
``REGISTRY``, ``REPOSITORY``, ``SOURCE``, ``COMMIT``, and outside of releases ``BRANCH``. The repository's layout, the
names of its objects and the sizes are the platform's (contract 8.7 and 10):

==============  ==========================================  =========================================================
event           file                                        what it deploys
==============  ==========================================  =========================================================
push            ``staging/worker.yaml``                     the sandbox ``default``, newest build of the branch
push            ``staging-candidates/worker/LABEL.yaml``    a template for sandboxes, newest build of the branch
pull request    ``staging-candidates/worker/LABEL.yaml``    the same, newest build of the pull request
release         ``production/worker.yaml``                  the highest version that was released
==============  ==========================================  =========================================================

The platform's staging tool copies a template into ``staging/`` with the sandbox's id in the place of
``STAGING_SANDBOX_ID``; ``SANDBOX_ID`` fills it in at once.
"""

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

PLACEHOLDER = "STAGING_SANDBOX_ID"
_SANDBOX = re.compile(r"[a-z0-9]([-a-z0-9]{0,24}[a-z0-9])?")
_SIZES = {"production": ("1", "44Gi"), "staging": ("0", "20Gi"), "candidate": ("0", "4Gi")}
"""Replicas and memory of the engine. The API starts workers on demand; the memory decides the node."""


def files(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the path and the text of each file that one run of the workflow writes."""
    event, label = variables["EVENT"], variables["LABEL"]
    if event == "release":
        yield "production/worker.yaml", _filled(variables, "production", "default")
        return
    if event == "push":
        yield "staging/worker.yaml", _filled(variables, "staging", "default")
    sandbox = variables.get("SANDBOX_ID") or PLACEHOLDER
    if sandbox != PLACEHOLDER and not _SANDBOX.fullmatch(sandbox):
        message = f"SANDBOX_ID: {sandbox!r} is no sandbox's id: at most 26 of a-z, 0-9 and -, none of them - at an end"
        raise ValueError(message)
    yield f"staging-candidates/worker/{label}.yaml", _filled(variables, "candidate", sandbox)


def _filled(variables: Mapping[str, str], kind: str, sandbox: str) -> str:
    replicas, memory = _SIZES[kind]
    environment = "production" if kind == "production" else "staging"
    # Only builds of this very ref, and of those only what passed the tests: others end with -ci.
    if kind == "production":
        build, extract = r"refs-tags-(?P<version>[0-9]+\.[0-9]+\.[0-9]+)", "version"
        policy, reference = "semver: {range: '>=0.0.0'}", f"commit: {_quoted(variables['COMMIT'])}"
    else:
        build, extract = rf"{_escaped(variables['LABEL'])}-[a-f0-9]+-(?P<timestamp>[0-9]+)", "timestamp"
        policy, reference = "numerical: {order: asc}", f"branch: {_quoted(variables['BRANCH'])}"
    text = (Path(__file__).parent / "flux.yaml").read_text(encoding="utf-8")
    return Template(text).substitute(
        variables,
        SANDBOX=sandbox,
        REPLICAS=replicas,
        MEMORY=memory,
        BUILD=build,
        EXTRACT=extract,
        POLICY=policy,
        REFERENCE=reference,
        ENVIRONMENT=environment,
    )


def _quoted(text: str) -> str:
    """Return text that YAML takes for nothing but text: a branch may be called ``on``, ``1.0`` or ``@x``."""
    return "'" + text.replace("'", "''") + "'"


def _escaped(label: str) -> str:
    """Return a pattern for a label; Flux's expressions know fewer escapes than Python's."""
    return label.replace(".", r"\.")


def main() -> None:
    """Write the files."""
    folder = Path(sys.argv[1])
    for name, text in files(os.environ):
        path = folder / name
        top = folder / Path(name).parts[0]
        if not top.is_dir():
            sys.exit(f"The releases repository has no folder {top.name}: is it the platform's?")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(name)


if __name__ == "__main__":
    main()
