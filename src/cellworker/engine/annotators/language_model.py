"""The language model of the settings, and its key."""

import re
from urllib.parse import urlsplit

import msgspec

from cellworker.engine.annotators.keeper_client import descriptor
from cellworker.errors import ErrorCode, WorkerError
from cellworker.settings import Settings

__all__ = ["LanguageModel", "language_model"]

_BEDROCK = "https://bedrock-runtime.{}.amazonaws.com/openai/v1"
_BEDROCK_HOST = re.compile(r"bedrock-runtime\.([a-z0-9-]+)\.amazonaws\.com")
_DEFAULT_REGION = "us-east-1"


class LanguageModel(msgspec.Struct, frozen=True):
    """An endpoint that speaks OpenAI's protocol.

    Attributes
    ----------
    url
        Its base address, up to ``/v1``.
    model
        The model's name there.
    key
        A secret; empty where none is needed, or one is made from the worker's IAM credentials.
    timeout_s
        Seconds that all questions of one annotation together may take.
    reachable
        Whether this worker may open connections at all (EGRESS).
    kept
        Whether another process keeps the key; `key` is empty then.
    """

    url: str = ""
    model: str = ""
    key: str = ""
    timeout_s: float = 0.0
    reachable: bool = True
    kept: bool = False

    def __repr__(self) -> str:
        return f"<LanguageModel {self.model} at {self.host}>"

    @property
    def host(self) -> str:
        """The host without the rest: an address may hold a password."""
        try:
            return urlsplit(self.url).hostname or "its address"
        except ValueError:
            return "its address"

    @property
    def bedrock_region(self) -> str:
        """The AWS region of a Bedrock endpoint, for its token; empty for other endpoints, or where a key is set."""
        found = None if self.key or self.kept else _BEDROCK_HOST.fullmatch(self.host)
        return found[1] if found else ""

    def check(self) -> None:
        """Refuse text that is no address.

        Raises
        ------
        WorkerError
            ``R_WORKER_CASSIA_ERROR`` saying what is expected.
        """
        try:
            parts = urlsplit(self.url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        except ValueError:
            sound = False
        if not sound or not self.model:
            message = (
                "CASSIA_URL and CASSIA_MODEL have to name a language model: an address such as https://host/v1, "
                "without a password in it (the key goes into CASSIA_KEY), and the model's name there."
            )
            raise WorkerError(ErrorCode.R_WORKER_CASSIA_ERROR, message)


def language_model(settings: Settings) -> LanguageModel:
    """Return the settings' model: by default Amazon Bedrock's in the worker's region."""
    region = settings.aws_region or settings.aws_default_region or _DEFAULT_REGION
    return LanguageModel(
        settings.cassia_url or _BEDROCK.format(region),
        settings.cassia_model,
        settings.cassia_key,
        settings.cassia_timeout_s,
        settings.egress,
        descriptor() is not None,
    )
