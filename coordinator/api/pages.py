"""The dashboard's files: a small set, kept once it was asked for, with an ETag.

No byte ranges, no directory listing, no following of links out of the folder. What is served
may only load from here, talk to the members of the cluster, run no foreign script, and not be
framed.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import mimetypes
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fastapi import Request, Response

from coordinator.api.cluster import client_urls

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")
_ORIGIN = re.compile(r"http(s?://[A-Za-z0-9.:\[\]-]{1,255})/?")
FILE_BYTES_MAX = 8 << 20
KEPT_MAX = 256
"""Files that are kept in memory; the dashboard has fewer."""
_HASHED = re.compile(r"assets/[\w.-]+-[\w-]{8}\.\w+")
"""Files whose name changes with their content, so that nobody need ask for them twice."""
_SQUEEZED = (".html", ".js", ".css", ".svg", ".json")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".ico": "image/x-icon",
}


def dashboards_folder() -> Path | None:
    """Find the dashboards: beside this package in a wheel, or in the checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_dashboards", package.parent / "dashboards"):
        if folder.is_dir():
            return folder
    return None


def page_folder() -> Path | None:
    """Find the folder of the page at ``/``."""
    dashboards = dashboards_folder()
    if dashboards is None:
        return None
    for name in ("web/dist", "plain"):  # the dashboard, or a page that says how to get it
        if (dashboards / name / "index.html").is_file():
            return dashboards / name
    return None


def content_policy(content: bytes, host: str, members: Iterable[str] = ()) -> str:
    """Write the policy of a page: what it may load and run.

    Args:
        content: The page; its own inline scripts and styles are allowed by their hashes.
        host: The ``Host`` it was asked from, whose WebSocket it may use.
        members: Client URLs of members, whose WebSocket it may use when that one is gone.
    """
    allowed = {b"script": "'self'", b"style": "'self'"}
    for kind, text in _INLINE.findall(content):
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        allowed[kind] += f" 'sha256-{digest}'"
    socket = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    for found in map(_ORIGIN.fullmatch, members):
        socket += f" ws{found[1]}" if found else ""
    return (
        f"default-src 'none'; script-src {allowed[b'script']}; style-src {allowed[b'style']}; "
        f"img-src 'self' data:; font-src 'self'; connect-src 'self'{socket}; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was last read."""

    changed_ns: int
    content: bytes
    squeezed: bytes
    tag: str


class Pages:
    """Serves the files of one folder, or of the first that is there when somebody asks.

    Args:
        folder: Finds the folder; asked until there is one, so that a dashboard that is built
            while the server runs is served at once.
    """

    def __init__(self, folder: Callable[[], Path | None]) -> None:
        self._find_folder = folder
        self._kept: dict[Path, _File] = {}

    def answer(self, request: Request) -> Response | None:
        """Serve the file that a GET or HEAD names; None if there is none."""
        path = request.scope["path"].lstrip("/") or "index.html"
        found = self._find(path) if request.method in ("GET", "HEAD") else None
        if found is None:
            return None
        file = self._read(found)
        headers = {**SECURITY_HEADERS, "etag": file.tag, "cache-control": "no-cache"}
        if _HASHED.fullmatch(path):
            headers["cache-control"] = "public, max-age=31536000, immutable"
        if found.suffix == ".html":
            members = client_urls(request.app.state.node, others_only=True)
            host = request.headers.get("host", "")
            headers["content-security-policy"] = content_policy(file.content, host, members)
        else:
            headers["content-security-policy"] = content_policy(b"", "")
        if file.tag in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        content = file.content
        if file.squeezed:
            headers["vary"] = "accept-encoding"
            if _takes_gzip(request):
                headers["content-encoding"] = "gzip"
                content = file.squeezed
        kind = _TYPES.get(found.suffix) or mimetypes.guess_type(found.name)[0]
        return Response(content, 200, headers, kind or "application/octet-stream")

    def _find(self, path: str) -> Path | None:
        folder = self._find_folder()
        if folder is None or "\0" in path or len(path) > 1000 or "/." in f"/{path}":
            return None
        try:
            folder = folder.resolve()
            found = (folder / path).resolve()
            is_served = found.is_relative_to(folder) and found.is_file()
            if not is_served or found.stat().st_size > FILE_BYTES_MAX:
                return None
        except (OSError, ValueError):
            return None
        return found

    def _read(self, path: Path) -> _File:
        changed_ns = path.stat().st_mtime_ns
        kept = self._kept.get(path)
        if kept is not None and kept.changed_ns == changed_ns:
            return kept
        content = path.read_bytes()
        squeezed = gzip.compress(content, 6, mtime=0) if path.suffix in _SQUEEZED else b""
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        made = self._kept[path] = _File(changed_ns, content, squeezed, tag)
        return made


def _takes_gzip(request: Request) -> bool:
    offered = request.headers.get("accept-encoding", "")
    return any(one.strip().partition(";")[0] == "gzip" for one in offered.split(","))
