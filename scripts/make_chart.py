"""Write the part of the chart's `values.schema.json` that the code knows better: the variables of both containers.

``make fmt`` runs it; ``--check`` only says whether the schema has drifted, for the tests.
"""

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from cellworker.settings import Settings

SCHEMA = Path(__file__).resolve().parent.parent / "chart-infra" / "values.schema.json"

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
"""Settings that the chart's own templates decide, with the value that sets them: a second value would be a surprise."""

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


def main(arguments: list[str]) -> int:
    """Rewrite, or with ``--check`` compare."""
    text = SCHEMA.read_text(encoding="utf-8")
    new = updated(text)
    if new == text:
        return 0
    if "--check" in arguments:
        print("out of date: chart-infra/values.schema.json; run 'make fmt'", file=sys.stderr)
        return 1
    SCHEMA.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
