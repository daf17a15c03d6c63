"""Whether the holder of a certificate, which is signed and holds, may come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from coordinator.tls.material import missing_purposes

if TYPE_CHECKING:
    from coordinator.tls.material import Material
    from coordinator.tls.ports import TlsPort

_BOTH: Final = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def refusal(port: TlsPort, material: Material, shown: bytes | None) -> str:
    """Say why the other end is not let in; empty if it is.

    Args:
        port: Where it is.
        material: What is in the port's files.
        shown: Its certificate, DER, which OpenSSL has verified; None if it has shown none.
    """
    if not port.ca_file:
        return ""
    if shown is None:
        return "it has shown no certificate"
    try:
        certificate = x509.load_der_x509_certificate(shown)
        return _refusal(port, material, certificate)
    except ValueError as error:
        return f"its certificate can't be read: {error}"


def _refusal(port: TlsPort, material: Material, certificate: x509.Certificate) -> str:
    subject = certificate.subject
    name = subject.rfc4514_string() or "no name"
    if (certificate.issuer.public_bytes(), certificate.serial_number) in material.revoked:
        return f"the certificate of {name} is revoked"
    # A member both dials and is dialled; certificates of clients are for one of the two.
    if port.is_peer and (missing := missing_purposes(certificate, _BOTH)):
        return f"the certificate of {name} is no member's: it is not for {' and '.join(missing)}"
    if port.allowed_cn:
        common = [one.value for one in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if common != [port.allowed_cn]:
            return f"the common name of {name} is not the allowed one"
    if port.allowed_hostname and not _has_name(certificate, port.allowed_hostname):
        return f"the certificate of {name} does not have the allowed host name"
    return ""


def _has_name(certificate: x509.Certificate, host: str) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    known = [*found.get_values_for_type(x509.DNSName)]
    known += [str(address) for address in found.get_values_for_type(x509.IPAddress)]
    return any(_matches(one.lower(), host.lower()) for one in known)


def _matches(name: str, host: str) -> bool:
    """Compare names; ``*`` stands for a first label."""
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:]
    return name == host
