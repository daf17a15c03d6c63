"""An authority that signs for a test, and two ends that agree on TLS in memory."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from coordinator.tls.making import CLIENT, SERVER, Pair, new_authority, new_certificate
from coordinator.tls.ports import TlsPort

HOSTS = ("localhost", "127.0.0.1")


class Authority:
    """Signs certificates into a folder.

    Attributes:
        file: Its own certificate.
        pair: The same, with its key.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.pair = new_authority(name, 10)
        self.file = self._write(f"{name}.pem", self.pair.certificate_pem)

    def issue(
        self,
        name: str,
        purposes: Iterable[x509.ObjectIdentifier] = (SERVER, CLIENT),
        *,
        hosts: Sequence[str] = HOSTS,
        days: float = 5,
        now: datetime.datetime | None = None,
        file: str = "",
    ) -> tuple[str, str]:
        """Make a certificate and its key; give their files."""
        made = new_certificate(name, hosts, purposes, days, self.pair, now)
        return self.write(made, file or name)

    def write(self, pair: Pair, name: str) -> tuple[str, str]:
        """Write a certificate and its key; give their files."""
        certificate = self._write(f"{name}.pem", pair.certificate_pem)
        return certificate, self._write(f"{name}.key", pair.key_pem)

    def revoke(self, *certificates: str, by: Pair | None = None) -> str:
        """Write a list of revoked certificates; give its file."""
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.pair.certificate.subject)
        builder = builder.last_update(now).next_update(now + datetime.timedelta(days=1))
        for path in certificates:
            serial = x509.load_pem_x509_certificate(Path(path).read_bytes()).serial_number
            one = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(one.build())
        made = builder.sign((by or self.pair).key, hashes.SHA256())
        return self._write("revoked.pem", made.public_bytes(serialization.Encoding.PEM))

    def port(self, name: str, files: tuple[str, str], **more: Any) -> TlsPort:
        """Set up a port on which both sides show certificates of this authority."""
        return TlsPort(name, *files, **{"ca_file": self.file, **more})

    def _write(self, name: str, content: bytes) -> str:
        path = self.folder / name
        path.write_bytes(content)
        return str(path)


def agree(
    server: ssl.SSLContext, client: ssl.SSLContext, host: str = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Let two ends shake hands in memory.

    Raises:
        ssl.SSLError: One of them does not want to.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.wrap_bio(to_server, to_client, server_side=True)
    two = client.wrap_bio(to_client, to_server, server_hostname=host)
    ends = [two, one]
    for _ in range(10):
        for end in list(ends):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
        if not ends:
            return one, two
    raise AssertionError("they never agree")
