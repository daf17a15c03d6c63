"""TLS on the client's side: the context, the files it came from, and what went wrong in words."""

from __future__ import annotations

import os
import ssl
import time
from typing import TYPE_CHECKING

from .credentials import TLS
from .errors import ConnectFailed, InvalidRequest

if TYPE_CHECKING:
    from ._endpoints import Endpoint

Stamp = tuple[tuple[int, int, int], ...]

REPLACING_S = 2.0
"""Replacing a certificate and its key takes less."""

_UNKNOWN_ISSUER = frozenset((2, 18, 19, 20, 21))
_NOT_YET_VALID, _EXPIRED, _REVOKED = 9, 10, 23
_OTHER_NAME = frozenset((62, 64))
_WANTS_CERTIFICATE = ("CERTIFICATE_REQUIRED", "HANDSHAKE_FAILURE")
_REFUSES_CERTIFICATE = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "ACCESS_DENIED")
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")


class Trust:
    """Whom a client trusts: the context made of its `TLS`, again whenever a file has changed."""

    def __init__(self, tls: TLS | None) -> None:
        self._tls = tls or TLS()
        self._context: ssl.SSLContext | None = None
        self._stamp: Stamp = ()

    def context(self, endpoint: Endpoint) -> ssl.SSLContext | None:
        """Give the context for an endpoint; None if it speaks plain text.

        While files are being replaced, the context made of the former ones stays.

        Raises:
            InvalidRequest: A file can't be read, or is not what it should be.
            ConnectFailed: It is not, but has just been written: others may follow, such as the key
                of a new certificate. To be tried again.
        """
        if not endpoint.secure:
            return None
        stamp: Stamp = ()
        try:
            stamp = self._read_stamp()
            if self._context is None or stamp != self._stamp:
                self._context, self._stamp = self._made(), stamp
        except InvalidRequest as error:
            if self._context is None:
                if _is_fresh(stamp):
                    raise ConnectFailed(error.message, endpoints=[endpoint.url]) from error
                raise
        return self._context

    def name(self, endpoint: Endpoint) -> str | None:
        """Give the name that must stand in the certificate of an endpoint; None without TLS."""
        return (self._tls.server_name or endpoint.host) if endpoint.secure else None

    def _read_stamp(self) -> Stamp:
        stamps = []
        for name in ("ca", "cert", "key"):
            if (path := getattr(self._tls, name)) is not None:
                try:
                    with open(path, "rb") as file:
                        status = os.fstat(file.fileno())
                except OSError as error:
                    why = error.strerror or type(error).__name__
                    raise InvalidRequest(
                        f"tls.{name}: {os.fspath(path)!r} can't be read: {why}",
                        field=f"tls.{name}",
                    ) from None
                stamps.append((status.st_mtime_ns, status.st_size, status.st_ino))
        return tuple(stamps)

    def _made(self) -> ssl.SSLContext:
        tls = self._tls
        try:
            if tls.ca is not None:
                ssl.create_default_context(cafile=tls.ca)
        except (ssl.SSLError, OSError):
            raise InvalidRequest(
                f"tls.ca: {os.fspath(tls.ca or '')!r} holds no certificate in PEM", field="tls.ca"
            ) from None
        try:
            return tls.context()
        except (ssl.SSLError, OSError) as error:
            reason = getattr(error, "reason", None)
            why = "does not belong to the private key"
            if reason != "KEY_VALUES_MISMATCH":
                why = "holds no certificate with its key in PEM, or the key has a password"
            path = os.fspath(tls.cert or "")
            raise InvalidRequest(f"tls.cert: {path!r} {why}", field="tls.cert") from None


def _is_fresh(stamp: Stamp) -> bool:
    """Whether a file has just been written."""
    return any(abs(time.time() - changed_ns / 1e9) < REPLACING_S for changed_ns, _, _ in stamp)


def explained(error: Exception, endpoint: Endpoint) -> tuple[Exception, bool]:
    """Give an error of TLS as one sentence that says what mends it, and others as they are.

    Returns:
        The error, and whether it is certain that it will come again.
    """
    if isinstance(error, ssl.SSLError):
        return _told(f"{endpoint.url} {_why(error, endpoint)}", error, endpoint), True
    if endpoint.secure and isinstance(error, ConnectionResetError):
        text = (
            f"{endpoint.url} broke off while TLS began; if it speaks plain text, it is "
            f"http://{endpoint.authority}"
        )
        return _told(text, error, endpoint), False
    return error, False


def _told(text: str, error: Exception, endpoint: Endpoint) -> ConnectFailed:
    told = ConnectFailed(text, endpoints=[endpoint.url])
    told.__cause__ = error
    return told


def silence(endpoint: Endpoint) -> str:
    """Say what may be wrong where a connection is closed before there was an answer on it."""
    said = f"{endpoint.url} closed the connection without an answer"
    if endpoint.secure:
        return f"{said}; it may want a certificate of the client, tls=TLS(cert=..., key=...)"
    return f"{said}; if it speaks TLS, it is https://{endpoint.authority}"


def _why(error: Exception, endpoint: Endpoint) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _why_not_trusted(error, endpoint)
    reason = str(getattr(error, "reason", None) or "")
    if any(word in reason for word in _NO_TLS):
        return f"does not speak TLS: use http://{endpoint.authority}, or turn TLS on there"
    if any(word in reason for word in _WANTS_CERTIFICATE):
        return "wants to see a certificate of the client: pass tls=TLS(cert=..., key=...)"
    if any(word in reason for word in _REFUSES_CERTIFICATE):
        return "does not accept the certificate of this client, given as tls=TLS(cert=...)"
    return f"can't be spoken to over TLS: {reason or error}"


def _why_not_trusted(error: ssl.SSLCertVerificationError, endpoint: Endpoint) -> str:
    code = error.verify_code
    if code in _OTHER_NAME:
        return (
            "shows a certificate for another name: use the name that stands in it as host, or pass "
            "tls=TLS(server_name=...)"
        )
    if code in _UNKNOWN_ISSUER:
        return (
            "shows a certificate of somebody this client does not trust: pass the file of its CA "
            "as tls=TLS(ca=...)"
        )
    if code == _EXPIRED:
        return "shows a certificate that has expired"
    if code == _NOT_YET_VALID:
        return "shows a certificate that is not valid yet: is one of the clocks wrong?"
    if code == _REVOKED:
        return "shows a certificate that was revoked"
    return f"shows a certificate that can't be trusted: {error.verify_message}"
