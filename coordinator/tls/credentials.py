"""What a port shows and accepts, kept up with its files while connections go on."""

from __future__ import annotations

import logging
import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from coordinator.config import ConfigError
from coordinator.tls.admission import refusal
from coordinator.tls.contexts import client_context, server_context
from coordinator.tls.material import Material, Unusable, read_material

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from coordinator.tls.ports import TlsPort

logger: Final = logging.getLogger("coordinator.tls")

NOTICE: Final = timedelta(days=30)
"""A certificate that expires sooner is warned of; shorter-lived ones in the last third of life."""
REPEAT_S: Final = 86_400
"""Pause between two such warnings."""


class Credentials:
    """Certificates, authorities and revocations of one port.

    Attributes:
        port: Files and rules.
        server: Context for those who dial us. Take it anew for every connection.
        client: Context for those whom we dial. Likewise.
        reloads: How often changed files were taken over.
        failures: How often changed files could not be used, and the old ones stayed.
    """

    def __init__(self, port: TlsPort, wall_s: Callable[[], float] = time.time) -> None:
        """Read the files.

        Args:
            port: Files and rules.
            wall_s: Unix time.

        Raises:
            ConfigError: They can't be used; each problem names its flag.
        """
        self.port = port
        self.reloads = 0
        self.failures = 0
        self._wall_s = wall_s
        self._seen = self._look()
        self._doubted: tuple[object, ...] | None = None
        """Changed files that could not be used; they may be amid being written."""
        self._warned_s: float | None = None
        try:
            self._material, self.server, self.client = self._load()
        except Unusable as error:
            raise ConfigError(error.problems) from error
        self._warn()

    def refresh(self) -> None:
        """Take over files that have changed; if they can't be used, go on with the old ones.

        Cheap while nothing has changed: call it every second or so. Open connections stay. Files
        are found to be unusable at the second call: at the first, they may be half written, or one
        of two.
        """
        found = self._look()
        if found != self._seen:
            self._reload(found)
        self._warn()

    def problem_of(self, connection: ssl.SSLObject | ssl.SSLSocket | None) -> str:
        """Say why the other end of a connection is not let in; empty if it is.

        Args:
            connection: ``ssl_object`` of its transport.
        """
        shown = connection.getpeercert(binary_form=True) if connection else None
        return refusal(self.port, self._material, shown)

    def expiries_s(self) -> dict[str, float]:
        """Tell when what we have read ends to hold, in Unix time: by kind of file."""
        material = self._material
        found = {"certificate": min(one.not_valid_after_utc for one in material.chain)}
        if material.authorities:
            # As long as one of them holds, the file is of use.
            found["authority"] = max(one.not_valid_after_utc for one in material.authorities)
        updates = [one.next_update_utc for one in material.revocations if one.next_update_utc]
        if updates:
            found["revocations"] = min(updates)
        return {kind: at.timestamp() for kind, at in found.items()}

    def _look(self) -> tuple[object, ...]:
        """Tell the state of the files apart from any other."""
        return tuple(_stamp(path) for path in self.port.files)

    def _load(self) -> tuple[Material, ssl.SSLContext, ssl.SSLContext]:
        material = read_material(self.port, datetime.fromtimestamp(self._wall_s(), UTC))
        try:
            return material, server_context(self.port), client_context(self.port)
        except (OSError, ValueError) as error:
            files = ", ".join(self.port.flag(file) for file in ("cert", "key"))
            raise Unusable([f"{files}: can't be used: {error}"]) from error

    def _reload(self, found: tuple[object, ...]) -> None:
        try:
            self._material, self.server, self.client = self._load()
        except Unusable as error:
            if found != self._doubted:
                self._doubted = found
                return
            self._seen = found
            self.failures += 1
            for problem in error.problems:
                logger.error("%s; the member goes on with what it has", problem)
            return
        self._seen = found
        self.reloads += 1
        self._warned_s = None
        until = self._material.chain[0].not_valid_after_utc
        logger.info(
            "new certificates for the %s port, of %s, until %s UTC",
            self.port.name,
            self._material.chain[0].subject.rfc4514_string() or "no name",
            f"{until:%Y-%m-%d %H:%M:%S}",
        )

    def _warn(self) -> None:
        """Warn of what expires, once a day."""
        now_s = self._wall_s()
        if self._warned_s is not None and now_s < self._warned_s + REPEAT_S:
            return
        self._warned_s = now_s
        now = datetime.fromtimestamp(now_s, UTC)
        material = self._material
        for file, certificates in (("cert", material.chain), ("ca", material.authorities)):
            for one in certificates:
                last = one.not_valid_after_utc
                notice = min(NOTICE, (last - one.not_valid_before_utc) / 3)
                if now > last - notice:
                    logger.warning(
                        "%s: %s %s on %s UTC",
                        self.port.flag(file),
                        one.subject.rfc4514_string() or "no name",
                        "expired" if now > last else "expires",
                        f"{last:%Y-%m-%d %H:%M:%S}",
                    )
        for crl in material.revocations:
            if crl.next_update_utc and now > crl.next_update_utc:
                logger.warning(
                    "%s: is older than it says it should be: a new one was due on %s UTC",
                    self.port.flag("crl"),
                    f"{crl.next_update_utc:%Y-%m-%d %H:%M:%S}",
                )


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
