"""Who the client is, and whom it trusts. No secret ever stands in a ``repr``."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field

__all__ = ["TLS", "ApiKey", "Auth", "Password", "Token"]


@dataclass(frozen=True)
class Password:
    """A user with a password.

    Attributes:
        user: Name of the user.
        password: Never shown.
    """

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Token:
    """A bearer token, such as a JWT.

    Attributes:
        token: Never shown.
    """

    token: str = field(repr=False)


@dataclass(frozen=True)
class ApiKey:
    """A long-lived key of a program.

    Attributes:
        key: Never shown.
    """

    key: str = field(repr=False)


Auth = Password | Token | ApiKey
"""What `Client` takes as ``auth``."""


@dataclass(frozen=True)
class TLS:
    """How to speak TLS with ``https`` endpoints.

    Attributes:
        ca: File with the certificates to trust; None for those of the system.
        cert: File with the client's own certificate chain, where the server asks for one.
        key: File with the private key of ``cert``; None if ``cert`` contains it.
        password: Of the private key; never shown.
        verify: Whether to check the server's certificate and name. Leave it on.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    password: str | None = field(default=None, repr=False)
    verify: bool = True

    def context(self) -> ssl.SSLContext:
        """Build the context, reading the files.

        Raises:
            OSError: A file cannot be read.
            ssl.SSLError: A file is not what it should be.
        """
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key, self.password)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
