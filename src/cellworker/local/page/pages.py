"""The pages of the local run: the explorer at ``/``, the console of requests at ``/console``."""

import asyncio
from pathlib import Path

from aiohttp import web

__all__ = ["BUNDLE", "NO_EXPLORER", "add_pages", "has_explorer"]

_HERE = Path(__file__).parent

BUNDLE = _HERE / "bundle"
"""The build's bundle of ``web/``; missing where the build could not reach the npm registry."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)
_UNFRAMED = "; frame-ancestors 'none'"
_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Names of files under assets/ change with their content; all other files are revalidated.
    "Cache-Control": "no-cache",
}
_POLICY_OF = web.AppKey("policy", str)
_FOREVER = "public, max-age=31536000, immutable"
_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
NO_EXPLORER = (
    "The explorer is not part of this installation, because its build could not reach the npm registry; "
    "the console of requests stands in for it. 'make web' builds it where the registry can be reached."
)


def has_explorer() -> bool:
    """Whether the bundle of the explorer is there."""
    return (BUNDLE / "index.html").is_file()


def add_pages(app: web.Application, *, framed: bool = False) -> None:
    """Serve the pages and their files; only a notebook's own door lets other pages frame them."""
    app[_POLICY_OF] = _POLICY if framed else _POLICY + _UNFRAMED
    app.router.add_get("/", _explorer)
    app.router.add_get("/assets/{name}", _asset)
    app.router.add_get("/licences.txt", _licences)
    app.router.add_get("/console", _console)
    for name in ("console.js", "console.css"):
        app.router.add_get(f"/{name}", _console)


async def _explorer(request: web.Request) -> web.Response:
    if not has_explorer():
        return web.Response(status=302, headers={"Location": "/console?explorer=missing"})
    return await _file(request, BUNDLE / "index.html")


async def _asset(request: web.Request) -> web.Response:
    # Only names of files in the folder: no part of an address becomes a path.
    name = request.match_info["name"]
    folder = BUNDLE / "assets"
    known = {path.name: path for path in folder.iterdir()} if folder.is_dir() else {}
    if name not in known:
        raise web.HTTPNotFound(reason="There is no such file.")
    answer = await _file(request, known[name])
    answer.headers["Cache-Control"] = _FOREVER
    return answer


async def _licences(request: web.Request) -> web.Response:
    if not has_explorer():
        raise web.HTTPNotFound(reason=NO_EXPLORER)
    return await _file(request, BUNDLE / "licences.txt")


async def _console(request: web.Request) -> web.Response:
    name = request.path.rpartition("/")[2]
    return await _file(request, _HERE / (name if "." in name else "console.html"))


async def _file(request: web.Request, path: Path) -> web.Response:
    content = await asyncio.to_thread(path.read_bytes)
    kind = _TYPES.get(path.suffix, "application/octet-stream")
    charset = "utf-8" if kind.startswith("text/") else None
    return web.Response(
        body=content,
        content_type=kind,
        charset=charset,
        headers={**_HEADERS, "Content-Security-Policy": request.app[_POLICY_OF]},
    )
