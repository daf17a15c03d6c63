"""What is in the files of a port, and whether it can be used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

if TYPE_CHECKING:
    from coordinator.tls.ports import TlsPort

_CRL_PEM: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_ANY: Final = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
_SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH


class Unusable(Exception):
    """Files of a port can't be used.

    Attributes:
        problems: Everything that is wrong, a sentence each that names the flag.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Material:
    """What the files say; nothing secret is kept here.

    Attributes:
        chain: Our certificate, and what leads from it to an authority.
        authorities: Whose signature we trust.
        revocations: Lists of revoked certificates.
        revoked: What they list: issuer and serial number.
    """

    chain: Sequence[x509.Certificate]
    authorities: Sequence[x509.Certificate]
    revocations: Sequence[x509.CertificateRevocationList]
    revoked: frozenset[tuple[bytes, int]]


def read_material(port: TlsPort, now: datetime | None = None) -> Material:
    """Read and judge the files of a port.

    Args:
        port: The port.
        now: The time; the system's by default.

    Raises:
        Unusable: With every problem found.
    """
    reading = _Reading(port, now or datetime.now(UTC))
    chain = reading.chain()
    reading.key(chain)
    authorities = reading.authorities() if port.ca_file else []
    revocations = reading.revocations(authorities) if port.crl_file else []
    if reading.problems:
        raise Unusable(reading.problems)
    revoked = frozenset(
        (crl.issuer.public_bytes(), one.serial_number) for crl in revocations for one in crl
    )
    return Material(chain, authorities, revocations, revoked)


class _Reading:
    """Reads one file after the other and notes what is wrong."""

    def __init__(self, port: TlsPort, now: datetime) -> None:
        self._port = port
        self._now = now
        self.problems: list[str] = []

    def _wrong(self, file: str, what: str) -> None:
        self.problems.append(f"{self._port.flag(file)}: {what}")

    def _content(self, file: str) -> bytes | None:
        try:
            return Path(self._port.path(file)).read_bytes()
        except OSError as error:
            self._wrong(file, f"can't be read: {error.strerror}")
            return None

    def _certificates(self, file: str) -> list[x509.Certificate]:
        content = self._content(file)
        if content is None:
            return []
        try:
            return x509.load_pem_x509_certificates(content)
        except ValueError:
            self._wrong(file, "is no certificate in PEM")
            return []

    def chain(self) -> list[x509.Certificate]:
        """Read our certificate."""
        chain = self._certificates("cert")
        for certificate in chain:
            if problem := self._out_of_time(certificate):
                self._wrong("cert", problem)
        needed = [_SERVER, _CLIENT] if self._port.is_peer else [_SERVER]
        try:
            missing = missing_purposes(chain[0], needed) if chain else []
        except ValueError as error:
            self._wrong("cert", f"its extensions can't be read: {error}")
        else:
            if missing:
                self._wrong("cert", f"its extended key usage lacks {' and '.join(missing)}")
        return chain

    def key(self, chain: list[x509.Certificate]) -> None:
        """Look whether the private key is that of our certificate."""
        content = self._content("key")
        if content is None:
            return
        try:
            key = serialization.load_pem_private_key(content, None)
        except TypeError:
            self._wrong("key", "is encrypted; it must be without a passphrase")
        except (ValueError, UnsupportedAlgorithm):
            self._wrong("key", "is no private key in PEM")
        else:
            if chain and key.public_key() != chain[0].public_key():
                self._wrong("key", f"is not the key of {self._port.flag('cert')}")

    def authorities(self) -> list[x509.Certificate]:
        """Read whom we trust; one that does not hold any more may still stand there."""
        authorities = self._certificates("ca")
        problems = [self._out_of_time(one) for one in authorities]
        if problems and all(problems):
            self._wrong("ca", problems[-1])
        return authorities

    def revocations(
        self, authorities: Iterable[x509.Certificate]
    ) -> list[x509.CertificateRevocationList]:
        """Read the lists of revoked certificates."""
        content = self._content("crl")
        if content is None:
            return []
        try:
            if parts := _CRL_PEM.findall(content):
                found = [x509.load_pem_x509_crl(part) for part in parts]
            else:
                found = [x509.load_der_x509_crl(content)]
        except ValueError:
            self._wrong("crl", "is no list of revoked certificates in PEM or DER")
            return []
        for crl in found:
            # The issuer may be one between the authority and the certificates: not in our files.
            issuers = [one for one in authorities if one.subject == crl.issuer]
            if issuers and not any(_has_signed(one, crl) for one in issuers):
                name = crl.issuer.rfc4514_string()
                self._wrong("crl", f"it is not {name} who has signed it")
        return found

    def _out_of_time(self, certificate: x509.Certificate) -> str:
        """Say that a certificate does not hold now; empty if it does."""
        first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if self._now > last:
            return f"expired on {last:%Y-%m-%d %H:%M:%S} UTC"
        if self._now < first:
            return f"does not hold before {first:%Y-%m-%d %H:%M:%S} UTC"
        return ""


def missing_purposes(
    certificate: x509.Certificate, purposes: Iterable[x509.ObjectIdentifier]
) -> list[str]:
    """Name what a certificate is not for; one that does not say what it is for is for all.

    Raises:
        ValueError: Its extensions can't be read.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return []
    said = list(found)
    names = {_SERVER: "server authentication", _CLIENT: "client authentication"}
    return [names[one] for one in purposes if one not in said and _ANY not in said]


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (InvalidSignature, TypeError, ValueError):
        return False
