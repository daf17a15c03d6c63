"""The contexts of a port: one for those who dial us, one for those whom we dial."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from coordinator.config.suites import openssl_ciphers

if TYPE_CHECKING:
    from coordinator.tls.ports import TlsPort

_VERSIONS: Final = {
    "TLS1.2": ssl.TLSVersion.TLSv1_2,
    "TLS1.3": ssl.TLSVersion.TLSv1_3,
    "": ssl.TLSVersion.MAXIMUM_SUPPORTED,
}


def server_context(port: TlsPort) -> ssl.SSLContext:
    """Make the context for those who dial us.

    Raises:
        OSError: A file can't be used.
        ValueError: The same.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _set_up(context, port)
    if port.ca_file:
        context.verify_mode = ssl.CERT_REQUIRED
        # Who resumes a session shows no certificate again: it might have expired since.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def client_context(port: TlsPort) -> ssl.SSLContext:
    """Make the context for those whom we dial; we show them the same certificate.

    Raises:
        OSError: A file can't be used.
        ValueError: The same.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _set_up(context, port)
    if not port.ca_file:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _set_up(context: ssl.SSLContext, port: TlsPort) -> None:
    context.minimum_version = _VERSIONS[port.min_version]
    context.maximum_version = _VERSIONS[port.max_version]
    if port.suites and (ciphers := openssl_ciphers(port.suites)):
        context.set_ciphers(ciphers)
    if port.alpn:
        context.set_alpn_protocols(list(port.alpn))
    context.load_cert_chain(port.cert_file, port.key_file, _no_passphrase)
    if port.ca_file:
        context.load_verify_locations(port.ca_file)
        # As in Go, whatever stands in the file is trusted, were it signed by others.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _no_passphrase() -> str:
    """Keep OpenSSL from asking at the terminal."""
    raise ValueError("the key is encrypted")
