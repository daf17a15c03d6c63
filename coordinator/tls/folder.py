"""A folder of certificates: authorities, a server, members, clients, and their renewal.

Two authorities: one for the client port, one for members, so that no client's certificate can ever
be taken for a member's. The files are named as cfssl's users name them.
"""

from __future__ import annotations

import datetime
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from coordinator.tls.files import FOLDER_MODE, write_private
from coordinator.tls.making import (
    CLIENT,
    SERVER,
    Pair,
    new_authority,
    new_certificate,
    read_pair,
)

if TYPE_CHECKING:
    from pathlib import Path

AUTHORITY: Final = "ca"
PEER_AUTHORITY: Final = "peer-ca"
AUTHORITIES: Final = {AUTHORITY: "clients", PEER_AUTHORITY: "members"}
OWN_HOSTS: Final = ("localhost", "127.0.0.1", "::1")
"""Every server's certificate is for these as well."""
_HOST: Final = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]+")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")


class CannotMake(Exception):
    """Something is in the way, or missing; the message says what."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made.

    Attributes:
        hosts: Where members are reached, besides this machine's own names.
        clients: Common names of clients.
        days: How long certificates hold.
        authority_days: How long authorities hold.
    """

    hosts: Sequence[str] = ()
    clients: Sequence[str] = ("client",)
    days: int = 365
    authority_days: int = 3650

    def check(self) -> None:
        """Look at the names.

        Raises:
            CannotMake: One can't stand in a certificate.
        """
        for host in self.hosts:
            if not _HOST.fullmatch(host):
                raise CannotMake(f"--host {host}: is neither a host name nor an address")
        for name in self.clients:
            if not _NAME.fullmatch(name) or name in (*AUTHORITIES, "server", "peer"):
                raise CannotMake(f"--client {name}: can't be the name of a client and of its file")
            if name.endswith("-key"):
                raise CannotMake(f"--client {name}: ends as the names of keys do")
        if not 1 <= self.days <= self.authority_days <= 36_500:
            raise CannotMake("--days: from 1 to --ca-days, and that at most 36500")


class CertificateFolder:
    """Certificates and keys in a folder.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def create(self, wanted: Wanted, *, force: bool = False) -> list[str]:
        """Make both authorities and all certificates.

        Args:
            wanted: What for.
            force: Whether files that are there may be lost.

        Returns:
            The names of what was made, each of them two files.

        Raises:
            CannotMake: Files are in the way.
            OSError: They can't be written.
        """
        wanted.check()
        names = [*AUTHORITIES, "server", "peer", *wanted.clients]
        self._keep(names, force)
        self.path.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        for name in AUTHORITIES:
            self._write(name, self._new_authority(name, wanted.authority_days))
        hosts = [*OWN_HOSTS, *wanted.hosts]
        self._issue("server", "server", hosts, (SERVER,), wanted.days)
        self._issue("peer", "peer", hosts, (SERVER, CLIENT), wanted.days)
        for name in wanted.clients:
            self._issue(name, name, (), (CLIENT,), wanted.days)
        return names

    def add_clients(self, wanted: Wanted, *, force: bool = False) -> list[str]:
        """Make certificates for more clients.

        Returns:
            Their names.

        Raises:
            CannotMake: There is no authority, or files are in the way.
            OSError: They can't be written.
        """
        wanted.check()
        self._keep(wanted.clients, force)
        for name in wanted.clients:
            self._issue(name, name, (), (CLIENT,), wanted.days)
        return list(wanted.clients)

    def renew(self, days: int) -> list[str]:
        """Make all certificates anew, with new keys, as they were, signed by the newest authority.

        Returns:
            Their names.

        Raises:
            CannotMake: There are none.
            OSError: They can't be written.
        """
        names = sorted(
            path.name.removesuffix("-key.pem")
            for path in self.path.glob("*-key.pem")
            if path.name.removesuffix("-key.pem") not in AUTHORITIES
        )
        if not names:
            raise CannotMake(f"{self.path}: there are no certificates to renew")
        for name in names:
            old = x509.load_pem_x509_certificate(self._read(f"{name}.pem"))
            common = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            hosts, purposes = _hosts_of(old), _purposes_of(old)
            self._issue(name, str(common[0].value), hosts, purposes, days)
        return names

    def new_authorities(self, days: int) -> list[str]:
        """Make new authorities and put them before the old ones, which are trusted on.

        Returns:
            Their names.

        Raises:
            CannotMake: There are none yet.
            OSError: They can't be written.
        """
        for name in AUTHORITIES:
            old = self._read(f"{name}.pem")
            made = self._new_authority(name, days)
            write_private(self.path / f"{name}-key.pem", made.key_pem)
            write_private(self.path / f"{name}.pem", made.certificate_pem + old)
        return list(AUTHORITIES)

    def drop_old_authorities(self) -> list[str]:
        """Trust the newest authorities alone.

        Returns:
            The names of those that had old ones beside them.

        Raises:
            CannotMake: There are none, or certificates of old ones are still there.
            OSError: They can't be written.
        """
        newest = {name: self._authority(name).certificate for name in AUTHORITIES}
        for path in sorted(self.path.glob("*-key.pem")):
            name = path.name.removesuffix("-key.pem")
            if name in AUTHORITIES:
                continue
            leaf = x509.load_pem_x509_certificate(self._read(f"{name}.pem"))
            if leaf.issuer not in {one.subject for one in newest.values()}:
                raise CannotMake(f"{name}.pem is of an old authority: renew it first")
        dropped = []
        for name, one in newest.items():
            if len(x509.load_pem_x509_certificates(self._read(f"{name}.pem"))) > 1:
                pair = Pair(one, self._authority(name).key)
                write_private(self.path / f"{name}.pem", pair.certificate_pem)
                dropped.append(name)
        return dropped

    def _keep(self, names: Sequence[str], force: bool) -> None:
        files = [f"{name}{ending}.pem" for name in names for ending in ("", "-key")]
        there = [file for file in files if (self.path / file).exists()]
        if there and not force:
            raise CannotMake(
                f"{self.path}: {', '.join(there)} would be lost; --force overwrites them"
            )

    def _new_authority(self, name: str, days: int) -> Pair:
        # Each has a name of its own, by which certificates tell theirs.
        today = datetime.datetime.now(datetime.UTC)
        return new_authority(
            f"coordinator {AUTHORITIES[name]} {today:%Y-%m-%d} {secrets.token_hex(3)}", days
        )

    def _authority(self, name: str) -> Pair:
        try:
            return read_pair(self._read(f"{name}.pem"), self._read(f"{name}-key.pem"))
        except ValueError as error:
            raise CannotMake(f"{self.path / name}.pem: {error}") from error

    def _issue(
        self,
        file: str,
        name: str,
        hosts: Sequence[str],
        purposes: Sequence[x509.ObjectIdentifier],
        days: int,
    ) -> None:
        authority = self._authority(PEER_AUTHORITY if file == "peer" else AUTHORITY)
        self._write(file, new_certificate(name, hosts, purposes, days, authority))

    def _write(self, name: str, pair: Pair) -> None:
        write_private(self.path / f"{name}-key.pem", pair.key_pem)
        write_private(self.path / f"{name}.pem", pair.certificate_pem)

    def _read(self, file: str) -> bytes:
        try:
            return (self.path / file).read_bytes()
        except FileNotFoundError:
            raise CannotMake(f"{self.path / file}: there is no such file") from None


def _hosts_of(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    addresses = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    return [*names.get_values_for_type(x509.DNSName), *addresses]


def _purposes_of(certificate: x509.Certificate) -> list[x509.ObjectIdentifier]:
    return list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
