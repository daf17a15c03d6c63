"""TLS between members: each proves to the other who it is."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from coordinator.config import ConfigError

if TYPE_CHECKING:
    from coordinator.config import Config


def peer_contexts(config: Config) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
    """Make the TLS contexts for peer URLs: for those who dial us, and for those we dial.

    Both sides show the certificate of ``--peer-cert-file`` and trust only what
    ``--peer-trusted-ca-file`` has signed. Without these flags there are none.

    Raises:
        ConfigError: A file can't be used.
    """
    if not config.peer_cert_file:
        return None, None
    try:
        return (
            _context(config, ssl.Purpose.CLIENT_AUTH),
            _context(config, ssl.Purpose.SERVER_AUTH),
        )
    except OSError as error:
        raise ConfigError(
            [f"--peer-cert-file {config.peer_cert_file}: can't be used: {error}"]
        ) from error


def _context(config: Config, purpose: ssl.Purpose) -> ssl.SSLContext:
    context = ssl.create_default_context(purpose, cafile=config.peer_trusted_ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(config.peer_cert_file, config.peer_key_file)
    return context
