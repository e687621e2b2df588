"""Print the Flux objects that deploy the worker to one environment, filled from the environment variables.

``ENVIRONMENT`` is production, develop or staging; ``TAG``, ``REGISTRY``, ``REPOSITORY``, ``ACCOUNT_ID``, ``SOURCE`` and
``COMMIT`` are what the workflow knows of the image. Sizes follow contract 8.7.
"""

import os
from pathlib import Path
from string import Template

# Replicas: the API scales the others up on demand. Memory: of the engine, which decides the node.
SIZES = {
    "production": {"replicas": "1", "memory": "44Gi", "policy": "semver", "pattern": "^refs-tags-v?(?P<version>.*)$"},
    "develop": {"replicas": "0", "memory": "20Gi", "policy": "numerical", "pattern": "-(?P<version>[0-9]+)$"},
    "staging": {"replicas": "0", "memory": "4Gi", "policy": "numerical", "pattern": "-(?P<version>[0-9]+)$"},
}
# A numerical policy takes the newest build, a semantic one the highest version that was released.
POLICIES = {"semver": 'semver: {range: ">=0.0.0"}', "numerical": "numerical: {order: asc}"}


def fill(variables: dict[str, str]) -> str:
    """Return the YAML text."""
    name = variables["ENVIRONMENT"]
    size = SIZES[name]
    sandbox = variables.get("SANDBOX_ID") or "default"
    text = (Path(__file__).parent / "flux.yaml").read_text(encoding="utf-8")
    return Template(text).substitute(
        variables,
        SANDBOX_ID=sandbox,
        REPLICAS=size["replicas"],
        MEMORY=size["memory"],
        PATTERN=size["pattern"],
        POLICY=POLICIES[size["policy"]],
        K8S_ENV="production" if name == "production" else "staging",
    )


if __name__ == "__main__":
    print(fill(dict(os.environ)), end="")
