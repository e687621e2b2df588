"""The envelope of a work request: its fields on the queue, and the fields that others may see."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
import orjson

from cellworker.errors import ErrorCode, WorkerError
from cellworker.identifiers import ETag
from cellworker.protocol.validation import convert

__all__ = ["InvalidEnvelopeError", "WorkRequest", "parse_timeout"]

MAX_ENVELOPE_BYTES = 32 * 1024 * 1024
MAX_DEPTH = 64
_NEVER = datetime.max.replace(tzinfo=UTC)
SECRET_KEYS = frozenset({"authorization", "authjwt"})

_UNKNOWN = ETag("unknown")
_FORMATS = (
    "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%a %b %d %Y %H:%M:%S GMT%z", "%a %b %d %H:%M:%S %Y",
    "%Y-%m-%d %H:%M:%S %z", "%Y-%m-%dT%H:%M:%S %z", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y, %I:%M:%S %p", "%d %b %Y %H:%M:%S",
    "%b %d, %Y %H:%M:%S", "%B %d, %Y %H:%M:%S",
)  # fmt: skip
_ZONE_WORDS = re.compile(r"\s*\([^()]*\)\s*$")
_UTC_WORD = re.compile(r"(?:\s|(?<=\d))(?:UTC|GMT|Z)$", re.IGNORECASE)


class InvalidEnvelopeError(WorkerError):
    """An envelope without a valid request.

    Attributes
    ----------
    etag
        The ETag for reporting the error; None when it cannot be read.
    envelope
        The parsed envelope, for the notice; empty when it is not an object.
    """

    def __init__(self, message: str, envelope: object = None) -> None:
        super().__init__(ErrorCode.INVALID_INPUT, message)
        self.envelope: Mapping[str, Any] = envelope if isinstance(envelope, dict) else {}
        etag = self.envelope.get("ETag")
        self.etag: ETag | None = ETag(etag) if isinstance(etag, str) and ETag.fits(etag) else None

    @property
    def request(self) -> "WorkRequest":
        """The known part of the request, for reporting the error; only for envelopes with an `etag`."""
        experiment = self.envelope.get("experimentId")
        props = self.envelope.get("requestProps")
        return WorkRequest(
            etag=self.etag or _UNKNOWN,
            experiment_id=experiment if isinstance(experiment, str) else "",
            timeout=_NEVER,
            body={},
            request_props=props if isinstance(props, dict) else {},
            signed_url=_text_or_none(self.envelope.get("signedUrl")),
            envelope=self.envelope,
        )


class _Wire(msgspec.Struct):
    """The fields that are checked; all others stay unchanged."""

    etag: str = msgspec.field(name="ETag")
    experiment_id: str = msgspec.field(name="experimentId")
    timeout: str
    body: dict[str, Any]
    request_props: dict[str, Any] | None = msgspec.field(name="requestProps", default=None)
    signed_url: str | None = msgspec.field(name="signedUrl", default=None)
    authorization: str | None = msgspec.field(name="Authorization", default=None)


@dataclass(frozen=True, slots=True)
class WorkRequest:
    """One validated request.

    Attributes
    ----------
    etag
        Names the result; opaque.
    experiment_id
        The envelope's experiment id, for events and tags.
    timeout
        Timeout of the request, in UTC: a request that has not started by then is expired.
    body
        The task's body, never changed; ``body["name"]`` is a non-empty string.
    request_props
        Empty where the envelope has none.
    signed_url
        The address from which the client fetches the result; None where the envelope has none.
    authorization
        Passed to the platform's API, and shown nowhere else.
    envelope
        The whole envelope, secrets included; only `redacted` may be sent out.
    """

    etag: ETag
    experiment_id: str
    timeout: datetime
    body: Mapping[str, Any]
    request_props: Mapping[str, Any]
    signed_url: str | None
    envelope: Mapping[str, Any] = field(repr=False)
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, message: bytes) -> "WorkRequest":
        """Read an envelope from a message's text.

        Raises
        ------
        InvalidEnvelopeError
            ``INVALID_INPUT`` with a message that names the field, and the ETag where it can be read.
        """
        if len(message) > MAX_ENVELOPE_BYTES:
            complaint = f"The request is larger than {MAX_ENVELOPE_BYTES // 2**20} MB."
            raise InvalidEnvelopeError(complaint)
        try:
            raw = orjson.loads(message)
        except orjson.JSONDecodeError as error:
            complaint = f"The request is not valid JSON (line {error.lineno}, column {error.colno})."
            raise InvalidEnvelopeError(complaint) from None
        return cls.from_object(raw)

    @classmethod
    def from_object(cls, raw: object) -> "WorkRequest":
        """Validate a decoded envelope; raises like `parse`."""
        if not isinstance(raw, dict):
            raise InvalidEnvelopeError("The request is not a JSON object.")
        if _too_deep(raw):
            complaint = f"The request is nested deeper than {MAX_DEPTH} levels."
            raise InvalidEnvelopeError(complaint, _shallow(raw))
        try:
            wire = convert(raw, _Wire, "request")
        except WorkerError as error:
            raise InvalidEnvelopeError(error.message, raw) from None
        if not ETag.fits(wire.etag):
            raise InvalidEnvelopeError("request.ETag: expected 1 to 128 letters, digits, '.', '_' or '-'.", raw)
        if not wire.experiment_id or len(wire.experiment_id) > 256:
            raise InvalidEnvelopeError("request.experimentId: expected 1 to 256 characters.", raw)
        if not isinstance(wire.body.get("name"), str) or not wire.body["name"]:
            raise InvalidEnvelopeError("request.body.name: expected the name of a task.", raw)
        try:
            timeout = parse_timeout(wire.timeout)
        except ValueError:
            raise InvalidEnvelopeError(
                "request.timeout: expected a date and time such as 2026-07-23T17:55:43.000Z.", raw
            ) from None
        return cls(
            etag=ETag(wire.etag),
            experiment_id=wire.experiment_id,
            timeout=timeout,
            body=wire.body,
            request_props=wire.request_props or {},
            signed_url=wire.signed_url,
            authorization=wire.authorization,
            envelope=raw,
        )

    @property
    def task(self) -> str:
        """Name of the task; empty where the envelope has no readable one."""
        name = self.body.get("name", "")
        return name if isinstance(name, str) else ""

    @property
    def broadcast(self) -> bool:
        """Whether all clients of the experiment get the event."""
        return bool(self.request_props.get("broadcast"))

    @property
    def pagination(self) -> Mapping[str, Any] | None:
        """The requested page, or None."""
        pagination = self.request_props.get("pagination")
        return pagination if isinstance(pagination, dict) else None

    @property
    def secrets(self) -> list[str]:
        """Texts of this request that must never be shown: the values of secret keys, and the bare tokens in them."""
        found: list[str] = []
        _collect_secrets(self.envelope, found)
        words = {word for text in found for word in (text, *text.split()) if len(word) >= 8}
        return sorted(words, key=len, reverse=True)

    def expired(self, now: datetime) -> bool:
        """Return whether the timeout has passed at `now` (with a time zone)."""
        return self.timeout <= now

    def redacted(self) -> dict[str, Any]:
        """Return a copy of the envelope without secrets at any depth; the rest is unchanged."""
        copy: dict[str, Any] = _without_secrets(self.envelope)
        return copy

    def scrub(self, text: str) -> str:
        """Return `text` with every secret of this request redacted, for logs."""
        for secret in self.secrets:
            text = text.replace(secret, "[secret]")
        return text


def parse_timeout(text: str) -> datetime:
    """Read a time in ISO 8601, RFC 2822, or the form of JavaScript's ``Date``; without a time zone it is local time.

    Returns
    -------
    datetime
        In UTC.

    Raises
    ------
    ValueError
        When the text has none of these forms.
    """
    text = text.strip()
    if len(text) > 100:
        raise ValueError("too long")
    parsed = _read_time(text)
    try:
        return parsed.astimezone(UTC)
    except (OverflowError, ValueError):  # from Python 3.13 the year 10000 is a ValueError
        if parsed.year == _NEVER.year:
            return _NEVER
        raise ValueError(text) from None


def _read_time(text: str) -> datetime:
    text = _ZONE_WORDS.sub("", text)
    bare = _UTC_WORD.sub("", text)
    for candidate, zone in ((text, None), (bare, UTC)) if bare != text else ((text, None),):
        for read in _READERS:
            try:
                return read(candidate).replace(tzinfo=zone) if zone else read(candidate)
            except ValueError:
                continue
    # Last, because it is lenient: it reads "GMT+0200" as plain GMT.
    try:
        parsed = parsedate_to_datetime(text)
    except (TypeError, IndexError):
        raise ValueError(text) from None
    # RFC 2822 writes UTC of an unknown place as -0000, which is parsed without a time zone.
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None and text.endswith("-0000") else parsed


def _end_of_day(text: str) -> datetime:
    """ISO 8601 may write midnight at the end of a day as 24:00."""
    return datetime.fromisoformat(text.replace("24:00", "00:00", 1)) + timedelta(days=1 if "24:00" in text else 0)


def _format_reader(form: str) -> Callable[[str], datetime]:
    return lambda text: datetime.strptime(text, form)  # noqa: DTZ007 - no zone means local time here


_READERS = (datetime.fromisoformat, _end_of_day, *map(_format_reader, _FORMATS))


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _too_deep(value: object) -> bool:
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item if isinstance(item, list) else ())
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _shallow(raw: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if not isinstance(value, (dict, list))}


def _is_secret(key: object) -> bool:
    return isinstance(key, str) and key.lower() in SECRET_KEYS


def _without_secrets(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, Mapping):
        return {key: _without_secrets(item) for key, item in value.items() if not _is_secret(key)}
    if isinstance(value, list):
        return [_without_secrets(item) if isinstance(item, (dict, list)) else item for item in value]
    return value


def _collect_secrets(value: object, found: list[str]) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if _is_secret(key):
                found.extend([item] if isinstance(item, str) else [])
            else:
                _collect_secrets(item, found)
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, (dict, list)):
                _collect_secrets(item, found)
