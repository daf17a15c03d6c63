"""Passwords: how they are kept, and how one is compared without saying more than yes or no.

What is kept is ``scrypt$<log2 n>$<r>$<p>$<salt>$<hash>``. Hashing takes long on purpose. It runs in
a few threads of its own, and only so many wait for them, so that logins can take neither the
processor nor the memory away from everything else.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from coordinator_sdk.errors import Exhausted, InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

ResultT = TypeVar("ResultT")

COST_DEFAULT: Final = 15
"""log2 of the memory that one hash takes, in KiB: 32 MiB."""
BLOCK: Final = 8
PASSES: Final = 3
SALT_BYTES: Final = 16
HASH_BYTES: Final = 32
PASSWORD_BYTES_MAX: Final = 1024
THREADS: Final = 2
WAITING_MAX: Final = 256
"""Passwords that wait for a thread; more are refused."""
REMEMBERED_MAX: Final = 4096
"""Users whose password was right and is compared quickly the next time."""
_SCHEME: Final = "scrypt"


def hash_password(password: str, salt: bytes, cost: int = COST_DEFAULT) -> str:
    """Work out what is kept of a password. Takes long.

    Args:
        password: The password.
        salt: Random, or at least never used twice.
        cost: log2 of the memory it takes, in KiB.
    """
    made = _scrypt(password, salt, cost, BLOCK, PASSES)
    return f"{_SCHEME}${cost}${BLOCK}${PASSES}${_text(salt)}${_text(made)}"


def verify_password(password: str, kept: str) -> bool:
    """Tell whether a password is the one of which this was kept. Takes long.

    What is kept in a form that this release does not know fits no password.
    """
    try:
        scheme, cost, block, passes, salt, wanted = kept.split("$")
        if scheme != _SCHEME or not 1 <= int(cost) <= 20:
            return False
        made = _scrypt(password, b64decode(salt), int(cost), int(block), int(passes))
        return hmac.compare_digest(made, b64decode(wanted))
    except (ValueError, MemoryError):
        return False


def check_password(password: str) -> None:
    """Refuse a password that nobody can have.

    Raises:
        InvalidRequest: It is empty, or too long.
    """
    if not password:
        raise InvalidRequest("password: must not be empty", field="password")
    if len(password.encode("utf-8", "surrogatepass")) > PASSWORD_BYTES_MAX:
        raise InvalidRequest(f"password: at most {PASSWORD_BYTES_MAX} bytes", field="password")


def _scrypt(password: str, salt: bytes, cost: int, block: int, passes: int) -> bytes:
    n = 1 << cost
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"),
        salt=salt,
        n=n,
        r=block,
        p=passes,
        maxmem=128 * block * (n + passes + 2) + (1 << 20),
        dklen=HASH_BYTES,
    )


def _text(data: bytes) -> str:
    return b64encode(data).decode()


class Passwords:
    """Hashes and compares passwords off the event loop.

    Args:
        cost: As for `hash_password`.
    """

    def __init__(self, cost: int = COST_DEFAULT) -> None:
        self._cost = cost
        self._threads: ThreadPoolExecutor | None = None
        self._waiting = 0
        self._secret = secrets.token_bytes(32)
        # Compared with when there is no such user, so that it takes as long as a wrong password.
        self._nobody = f"{_SCHEME}${cost}${BLOCK}${PASSES}${'A' * 22}==${'A' * 43}="
        self._right: dict[str, tuple[str, bytes]] = {}

    async def hashed(self, password: str, salt: bytes = b"") -> str:
        """Work out what is kept of a password.

        Args:
            password: The password.
            salt: Where a retry must give the same; random by default.

        Raises:
            InvalidRequest: It is empty, or too long.
            Exhausted: Too many passwords wait already.
        """
        check_password(password)
        return await self._run(
            hash_password, password, salt or secrets.token_bytes(SALT_BYTES), self._cost
        )

    async def fits(self, user: str, password: str, kept: str) -> bool:
        """Tell whether a password is right.

        Takes as long for a user that does not exist, ``kept`` being empty, as for a wrong password,
        and for a user of whom something is kept that this release can't read.
        A password that was right is compared quickly the next time: what is remembered of it is
        keyed with a secret of this process, and forgotten when the password changes.

        Raises:
            Exhausted: Too many passwords wait already.
        """
        if len(password) > PASSWORD_BYTES_MAX:
            return False
        told = password.encode("utf-8", "surrogatepass") + b"\0" + kept.encode()
        quick = hmac.digest(self._secret, told, "sha256")
        known = self._right.get(user)
        if known is not None and known[0] == kept and hmac.compare_digest(known[1], quick):
            return True
        is_known = kept.startswith(f"{_SCHEME}$")
        is_right = await self._run(verify_password, password, kept if is_known else self._nobody)
        if not is_right or not is_known:
            return False
        if len(self._right) >= REMEMBERED_MAX:
            self._right.clear()
        self._right[user] = (kept, quick)
        return True

    async def _run(self, work: Callable[..., ResultT], *arguments: object) -> ResultT:
        if self._waiting >= WAITING_MAX:
            raise Exhausted("too many logins at a time; try again later", limit="logins")
        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "passwords")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, partial(work, *arguments))
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let go of the threads."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None
