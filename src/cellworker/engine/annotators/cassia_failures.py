"""Failures of `cassia` or its language model, as sentences that say what to do and hold no secret."""

import re

from cellworker.engine.annotators.language_model import LanguageModel
from cellworker.errors import ErrorCode, WorkerError
from cellworker.extras import how_to_install
from cellworker.logs import redact

__all__ = ["endpoint_failure", "failure", "not_set_up", "told_failure"]

_MAX_CITED = 300
_RULER = re.compile(r"[=-]{4,}")
_STATUS = re.compile(r"Error code: (\d{3})")
_REFUSED = frozenset({401, 403})
_BUSY = 429
_BY_STATUS = {
    404: "does not know the model {model!r}: check CASSIA_MODEL and CASSIA_URL",
    _BUSY: "takes no more questions now (HTTP 429): try again later, or have its limits raised",
}
_BY_TEXT = (
    (r"timed out", "did not answer in time: try again later", True),
    (r"Connection error", "cannot be reached: check CASSIA_URL and the network's rules", False),
    (
        r"NoneType|has no attribute|JSON|Expecting value|empty response|parsing response",
        "gave answers that CASSIA cannot read: check CASSIA_URL, or choose another CASSIA_MODEL",
        False,
    ),
)


def failure(reason: str) -> WorkerError:
    """Return the error of that reason, words without a full stop."""
    return WorkerError(ErrorCode.R_WORKER_CASSIA_ERROR, f"The clusters could not be annotated: {reason}.")


def not_set_up(detail: str) -> WorkerError:
    """Return the error for a biologist, with the details that an operator of the worker needs."""
    return failure(
        "CASSIA asks a language model, and none is set up here. ScType names cell types without one; or ask those who "
        f"run this worker to set it up, who need to know: {detail}"
    )


def told_failure(model: LanguageModel, kind: str, text: str) -> WorkerError:
    """Return the error that the process of `cassia` reported: ``import``, ``token`` or ``cassia``, with a text."""
    if kind == "import":
        return not_set_up(f"the module {text!r} is missing where cellworker runs ({how_to_install('cassia')})")
    if kind == "token":
        message = (
            f"Could not mint a Bedrock bearer token from the worker's IAM credentials (region {model.bedrock_region}). "
            f"Give the worker an IAM role, or set CASSIA_URL and CASSIA_KEY ({text}). "
            "Until then ScType names cell types without a language model."
        )
        return WorkerError(ErrorCode.R_WORKER_CASSIA_ERROR, message)
    return endpoint_failure(model, text)


def endpoint_failure(model: LanguageModel, text: str) -> WorkerError:
    """Return the error that a text of `cassia` means; an unknown text is quoted, without secrets."""
    meaning, theirs = _meaning(model, text)
    return failure(meaning) if theirs else not_set_up(meaning)


def _meaning(model: LanguageModel, text: str) -> tuple[str, bool]:
    """Return what a text means, and whether the cause is the model, which may pass, or this worker's settings."""
    where = f"the language model at {model.host}"
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    if status in _REFUSED or "Authentication error" in text:
        if model.bedrock_region:
            return (
                f"{where} refused the worker's role: it needs bedrock:CallWithBearerToken and bedrock:InvokeModel",
                False,
            )
        return f"{where} refused the key: check CASSIA_KEY", False
    if status in _BY_STATUS:
        return f"{where} {_BY_STATUS[status].format(model=model.model)}", status == _BUSY
    if status:
        advice = "try again later" if status >= 500 else "check CASSIA_MODEL and CASSIA_URL"
        return f"{where} failed (HTTP {status}): {advice}", status >= 500
    for pattern, meaning, theirs in _BY_TEXT:
        if re.search(pattern, text, re.IGNORECASE):
            return f"{where} {meaning}", theirs
    words = " ".join(_RULER.sub("", text).split())
    if model.key:
        words = words.replace(model.key, "[key]")
    return f"CASSIA failed ({str(redact(words))[-_MAX_CITED:] or 'without a word'})", True
