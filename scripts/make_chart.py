"""Write parts of the chart that follow from the code: the variables of both containers, and the worker's version.

``make fmt`` runs it; ``--check`` only names the files that differ, for the tests.
"""

import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from cellworker.settings import Settings
from cellworker.version import __version__

CHART = Path(__file__).resolve().parent.parent / "chart-infra"

OWNED = {
    "gateway": {
        "AWS_ACCOUNT_ID": "myAccount.accountId",
        "AWS_DEFAULT_REGION": "awsRegion",
        "K8S_ENV": "kubernetes.env",
        "IGNORE_TIMEOUT": "ignoreTimeout",
        "JOURNAL_KEY": "journalKeySecret",
        "GRACE_S": "graceSeconds",
        "ENGINE_URL": "",
        "DATA_DIR": "",
        "SHUTDOWN_FILE": "",
        "HEALTH_PORT": "",
        "LABELS_FILE": "",
    },
    "engine": {
        "PORT": "",
        "HOST": "",
        "DATA_DIR": "",
        "STORE_DIR": "",
        "SHUTDOWN_FILE": "",
        "LABELS_FILE": "",
    },
}
"""Settings that the chart's templates set, with the chart value that decides each: a second value would conflict."""

NOT_THE_ENGINES = frozenset({"JOURNAL_KEY", "REDIS_URL"})
"""Secrets that only the gateway needs."""

OTHERS = {
    "^OTEL_[A-Z0-9_]+$": "of the OpenTelemetry SDK",
    "^AWS_(CA_BUNDLE|MAX_ATTEMPTS|RETRY_MODE|USE_(FIPS|DUALSTACK)_ENDPOINT|STS_REGIONAL_ENDPOINTS)$": "of the AWS SDK",
    "^(HTTPS_PROXY|HTTP_PROXY|NO_PROXY|SSL_CERT_FILE|TZ)$": "of the system",
}
"""Variables of the libraries, by pattern."""

_VALUE = ["string", "number", "boolean"]


def variables(part: str) -> dict[str, Any]:
    """Return the schema of ``gateway.env`` or ``engine.env``: every setting by name, and nothing unknown."""
    left_out = set(OWNED[part]) | (NOT_THE_ENGINES if part == "engine" else set())
    named = {
        item.name.upper(): {"description": item.metadata["help"], "type": _VALUE}
        for item in fields(Settings)
        if item.name.upper() not in left_out
    }
    return {
        "type": "object",
        "properties": named,
        "patternProperties": {pattern: {"description": words, "type": _VALUE} for pattern, words in OTHERS.items()},
        "additionalProperties": False,
    }


def updated(text: str) -> str:
    """Return the schema with both lists of variables as the settings are now."""
    schema = json.loads(text)
    for part in OWNED:
        schema["properties"][part]["properties"]["env"] = variables(part)
    return json.dumps(schema, indent=2) + "\n"


def with_version(text: str) -> str:
    """Return `Chart.yaml` with the worker's version; the chart has a version of its own."""
    return re.sub(r"^appVersion: .*$", f'appVersion: "{__version__}"', text, flags=re.MULTILINE)


def main(arguments: list[str]) -> int:
    """Rewrite, or with ``--check`` compare."""
    status = 0
    for name, update in (("values.schema.json", updated), ("Chart.yaml", with_version)):
        text = (CHART / name).read_text(encoding="utf-8")
        new = update(text)
        if new == text:
            continue
        if "--check" in arguments:
            print(f"out of date: chart-infra/{name}; run 'make fmt'", file=sys.stderr)
            status = 1
        else:
            (CHART / name).write_text(new, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
