"""Whom a certificate names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

_KINDS = ("DNS", "URI", "email")
"""Kinds of alternative names that can stand for a user; an address is no identity."""


def certificate_names(connection: ssl.SSLObject | ssl.SSLSocket | None) -> tuple[str, ...]:
    """Give the names in the certificate that the other end has shown and proved to own.

    Args:
        connection: What `asyncio.BaseTransport.get_extra_info` gives as ``ssl_object``; None for a
            connection without TLS.

    Returns:
        The common name, then the alternative names that are DNS names, URIs and email addresses,
        in the order of the certificate. The first is empty if there is no common name, or several.
        Nothing if the other end has shown no certificate, or one that nobody has asked for.
    """
    # Empty as well if a certificate was shown that was not verified.
    shown = connection.getpeercert() if connection is not None else None
    return names_of(shown) if shown else ()


def names_of(shown: dict[str, Any]) -> tuple[str, ...]:
    """Give the names in a certificate as `ssl.SSLSocket.getpeercert` shows it."""
    subject = [attribute for names in shown.get("subject", ()) for attribute in names]
    common = [value for kind, value in subject if kind == "commonName"]
    alternative = [value for kind, value in shown.get("subjectAltName", ()) if kind in _KINDS]
    return (common[0] if len(common) == 1 else "", *alternative)
