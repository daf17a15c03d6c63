"""Who asks: the one place where whatever a request brings along becomes a caller.

In this order: a token or an API key in ``Authorization``, with ``Bearer`` or bare; the cookie of
the dashboard; the certificate of the connection. What is wrong is refused, and nothing behind it
is tried. While authentication is off nobody is asked.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from coordinator.api.gate import is_this_machine
from coordinator.api.permits import authorize
from coordinator.api.reading import fresh
from coordinator.api.registry import Caller
from coordinator.config import ConfigError
from coordinator.credentials.credentials import Credentials
from coordinator.credentials.limiter import LoginLimiter
from coordinator.credentials.proof import Proof, Refused
from coordinator.credentials.token_key import WrongKey
from coordinator.metrics import by_label
from coordinator.tls.names import certificate_names
from coordinator.wire.command import TokenKeyAdd
from coordinator_sdk.errors import (
    Conflict,
    CoordinatorError,
    Exhausted,
    PermissionDenied,
    Unauthenticated,
)
from coordinator_sdk.protocol.auth import (
    AUTH_FAILED,
    AUTH_NOT_ENABLED,
    INVALID_TOKEN,
    USER_EMPTY,
    AuthStatus,
    LoginResult,
)

if TYPE_CHECKING:
    import ssl

    from starlette.requests import Request
    from starlette.types import Scope

    from coordinator.api.census import Place
    from coordinator.api.gate import Gate
    from coordinator.metrics import Metrics
    from coordinator.node.node import Node

audit = logging.getLogger("coordinator.audit")

COOKIE: Final = "coordinator_session"
SESSION_MS: Final = 12 * 3_600_000
"""After so long since the login, a token is not followed by another without the password."""
CSRF_HEADER: Final = "x-coordinator-csrf"
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")
NOT_YET: Final = (
    "authentication is required here and not turned on yet; `coordctl auth init` on the member's "
    "own machine makes the user root and turns it on"
)
Headers = Sequence[tuple[bytes, bytes]]


class Identity:
    """Tells who asks, and lets people log in.

    Args:
        node: The member.

    Attributes:
        credentials: What believes tokens and issues them.
        logins: How many there were by what came of them.
        logouts: How many tokens were made void here.

    Raises:
        ConfigError: A key that the settings name can't be used.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._is_required = node.config.require_auth
        self._limiter = LoginLimiter(time.monotonic)
        self.logins = dict.fromkeys(("ok", "refused", "too many failures", "busy"), 0)
        self.logouts = 0
        try:
            self.credentials = Credentials(
                node.config, lambda: node.machine.auth, lambda: node.cluster_id, now_ms, self._share
            )
        except WrongKey as error:
            raise ConfigError([str(error)]) from None
        node.on_tick.append(self.credentials.tick)

    def register(self, metrics: Metrics) -> None:
        """Register what there is to count."""
        metrics.counter(
            "coordinator_logins_total",
            "Logins by what came of them.",
            lambda: by_label("result", self.logins),
        )

    # ------------------------------------------------------------ who asks

    def identify(
        self,
        credential: bytes | str,
        origin: str,
        connection: ssl.SSLObject | ssl.SSLSocket | None = None,
    ) -> Caller:
        """Tell who asks.

        Args:
            credential: What came as ``Authorization`` or, over gRPC, as ``token``; empty for
                nothing.
            origin: Where the client is, ``host:port``.
            connection: The TLS of the connection, for the client's certificate.

        Returns:
            The caller; nobody in particular if there is no credential, or authentication is off.

        Raises:
            Unauthenticated: The credential is wrong, or has expired.
        """
        if not self._node.machine.auth.enabled:
            if self._is_required and not is_this_machine(address_of(origin)):
                raise Unauthenticated(NOT_YET)
            return Caller(origin=origin)
        proof: Proof | None
        if credential:
            proof = self._prove(_bare(credential))
        else:
            proof = self.credentials.of_certificate(certificate_names(connection))
        if proof is None:
            return Caller(origin=origin)
        return Caller(
            proof.user,
            origin,
            0,
            proof.auth_revision,
            proof.scope,
            proof.expires_ms,
            proof.is_login,
        )

    def _prove(self, credential: str) -> Proof:
        try:
            return self.credentials.prove(credential)
        except Refused as refused:
            audit.debug("a credential was refused: %s", refused)
            raise Unauthenticated(INVALID_TOKEN) from None

    async def identify_surely(
        self,
        credential: bytes | str,
        origin: str,
        connection: ssl.SSLObject | ssl.SSLSocket | None = None,
    ) -> Caller:
        """As `identify`; what is wrong as far as this member knows is looked at again.

        It may not have heard yet of a key or a user that another member has told of.
        """
        try:
            return self.identify(credential, origin, connection)
        except Unauthenticated:
            if not self._node.machine.auth.enabled:
                raise
            await self._catch_up()
            return self.identify(credential, origin, connection)

    async def _catch_up(self) -> None:
        with contextlib.suppress(CoordinatorError):  # Then it goes by what it knows.
            await fresh(self._node)

    # ------------------------------------------------------------ logins

    async def login(self, user: str, password: str, origin: str) -> LoginResult:
        """Let somebody prove to be a user by a password.

        Args:
            user: The user.
            password: The password.
            origin: Where the client is, ``host:port``.

        Raises:
            Conflict: Authentication is off.
            Unauthenticated: User or password are wrong; nobody is told which.
            Exhausted: Too many tries have failed, or too many are under way.
        """
        auth = self._node.machine.auth
        if not auth.enabled:
            await self._catch_up()
            auth = self._node.machine.auth
        if not auth.enabled:
            raise Conflict(AUTH_NOT_ENABLED)
        try:
            made = self._limiter.admit(user, address_of(origin))
        except CoordinatorError:
            self._note(user, origin, "too many failures")
            raise
        try:
            is_right, revision = await self._compare(user, password)
        except Exhausted:
            made.give_back()  # Nothing was compared.
            self._note(user, origin, "busy")
            raise
        if not is_right:
            self._note(user, origin, "refused")
            raise Unauthenticated(AUTH_FAILED)
        self._limiter.succeeded(made)
        self._note(user, origin, "ok")
        token, expires_ms = await self.credentials.issue(user, revision)
        return LoginResult(token, user, expires_ms, revision, now_ms())

    def log_out(self, credential: str, origin: str) -> None:
        """Make a token void on this member; what proves nothing, or is no token, stays as it is.

        Args:
            credential: What came as ``Authorization`` or as a cookie.
            origin: Where the client is, ``host:port``.
        """
        if not self._node.machine.auth.enabled:
            return
        found = self.credentials.log_out(_bare(credential))
        if found is not None:
            self.logouts += 1
            audit.info("logout user=%r origin=%s", found.user, origin)

    async def renew(self, credential: str, origin: str) -> LoginResult:
        """Issue another token to whoever has one, as good as that one and for longer.

        Args:
            credential: The token.
            origin: Where the client is, ``host:port``.

        Raises:
            Conflict: Authentication is off.
            Unauthenticated: It proves nothing, is no token of ours, or goes back to a login of
                more than `SESSION_MS` ago.
        """
        if not self._node.machine.auth.enabled:
            raise Conflict(AUTH_NOT_ENABLED)
        token = _bare(credential)
        proof = self._prove(token)
        if proof.scope or not (proof.began_ms or self.credentials.are_simple):
            raise Unauthenticated(INVALID_TOKEN)
        caller = Caller(proof.user, origin, auth_revision=proof.auth_revision)
        authorize(self._node, caller, AuthStatus())
        expires_ms = proof.expires_ms
        if not self.credentials.are_simple:
            if now_ms() >= proof.began_ms + SESSION_MS:
                raise Unauthenticated(INVALID_TOKEN, reason="expired")
            token, expires_ms = await self.credentials.issue(
                proof.user, proof.auth_revision, proof.began_ms
            )
        return LoginResult(token, proof.user, expires_ms, proof.auth_revision, now_ms())

    async def _compare(self, user: str, password: str) -> tuple[bool, int]:
        """Compare a password; also by what other members know, if it does not fit here."""
        fits = self.credentials.passwords.fits
        auth = self._node.machine.auth
        revision, kept = auth.revision, self._kept(user)
        if await fits(user, password, kept):
            return True, revision
        await self._catch_up()
        now = self._kept(user)
        revision = self._node.machine.auth.revision
        return now != kept and await fits(user, password, now), revision

    def _kept(self, user: str) -> str:
        found = self._node.machine.auth.users.get(user)
        return "" if found is None or found.no_password else found.password_hash

    def _note(self, user: str, origin: str, result: str) -> None:
        # A name that nobody has may be a password in the wrong place.
        name = repr(user) if user in self._node.machine.auth.users else "(unknown)"
        audit.info("login user=%s origin=%s result=%s", name, origin, result)
        self.logins[result] = self.logins.get(result, 0) + 1

    async def _share(self, name: str, secret: bytes) -> None:
        await self._node.execute(TokenKeyAdd(name, secret))


def now_ms() -> int:
    """Give Unix time."""
    return time.time_ns() // 1_000_000


def address_of(origin: str) -> str:
    """Take the port off ``host:port``."""
    return origin.rpartition(":")[0]


def _bare(credential: bytes | str) -> str:
    text = credential.decode("latin-1") if isinstance(credential, bytes) else credential
    text = text.strip()
    if text[:7].lower() == "bearer ":
        text = text[7:].lstrip()
    return text


# ---------------------------------------------------------------- what HTTP brings along


def shown_in(scope: Scope, gate: Gate) -> str:
    """Find the credential of a request, as `credential_of`."""
    return credential_of(scope["headers"], scope["method"], gate, is_tls=tls_of(scope) is not None)


def credential_of(headers: Headers, method: str, gate: Gate, *, is_tls: bool) -> str:
    """Find the credential among the headers of a request.

    Args:
        headers: The headers, their names in small letters.
        method: The method: one that changes something needs more than a cookie, which browsers
            also send for other pages. ``WEBSOCKET`` for an upgrade.
        gate: Knows the member's own pages.
        is_tls: Whether it came by TLS.

    Raises:
        Unauthenticated: There are several.
        PermissionDenied: It is a cookie, and a page of another origin may have sent the request.
    """
    found = [value for name, value in headers if name == b"authorization"]
    if len(found) > 1:
        raise Unauthenticated("authorization: there must be one")
    if found:
        return found[0].decode("latin-1")
    cookie = _cookie(headers)
    if cookie and method not in SAFE_METHODS:
        _check_page(headers, method, gate, is_tls=is_tls)
    return cookie


def _cookie(headers: Headers) -> str:
    wanted = f"{COOKIE}="
    for name, value in headers:
        if name == b"cookie":
            for part in value.decode("latin-1").split(";"):
                if part.strip().startswith(wanted):
                    return part.strip().removeprefix(wanted)
    return ""


def _check_page(headers: Headers, method: str, gate: Gate, *, is_tls: bool) -> None:
    told = {name: value.decode("latin-1") for name, value in headers}
    if not gate.is_own(told.get(b"origin", ""), told.get(b"host", ""), is_tls=is_tls):
        raise PermissionDenied(
            "origin: a cookie needs the Origin of a page of this member", field="origin"
        )
    if method != "WEBSOCKET" and told.get(CSRF_HEADER.encode()) != "1":
        raise PermissionDenied(f"{CSRF_HEADER}: a cookie needs it, as 1", field=CSRF_HEADER)


def origin_of(scope: Scope) -> str:
    """Tell where the client of a request is, ``host:port``."""
    client = scope.get("client")
    return f"{client[0]}:{client[1]}" if client else ""


def tls_of(scope: Scope) -> ssl.SSLObject | None:
    """Give the TLS of the connection that a request came on; None if it has none."""
    found: ssl.SSLObject | None = scope.get("state", {}).get("tls")
    return found


def take_place(scope: Scope, caller: Caller) -> None:
    """Count the connection that a request came on as its caller's.

    Raises:
        Exhausted: Its user has too many connections, or only root gets one more.
    """
    place: Place | None = scope.get("state", {}).get("place")
    if place is not None:
        place.take(caller)


async def caller_of(request: Request) -> Caller:
    """Tell who makes a request.

    Raises:
        Unauthenticated: What it brings along to prove it is wrong.
        PermissionDenied: It comes from a page that may not send it.
        Exhausted: Its user has too many connections, or only root gets one more.
    """
    scope = request.scope
    known: Caller | None = scope.setdefault("state", {}).get("caller")
    if known is not None:
        return known
    serving = request.app.state.serving
    identity: Identity = serving.identity
    credential = shown_in(scope, serving.gate)
    caller = await identity.identify_surely(credential, origin_of(scope), tls_of(scope))
    take_place(scope, caller)
    return caller


async def check_known(request: Request) -> None:
    """Refuse whoever has not proved to be a user, before anything else of the request is looked at.

    Raises:
        Unauthenticated: It has not.
        PermissionDenied: It comes from a page that may not send it.
    """
    caller = await caller_of(request)
    if not caller.actor:
        raise Unauthenticated(USER_EMPTY)
    request.scope["state"]["caller"] = caller
