"""The dashboard's files: a small set, read when asked for, with an ETag.

No byte ranges, no directory listing, no following of links out of the folder. What is served
may only load from here, run no foreign script, and not be framed.
"""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from pathlib import Path

from fastapi import Request, Response

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)
_HOST = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")
FILE_BYTES_MAX = 8 << 20
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
    for name in ("web/dist", "plain"):
        if (dashboards / name / "index.html").is_file():
            return dashboards / name
    return None


def content_policy(content: bytes, host: str) -> str:
    """Write the policy of a page: what it may load and run.

    Args:
        content: The page; its own inline scripts and styles are allowed by their hashes.
        host: The ``Host`` it was asked from, whose WebSocket it may use.
    """
    allowed = {b"script": "'self'", b"style": "'self'"}
    for kind, text in _INLINE.findall(content):
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        allowed[kind] += f" 'sha256-{digest}'"
    socket = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return (
        f"default-src 'none'; script-src {allowed[b'script']}; style-src {allowed[b'style']}; "
        f"img-src 'self' data:; font-src 'self'; connect-src 'self'{socket}; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


class Pages:
    """Serves the files of one folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder.resolve() if folder else None

    def answer(self, request: Request) -> Response | None:
        """Serve the file that a GET or HEAD names; None if there is none."""
        found = None
        if request.method in ("GET", "HEAD"):
            found = self._find(request.scope["path"].lstrip("/") or "index.html")
        if found is None:
            return None
        content = found.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {**SECURITY_HEADERS, "etag": tag, "cache-control": "no-cache"}
        page = content if found.suffix == ".html" else b""
        headers["content-security-policy"] = content_policy(page, request.headers.get("host", ""))
        if tag in request.headers.get("if-none-match", ""):
            return Response(None, 304, headers)
        kind = _TYPES.get(found.suffix) or mimetypes.guess_type(found.name)[0]
        return Response(content, 200, headers, kind or "application/octet-stream")

    def _find(self, path: str) -> Path | None:
        folder = self._folder
        if folder is None or "\0" in path or len(path) > 1000:
            return None
        try:
            found = (folder / path).resolve()
            is_served = found.is_relative_to(folder) and found.is_file()
            if not is_served or found.stat().st_size > FILE_BYTES_MAX:
                return None
        except (OSError, ValueError):
            return None
        return found
