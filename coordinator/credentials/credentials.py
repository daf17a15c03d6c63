"""Who somebody is: one place that knows every kind of credential.

What a token proved is remembered, so that the next request with it costs one look, until its time
is up or the keys of tokens change.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from coordinator.config.tokens import SIMPLE, parse_token_setting
from coordinator.credentials import signing
from coordinator.credentials.oidc import fetch_key_set, load_key_set
from coordinator.credentials.passwords import SALT_BYTES, Passwords
from coordinator.credentials.proof import Proof, Refused
from coordinator.credentials.simple import SimpleTokens
from coordinator.credentials.token_key import TokenKey, WrongKey
from coordinator.credentials.tokens import Issuer, issue, kid_of, looks_like_token, verify
from coordinator.credentials.void import VoidTokens
from coordinator.keyspace.auth_records import KEY_SCOPE
from coordinator_sdk.errors import Conflict, Unavailable
from coordinator_sdk.protocol.auth import ROOT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from coordinator.config import Config
    from coordinator.keyspace.auth import AuthStore

logger = logging.getLogger("coordinator.credentials")

REMEMBERED_MAX: Final = 16_384
"""Tokens whose proof is remembered."""
CREDENTIAL_CHARACTERS_MAX: Final = 4096
REFRESH_MS: Final = 60_000
"""Pause between two looks at the files and URLs that keys come from."""
RETRY_MS: Final = 5_000
OUTSIDE: Final = -1
"""Instead of a revision: an outside issuer says who somebody is, and nothing of our passwords."""
API_KEY: Final = re.compile(r"ck_([0-9a-f]{16})_([A-Za-z0-9_-]{43,128})")


class Credentials:
    """Issues tokens, and believes credentials.

    Args:
        config: The settings.
        auth: Gives users, roles and keys as they are now.
        cluster: Gives the id of the cluster.
        clock_ms: Gives Unix time.
        share: Has all members share a secret; called with its name and itself.

    Raises:
        WrongKey: A key that the settings name can't be used.
    """

    def __init__(
        self,
        config: Config,
        auth: Callable[[], AuthStore],
        cluster: Callable[[], int],
        clock_ms: Callable[[], int],
        share: Callable[[str, bytes], Awaitable[None]],
    ) -> None:
        self.passwords = Passwords(config.password_cost)
        self._config = config
        self._auth = auth
        self._cluster = cluster
        self._clock_ms = clock_ms
        self._share = share
        self._setting = parse_token_setting(config.auth_token)
        self._keys: dict[str, TokenKey] = {}
        self._signing: TokenKey | None = None
        self._outside: dict[str, TokenKey] = {}
        self._shared: dict[str, TokenKey] = {}
        self._shared_names: tuple[str, ...] = ()
        self._simple = SimpleTokens(lambda: self._auth().token_keys, self._setting.ttl_ms)
        self._proofs: dict[str, Proof] = {}
        self._void = VoidTokens()
        self._by_certificate: dict[str, str] = {}
        self._seen = -1
        self._refresh_ms = clock_ms() + REFRESH_MS
        self._refreshing: asyncio.Task[None] | None = None
        self._sharing: asyncio.Task[None] | None = None
        self._load()
        if config.oidc_jwks_url:
            self._refresh_ms = 0

    @property
    def are_simple(self) -> bool:
        """Whether the tokens of this member are simple ones, which live on while they are used."""
        return self._setting.kind == SIMPLE

    # ------------------------------------------------------------ believing

    def prove(self, credential: str) -> Proof:
        """Tell whom a token or an API key stands for.

        Args:
            credential: A JSON Web Token, a simple token or an API key.

        Raises:
            Refused: It proves nothing.
        """
        found = self._believe(credential)
        if not found.scope and self._void.holds(found.user, credential):
            self._simple.forget(credential)
            raise Refused("logged out")
        return found

    def log_out(self, credential: str) -> Proof | None:
        """Believe a token no more, on this member.

        Returns:
            Whom it stood for; None if for nobody, or if it is an API key, which is revoked instead.
        """
        try:
            found = self.prove(credential)
        except Refused:
            return None
        if found.scope:
            return None
        self._void.add(found.user, credential, found.expires_ms, self._clock_ms())
        return found

    def _believe(self, credential: str) -> Proof:
        auth = self._auth()
        if auth.revision != self._seen:
            self._forget(auth)
        now_ms = self._clock_ms()
        known = self._proofs.get(credential)
        if known is not None:
            if now_ms >= known.expires_ms:
                raise Refused("expired")
            return known if known.auth_revision != OUTSIDE else _now(known, auth)
        if len(credential) > CREDENTIAL_CHARACTERS_MAX or not credential.isascii():
            raise Refused("longer than any credential, or not of their characters")
        if credential.startswith("ck_"):
            return self._of_api_key(credential, auth, now_ms)
        if not looks_like_token(credential):
            return self._simple.verify(credential, now_ms)
        made = self._of_token(credential, now_ms)
        if len(self._proofs) >= REMEMBERED_MAX:
            self._proofs.clear()
        self._proofs[credential] = made
        return made if made.auth_revision != OUTSIDE else _now(made, auth)

    def _of_api_key(self, text: str, auth: AuthStore, now_ms: int) -> Proof:
        parts = API_KEY.fullmatch(text)
        record = auth.api_keys.get(int(parts[1], 16)) if parts is not None else None
        if parts is None or record is None:
            raise Refused("there is no such API key")
        if not hmac.compare_digest(hashlib.sha256(parts[2].encode()).digest(), record.secret_hash):
            raise Refused("not the secret of this API key")
        if record.expires_ms and record.expires_ms <= now_ms:
            raise Refused("expired")
        scope = f"{KEY_SCOPE}{record.key:x}"
        return Proof(record.user, auth.revision, scope, record.expires_ms)

    def _of_token(self, token: str, now_ms: int) -> Proof:
        kid = kid_of(token)
        if kid in self._outside and kid not in self._own_keys():
            claims = verify(token, self._outsider(), now_ms / 1000)
            user = self._config.oidc_user_prefix + claims.subject
            if user == ROOT:
                raise Refused("an outside issuer does not say who is root")
            return Proof(user, OUTSIDE, expires_ms=claims.expires_ms)
        claims = verify(token, self._issuer(), now_ms / 1000)
        return Proof(
            claims.subject,
            claims.revision,
            expires_ms=claims.expires_ms,
            began_ms=claims.began_ms,
            is_login=True,
        )

    def of_certificate(self, names: Sequence[str]) -> Proof | None:
        """Tell whom a client certificate stands for; None if for nobody.

        Args:
            names: The names in it, the common name first: it stands for the user who has one of
                them among its certificate names, else for the user of the common name.
        """
        auth = self._auth()
        if auth.revision != self._seen:
            self._forget(auth)
        for name in names:
            user = self._by_certificate.get(name)
            if user is not None and name:
                return Proof(user, auth.revision)
        if names and names[0] in auth.users:
            return Proof(names[0], auth.revision)
        return None

    def _forget(self, auth: AuthStore) -> None:
        self._seen = auth.revision
        if tuple(auth.token_keys) != self._shared_names:
            self._proofs.clear()
        self._by_certificate = {
            name: one.user for one in auth.users.values() for name in one.certificate_names
        }

    # ------------------------------------------------------------ issuing

    async def issue(self, user: str, revision: int, began_ms: int = 0) -> tuple[str, int]:
        """Issue a token.

        Args:
            user: Whom it is about.
            revision: The revision of users and roles at which that was proved.
            began_ms: Unix time of the login that it goes back to; 0 for now.

        Returns:
            The token, and the Unix time in ms from which on it is void; a simple one lives on
            while it is used.

        Raises:
            Conflict: The settings name no key to sign with.
            Unavailable: The secret that the members share has not come here yet.
        """
        await self.be_ready()
        now_ms = self._clock_ms()
        kid = signing.choose_secret(self._auth().token_keys, now_ms)
        if self._setting.is_shared and not kid:
            raise Unavailable("the members share no secret to sign tokens with yet; try again")
        if self._setting.kind == SIMPLE:
            return self._simple.issue(kid, user, revision, now_ms)
        key = self._signing
        if self._setting.is_shared:
            key = self._own_keys()[kid]
        if key is None:
            raise Conflict(
                "this member has no key to sign tokens with: --auth-token lacks priv-key"
            )
        life_s = self._setting.ttl_ms / 1000
        return issue(self._issuer(), key, user, revision, now_ms / 1000, life_s, began_ms)

    async def be_ready(self) -> None:
        """See to it that there is something to sign tokens with."""
        shared = self._auth().token_keys
        if not self._setting.is_shared or not signing.is_due(shared, self._clock_ms()):
            return
        if self._sharing is None:
            self._sharing = asyncio.ensure_future(self._share_new())
        if not shared:
            await asyncio.shield(self._sharing)

    async def _share_new(self) -> None:
        try:
            await self._share(*signing.new_secret(self._clock_ms()))
        except Exception as error:
            if not self._auth().token_keys:
                raise
            logger.warning("no new secret for tokens could be shared: %s", error)
        finally:
            self._sharing = None

    def _own_keys(self) -> dict[str, TokenKey]:
        if not self._setting.is_shared:
            return self._keys
        shared = self._auth().token_keys
        if tuple(shared) != self._shared_names:
            from coordinator.credentials.keys import secret_key

            self._shared = {name: secret_key(secret, name) for name, secret in shared.items()}
            self._shared_names = tuple(shared)
        return self._shared

    def _issuer(self) -> Issuer:
        audience = self._config.jwt_audience or f"{self._cluster():016x}"
        return Issuer(self._config.jwt_issuer, audience, self._own_keys())

    def _outsider(self) -> Issuer:
        config = self._config
        return Issuer(
            config.oidc_issuer, config.oidc_audience, self._outside, config.oidc_user_claim
        )

    def key_set(self) -> dict[str, Any]:
        """Give the public keys that tokens are verified with, as a JSON Web Key Set."""
        return {"keys": [one.public for one in self._own_keys().values() if one.public is not None]}

    # ------------------------------------------------------------ passwords

    async def hashed(self, password: str, client: int, request: int) -> str:
        """Work out what is kept of a password.

        Args:
            password: The password.
            client: The client that asks; 0 if it has no id.
            request: Its request: a retry gets the same again.

        Raises:
            InvalidRequest: It is empty, or too long.
            Exhausted: Too many passwords wait already.
        """
        salt = b""
        if client:
            seed = client.to_bytes(8, "big") + request.to_bytes(8, "big", signed=True)
            salt = hashlib.blake2b(seed, digest_size=SALT_BYTES, person=b"password salt").digest()
        return await self.passwords.hashed(password, salt)

    # ------------------------------------------------------------ keys that change

    def tick(self) -> None:
        """Look now and then whether keys have changed where they come from; never blocks."""
        now_ms = self._clock_ms()
        if now_ms < self._refresh_ms or self._refreshing is not None:
            return
        if self._setting.is_shared and not self._config.oidc_issuer:
            self._refresh_ms = now_ms + REFRESH_MS
            return
        self._refreshing = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        pause_ms = REFRESH_MS
        try:
            await asyncio.to_thread(self._load)
            url = self._config.oidc_jwks_url
            if url:
                self._outside = await asyncio.to_thread(partial(fetch_key_set, url))
        except WrongKey as error:
            # What was good goes on being good: nobody is locked out by a file half written.
            logger.warning("keys of tokens stay as they were: %s", error)
            pause_ms = RETRY_MS
        finally:
            self._proofs.clear()
            self._refresh_ms = self._clock_ms() + pause_ms
            self._refreshing = None

    def _load(self) -> None:
        self._keys, self._signing = signing.load_keys(self._setting)
        file = self._config.oidc_jwks_file
        if file:
            try:
                self._outside = load_key_set(file)
            except WrongKey as error:
                raise WrongKey(f"--oidc-jwks-file {file}: {error}") from None

    def close(self) -> None:
        """Let go of threads and tasks."""
        self.passwords.close()
        for task in (self._refreshing, self._sharing):
            if task is not None:
                task.cancel()


def _now(proof: Proof, auth: AuthStore) -> Proof:
    return replace(proof, auth_revision=auth.revision)


def new_api_secret() -> str:
    """Choose the secret of an API key."""
    return secrets.token_urlsafe(32)


def api_key_text(key: int, secret: str) -> str:
    """Write an API key as its owner presents it."""
    return f"ck_{key:016x}_{secret}"
