"""From the settings to the credentials of each port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.tls.ports import client_port, hosts, peer_port

if TYPE_CHECKING:
    from coordinator.config import Config
    from coordinator.tls.credentials import Credentials
    from coordinator.tls.ports import TlsPort


def client_credentials(config: Config) -> Credentials | None:
    """Make what the client port shows and accepts; None if it speaks no TLS.

    Raises:
        ConfigError: A file can't be used.
    """
    return _credentials(config, client_port(config))


def peer_credentials(config: Config) -> Credentials | None:
    """Make what members show to each other and accept; None if they do without TLS.

    Raises:
        ConfigError: A file can't be used.
    """
    return _credentials(config, peer_port(config))


def _credentials(config: Config, port: TlsPort | None) -> Credentials | None:
    if port is None:
        return None
    # Loaded for those who use it: with it comes a library for certificates.
    from coordinator.tls.credentials import Credentials

    if port.is_self_signed:
        from coordinator.tls.selfsigned import provide

        provide(port, hosts(config, port.name), config.self_signed_cert_validity)
    return Credentials(port)
