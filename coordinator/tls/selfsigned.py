"""Certificates that sign themselves: they hide what is said, and prove nothing."""

from __future__ import annotations

import datetime
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509

from coordinator.config import ConfigError
from coordinator.tls.files import FOLDER_MODE, write_private
from coordinator.tls.making import CLIENT, SERVER, new_certificate, read_pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.tls.ports import TlsPort

logger: Final = logging.getLogger("coordinator.tls")

ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
"""Every certificate is for these as well."""
_DAYS_OF_YEAR: Final = 365


def provide(port: TlsPort, hosts: Sequence[str], years: int) -> None:
    """Make the certificate of a port, unless there is one that will do for a while.

    Args:
        port: Where its files are to be.
        hosts: Under which the member is reached.
        years: How long it is to hold.

    Raises:
        ConfigError: It can't be written.
    """
    wanted = list(dict.fromkeys((*ALWAYS, *hosts)))
    cert, key = Path(port.cert_file), Path(port.key_file)
    if _will_do(cert, key, wanted):
        return
    made = new_certificate("coordinator", wanted, (SERVER, CLIENT), years * _DAYS_OF_YEAR)
    try:
        # Not what is above the data directory: that would hide a mistyped path.
        for folder in (cert.parents[2], cert.parents[1], cert.parent):
            folder.mkdir(FOLDER_MODE, exist_ok=True)
        write_private(key, made.key_pem)
        write_private(cert, made.certificate_pem)
    except OSError as error:
        raise ConfigError([f"{port.flag('cert')}: can't be written: {error.strerror}"]) from error
    logger.warning(
        "made a certificate for the %s port that signs itself: %s. It keeps what is said from "
        "whoever listens, and does not prove who says it",
        port.name,
        cert,
    )


def _will_do(cert: Path, key: Path, hosts: Sequence[str]) -> bool:
    try:
        found = read_pair(cert.read_bytes(), key.read_bytes()).certificate
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    first, last = found.not_valid_before_utc, found.not_valid_after_utc
    left = last - datetime.datetime.now(datetime.UTC)
    known = {str(name) for name in names.get_values_for_type(x509.IPAddress)}
    known.update(names.get_values_for_type(x509.DNSName))
    return left > (last - first) / 3 and known.issuperset(hosts)
