"""Admission to the local door: by the requested host name, by the page that sends the request, and by a token.

On loopback, programs of this machine and its own pages are admitted. Pages of other sites in a browser here are
recognised by three headers that they cannot forge: `Host` (a foreign name that was made to point here, DNS rebinding),
`Origin`, and `Sec-Fetch-Site` where a browser sends no origin.

Where HOST opens the door to a network, a token is needed too: first in the address, then in a cookie.
"""

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Iterable
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from aiohttp import web

from cellworker.errors import ErrorCode, WorkerError
from cellworker.settings import Settings

__all__ = ["LOOPBACK", "PAGES", "TOKEN_HEADER", "Admission", "split_token", "warnings_of"]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
PAGES = frozenset({"/", "/console"})
"""Paths that a link in another page, or an address with the token, may lead to."""
TOKEN_HEADER = "X-Access-Token"  # noqa: S105 - a name
_TOKEN = "token"  # noqa: S105
_SHORTEST_TOKEN = 16
_OWN_SITES = frozenset({"none", "same-origin"})
"""Values of `Sec-Fetch-Site` for our own pages or a person's action; later browsers may send others."""
_ORIGIN = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?", re.ASCII | re.IGNORECASE)
"""A scheme, a host and perhaps a port, as browsers write an origin (RFC 6454, 6.2): nothing before or behind them."""
_UNFRAMED = frozenset({"document"})
_FRAMED = frozenset({"document", "iframe"})


class Admission:
    """Decides on each request.

    Parameters
    ----------
    host
        The address that the worker listens on.
    allowed_hosts
        Host names that the worker answers to, beside those of loopback.
    token
        The token that clients must send; empty needs none.
    below
        The path below which everything is served: a secret that replaces the token where a page is shown in a frame
        of another site's page (a notebook), which gets no cookies.
    """

    def __init__(
        self, host: str = "127.0.0.1", *, allowed_hosts: Iterable[str] = (), token: str = "", below: str = ""
    ) -> None:
        self.open = host not in LOOPBACK
        self.token = token
        self.below = below
        self.framed = bool(below)
        self._pages = frozenset(f"{below}{page}" for page in PAGES)
        self._targets = _FRAMED if self.framed else _UNFRAMED
        self._names = LOOPBACK | {_plain_name(name) for name in (*allowed_hosts, host) if name}
        self._cookie = hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest() if token else ""

    @classmethod
    def of(cls, settings: Settings) -> "Admission":
        """Return the admission of the settings, with a new token where one is needed and none is set.

        Raises
        ------
        WorkerError
            ``INVALID_INPUT`` for a token that is too short.
        """
        token = settings.access_token
        if token and len(token) < _SHORTEST_TOKEN:
            message = f"environment variable ACCESS_TOKEN: expected at least {_SHORTEST_TOKEN} characters"
            raise WorkerError(ErrorCode.INVALID_INPUT, message)
        if not token and settings.host not in LOOPBACK:
            token = secrets.token_urlsafe(24)
        return cls(settings.host, allowed_hosts=_listed(settings), token=token)

    def address(self, url: str, path: str = "/") -> str:
        """Return an address that lets a person in."""
        return f"{url}{path}?{urlencode({_TOKEN: self.token})}" if self.token else f"{url}{path}".removesuffix("/")

    def check(self, request: web.BaseRequest) -> None:
        """Refuse a request by raising ``HTTPForbidden`` or ``HTTPUnauthorized`` with a sentence.

        Raises
        ------
        web.HTTPException
            Also ``HTTPSeeOther``, for a page whose address holds the token: from then on a cookie does.
        """
        # A browser sends each once; of two, a proxy may check one and we the other.
        if any(len(request.headers.getall(header, ())) > 1 for header in ("Host", "Origin", "Sec-Fetch-Site")):
            raise web.HTTPForbidden(reason="A request has one Host, one Origin and one Sec-Fetch-Site at most.")
        name = _name(request.headers.get("Host", ""))
        if name is None or not self._answers_to(name):
            raise web.HTTPForbidden(reason=self._wrong_name())
        origin = request.headers.get("Origin")
        if not (self.allows(origin, request) if origin is not None else self._of_this_site(request, name)):
            raise web.HTTPForbidden(reason="Pages of other machines may not use this worker.")
        if self.token and request.method != "OPTIONS":
            self._check_token(request)

    def allows(self, origin: str, request: web.BaseRequest) -> bool:
        """Whether a page of this origin may use the worker: one of its own, or on loopback any of this machine."""
        if _ORIGIN.fullmatch(origin) is None:
            return False  # "null", and what no browser says: names in it would be a guess
        try:
            parts = urlsplit(origin)
            name, _ = parts.hostname, parts.port
        except ValueError:
            return False
        host = request.headers.get("Host", "")
        here = name in LOOPBACK and _name(host) in LOOPBACK
        return here or parts.netloc.lower() == host.lower()

    def _answers_to(self, name: str) -> bool:
        return name in self._names or (self.open and _is_address(name))

    def _wrong_name(self) -> str:
        if self.open:
            return "This worker does not answer to that name: ALLOWED_HOSTS lists those that it answers to."
        return "This worker answers to the names of its own machine only."

    def _of_this_site(self, request: web.BaseRequest, name: str) -> bool:
        """Judge a request without an origin: a program's, or one whose answer the page cannot read."""
        site = request.headers.get("Sec-Fetch-Site", "none").strip().lower()
        if site == "same-site" and name in LOOPBACK:
            return True  # another port of this machine
        if site in _OWN_SITES:
            return True
        mode, target = request.headers.get("Sec-Fetch-Mode"), request.headers.get("Sec-Fetch-Dest")
        led_here = mode == "navigate" and target in self._targets
        return led_here and request.method == "GET" and request.path in self._pages

    def _check_token(self, request: web.BaseRequest) -> None:
        cookie = request.cookies.get(_cookie_name(request), "")
        if _same(cookie, self._cookie) or _same(request.headers.get(TOKEN_HEADER, ""), self.token):
            return
        given = request.query.get(_TOKEN, "")
        if not _same(given, self.token):
            reason = "This worker needs its token: open the address that 'cellworker run' printed."
            raise web.HTTPUnauthorized(reason=reason)
        if request.method == "GET" and request.path in PAGES:
            rest = [(name, value) for name, value in request.query.items() if name != _TOKEN]
            answer = web.HTTPSeeOther(request.path + (f"?{urlencode(rest)}" if rest else ""))
            answer.set_cookie(_cookie_name(request), self._cookie, httponly=True, samesite="Lax")
            answer.headers["Cache-Control"] = "no-store"
            answer.headers["Referrer-Policy"] = "no-referrer"
            raise answer


def split_token(address: str) -> tuple[str, str]:
    """Return an address as `Admission.address` made it without the token, and the token."""
    parts = urlsplit(address)
    token = dict(parse_qsl(parts.query)).get(_TOKEN, "")
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", "")), token


def warnings_of(settings: Settings) -> list[str]:
    """Return warnings for a person who opens the worker to a network."""
    if settings.host in LOOPBACK:
        return []
    names = ", ".join(_listed(settings))
    opened = (
        f"HOST={settings.host} opens this worker to the network, unencrypted. Whoever has the address with its token "
        "reads the experiment, starts computations and changes its cell sets; without the token nobody does."
    )
    return [
        opened,
        f"it answers to localhost, to addresses in numbers and to the names in ALLOWED_HOSTS ({names or 'none'}).",
    ]


def _listed(settings: Settings) -> list[str]:
    return [name for name in map(str.strip, settings.allowed_hosts.split(",")) if name]


def _cookie_name(request: web.BaseRequest) -> str:
    """Include the port, which cookies ignore: two workers of one machine keep their cookies apart."""
    try:
        port = urlsplit(f"//{request.headers.get('Host', '')}").port
    except ValueError:
        port = None
    return f"cellworker-{port or 80}"


def _name(host: str) -> str | None:
    """Return the name in a Host header; None where it is malformed or missing."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises where it is no number
        name = parts.hostname
    except ValueError:
        return None
    return _plain_name(name) if name and parts.netloc == host and "@" not in host else None


def _plain_name(name: str) -> str:
    return name.strip("[]").lower().removesuffix(".")


def _is_address(name: str) -> bool:
    """Whether it is a numeric address: that cannot be rebound as a name can, so it needs no check."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _same(given: str, wanted: str) -> bool:
    return bool(wanted) and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())
