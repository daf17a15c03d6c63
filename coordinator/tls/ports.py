"""What the TLS of a port is set up with: the files and rules of clients, and those of peers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coordinator.config import parse_url

if TYPE_CHECKING:
    from coordinator.config import Config

ALPN_CLIENTS: Final = ("http/1.1", "h2")
"""Browsers and scripts offer both and get the first; gRPC offers the other alone."""


@dataclass(frozen=True, slots=True)
class TlsPort:
    """The files and rules of one port.

    Attributes:
        name: ``client`` or ``peer``.
        cert_file: Our certificate and what leads from it to an authority, PEM.
        key_file: Its private key, PEM.
        ca_file: Whose signature we trust, PEM; empty if the other end needs no certificate, and,
            where we dial, any will do.
        crl_file: Revoked certificates, PEM or DER; empty for none.
        allowed_cn: The common name that the other end must have; empty for any.
        allowed_hostname: A name that the other end must have; empty for any.
        min_version: The oldest TLS: ``TLS1.2`` or ``TLS1.3``.
        max_version: The newest; empty for the newest there is.
        suites: Go's names of the suites of TLS 1.2; empty for OpenSSL's choice.
        alpn: Protocols to agree on.
        is_self_signed: Whether the certificate is one that we make ourselves.
    """

    name: str
    cert_file: str
    key_file: str
    ca_file: str = ""
    crl_file: str = ""
    allowed_cn: str = ""
    allowed_hostname: str = ""
    min_version: str = "TLS1.2"
    max_version: str = ""
    suites: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    is_self_signed: bool = False

    @property
    def is_peer(self) -> bool:
        """Whether members meet here, each of whom both dials and is dialled."""
        return self.name == "peer"

    def flag(self, file: str) -> str:
        """Name the flag of a file, and its value.

        Args:
            file: ``cert``, ``key``, ``ca`` or ``crl``.
        """
        if self.is_self_signed:
            return f"--{'peer-' if self.is_peer else ''}auto-tls {self.path(file)}"
        name = {"ca": "trusted-ca-file", "crl": "crl-file"}.get(file, f"{file}-file")
        prefix = "peer-" if self.is_peer else "client-" if file == "crl" else ""
        return f"--{prefix}{name} {self.path(file)}"

    def path(self, file: str) -> str:
        """Give the path of a file; empty if there is none."""
        return str(getattr(self, f"{file}_file"))

    @property
    def files(self) -> list[str]:
        """The paths of all files there are."""
        return [path for file in ("cert", "key", "ca", "crl") if (path := self.path(file))]


def client_port(config: Config) -> TlsPort | None:
    """Give the files and rules of the client port; None if it speaks no TLS.

    As in etcd, ``--trusted-ca-file`` alone has the effect of ``--client-cert-auth``.
    """
    own = _own(config, "client", config.cert_file, config.key_file, is_auto=config.auto_tls)
    if own is None or not any(url.startswith("https:") for url in config.listen_client_urls):
        return None
    return TlsPort(
        "client",
        *own,
        ca_file=config.trusted_ca_file,
        crl_file=config.client_crl_file,
        allowed_hostname=config.client_cert_allowed_hostname,
        min_version=config.tls_min_version,
        max_version=config.tls_max_version,
        suites=config.cipher_suites,
        alpn=ALPN_CLIENTS,
        is_self_signed=not config.cert_file,
    )


def peer_port(config: Config) -> TlsPort | None:
    """Give the files and rules of the peer port; None if members do without TLS."""
    is_auto = config.peer_auto_tls
    own = _own(config, "peer", config.peer_cert_file, config.peer_key_file, is_auto=is_auto)
    if own is None:
        return None
    return TlsPort(
        "peer",
        *own,
        ca_file=config.peer_trusted_ca_file,
        crl_file=config.peer_crl_file,
        allowed_cn=config.peer_cert_allowed_cn,
        allowed_hostname=config.peer_cert_allowed_hostname,
        min_version=config.tls_min_version,
        max_version=config.tls_max_version,
        suites=config.cipher_suites,
        is_self_signed=not config.peer_cert_file,
    )


def _own(
    config: Config, name: str, cert: str, key: str, *, is_auto: bool
) -> tuple[str, str] | None:
    """Give the files of our certificate and key: the given ones before those of our own making."""
    if cert:
        return cert, key
    if not is_auto:
        return None
    folder = Path(config.data_dir) / "tls" / name
    return str(folder / "cert.pem"), str(folder / "key.pem")


def hosts(config: Config, name: str) -> list[str]:
    """List the hosts under which a port is reached, as its addresses tell."""
    if name == "peer":
        urls = (*config.listen_peer_urls, *config.initial_advertise_peer_urls)
    else:
        urls = (*config.listen_client_urls, *config.advertise_client_urls)
    return list(dict.fromkeys(parse_url(url).host for url in urls))
