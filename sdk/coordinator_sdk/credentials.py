"""Who the client is, and whom it trusts. No secret stands in a ``repr``, a pickle or an error."""

from __future__ import annotations

import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, SupportsIndex

from .errors import InvalidRequest

__all__ = ["TLS", "ApiKey", "Credential", "Password", "Token"]

USER_VARIABLE = "COORDINATOR_USER"
PASSWORD_VARIABLE = "COORDINATOR_PASSWORD"
TOKEN_VARIABLE = "COORDINATOR_TOKEN"
API_KEY_VARIABLE = "COORDINATOR_API_KEY"
CA_VARIABLE = "COORDINATOR_CACERT"
CERT_VARIABLE = "COORDINATOR_CERT"
KEY_VARIABLE = "COORDINATOR_KEY"


class _Unpickled:
    """Keeps a secret from being written where nobody looks for one."""

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        raise TypeError(
            f"{type(self).__name__} holds a secret and is not pickled: make it where it is used"
        )

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True)
class Password(_Unpickled):
    """A user with a password.

    The client logs in once, goes on with the token that it gets, and renews that in time.

    Attributes:
        user: Name of the user.
        password: Never shown.

    Raises:
        InvalidRequest: The user has no name, or one of the two is no text.
    """

    user: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        _check_text("user", self.user)
        if not isinstance(self.password, str):
            raise InvalidRequest("password: must be text", field="password")


@dataclass(frozen=True)
class Token(_Unpickled):
    """A bearer token, such as a JWT.

    Attributes:
        token: The token; or a function, ``async`` or not, that gives a fresh one. It is called
            when the client connects, well before the last one expires, and when that was refused;
            one that is not ``async`` runs in a thread. Never shown.

    Raises:
        InvalidRequest: It is neither, or empty.
    """

    token: str | Callable[[], str | Awaitable[str]] = field(repr=False)

    def __post_init__(self) -> None:
        if not callable(self.token):
            _check_text("token", self.token)


@dataclass(frozen=True)
class ApiKey(_Unpickled):
    """A long-lived key of a program, as ``coordctl api-key create`` prints it.

    Attributes:
        key: Never shown.

    Raises:
        InvalidRequest: It is no text, or empty.
    """

    key: str = field(repr=False)

    def __post_init__(self) -> None:
        _check_text("key", self.key)


Credential = Password | Token | ApiKey
"""What `Client` takes as ``auth``."""


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str) or not text.strip():
        raise InvalidRequest(f"{name}: must be text, and not empty", field=name)


@dataclass(frozen=True)
class TLS(_Unpickled):
    """How to speak TLS with ``https`` endpoints.

    The files are read again when they have changed, at the next connection: certificates may be
    renewed under a client that runs.

    Attributes:
        ca: File with the certificates to trust; None for those of the system.
        cert: File with the client's own certificate chain, where the server asks for one.
        key: File with the private key of ``cert``; None if ``cert`` contains it.
        server_name: The name that must stand in the server's certificate, where it is not the
            host of the endpoint; None for that host.
        password: Of the private key; never shown.
        verify: Whether to check the server's certificate and name. Leave it on.

    Raises:
        InvalidRequest: There is a key without a certificate.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str | None = None
    password: str | None = field(default=None, repr=False)
    verify: bool = True

    def __post_init__(self) -> None:
        if self.key is not None and self.cert is None:
            raise InvalidRequest("key: goes with a certificate, cert=", field="key")

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        if self.password is not None:
            return super().__reduce_ex__(protocol)
        return object.__reduce_ex__(self, protocol)

    def context(self) -> ssl.SSLContext:
        """Build the context, reading the files.

        Raises:
            OSError: A file cannot be read.
            ssl.SSLError: A file is not what it should be.
        """
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert is not None:
            # Without a password, a key that has one is an error, and no question at the terminal.
            context.load_cert_chain(self.cert, self.key, self.password or (lambda: ""))
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def credential_of(environment: Mapping[str, str]) -> Credential | None:
    """Give who the environment says that this client is; None if it says nothing.

    Args:
        environment: ``COORDINATOR_API_KEY``, else ``COORDINATOR_TOKEN``, else
            ``COORDINATOR_USER``, which may be ``name:password``, with ``COORDINATOR_PASSWORD``.

    Raises:
        InvalidRequest: There is a user without a password.
    """
    if key := environment.get(API_KEY_VARIABLE, "").strip():
        return ApiKey(key)
    if token := environment.get(TOKEN_VARIABLE, "").strip():
        return Token(token)
    if not (user := environment.get(USER_VARIABLE, "")):
        return None
    if password := environment.get(PASSWORD_VARIABLE, ""):
        return Password(user, password)
    user, colon, password = user.partition(":")
    if not colon:
        raise InvalidRequest(
            f"{USER_VARIABLE}: needs {PASSWORD_VARIABLE} beside it", field="password"
        )
    return Password(user, password)


def tls_of(environment: Mapping[str, str]) -> TLS | None:
    """Give what the environment says about TLS; None if it says nothing.

    Args:
        environment: ``COORDINATOR_CACERT``, ``COORDINATOR_CERT`` and ``COORDINATOR_KEY``, files.

    Raises:
        InvalidRequest: There is a key without a certificate.
    """
    ca, cert, key = (
        environment.get(name) or None for name in (CA_VARIABLE, CERT_VARIABLE, KEY_VARIABLE)
    )
    return TLS(ca, cert, key) if ca or cert or key else None
