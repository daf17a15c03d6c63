"""Making authorities and certificates: ECDSA on P-256, with names, and with what they are for."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

BACKDATED: Final = datetime.timedelta(hours=1)
"""Certificates hold from a little earlier on, for clocks that are behind."""
SERVER: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT: Final = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, which no representation shows.

    Attributes:
        certificate: What it shows.
        key: What it proves it with.
    """

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    def __repr__(self) -> str:
        return f"Pair({self.certificate.subject.rfc4514_string()})"

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key as PEM, not encrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def new_authority(name: str, days: float, now: datetime.datetime | None = None) -> Pair:
    """Make an authority: a certificate that signs others.

    Args:
        name: Its common name.
        days: How long it holds.
        now: The time; the system's by default.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(name, key, days, now).issuer_name(_named(name))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    builder = _identified(builder, key, key)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def new_certificate(
    name: str,
    hosts: Sequence[str],
    purposes: Iterable[x509.ObjectIdentifier],
    days: float,
    authority: Pair | None = None,
    now: datetime.datetime | None = None,
) -> Pair:
    """Make a certificate for a server, a client or a peer.

    Args:
        name: Its common name.
        hosts: Names and addresses under which its holder is reached.
        purposes: `SERVER`, `CLIENT` or both.
        days: How long it holds; never longer than the authority.
        authority: Who signs it; itself by default.
        now: The time; the system's by default.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    signer = authority.key if authority else key
    issuer = authority.certificate.subject if authority else _named(name)
    last = authority.certificate.not_valid_after_utc if authority else None
    builder = _builder(name, key, days, now, last).issuer_name(issuer)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
    if hosts:
        alternatives = [_alternative(host) for host in dict.fromkeys(hosts)]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    builder = _identified(builder, key, signer)
    return Pair(builder.sign(signer, hashes.SHA256()), key)


def read_pair(certificate_pem: bytes, key_pem: bytes) -> Pair:
    """Read a certificate and its key.

    Raises:
        ValueError: They are not PEM, or do not belong together, or the key is of no use here.
    """
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except TypeError:
        raise ValueError("the key is encrypted") from None
    if key.public_key() != certificate.public_key():
        raise ValueError("certificate and key do not belong together")
    return Pair(certificate, key)  # type: ignore[arg-type]  # keys of certificates can sign


def _builder(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    days: float,
    now: datetime.datetime | None,
    last: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    now = now or datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(min(until, last) if last else until)
    )


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _identified(
    builder: x509.CertificateBuilder,
    key: ec.EllipticCurvePrivateKey,
    signer: CertificateIssuerPrivateKeyTypes,
) -> x509.CertificateBuilder:
    """Say whose key it is and whose signature, by which chains are found."""
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return builder.add_extension(own, False).add_extension(theirs, False)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
