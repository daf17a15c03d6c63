"""Passwords: what is kept of them, and that comparing them says nothing but yes or no."""

from __future__ import annotations

import asyncio

import pytest

from coordinator.credentials import passwords
from coordinator.credentials.passwords import Passwords, hash_password, verify_password
from coordinator_sdk.errors import Exhausted, InvalidRequest

COST = 10
SALT = bytes(range(16))


def test_what_is_kept() -> None:
    """What is kept tells cost and salt, fits the password and no other, and does not hold it."""
    kept = hash_password("hunter2", SALT, COST)
    assert kept.startswith("scrypt$10$8$3$")
    assert "hunter2" not in kept
    assert verify_password("hunter2", kept)
    assert not verify_password("hunter3", kept)
    assert hash_password("hunter2", SALT, COST) == kept
    assert hash_password("hunter2", SALT[::-1], COST) != kept


@pytest.mark.parametrize(
    "kept", ["", "hash", "bcrypt$1$2$3$a$b", "scrypt$99$8$1$AA==$AA==", "scrypt$x$8$1$$", "$" * 5]
)
def test_what_is_not_known_fits_nothing(kept: str) -> None:
    """What is kept in another form fits no password, and breaks nothing."""
    assert not verify_password("", kept)
    assert not verify_password("hash", kept)


async def test_the_same_work_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a user that does not exist the same function runs with the same cost, and says no."""
    seen = []

    def noted(password: str, salt: bytes, *cost: int) -> bytes:
        seen.append((len(salt), cost))
        return original(password, salt, *cost)

    original = passwords._scrypt
    monkeypatch.setattr(passwords, "_scrypt", noted)
    room = Passwords(COST)
    kept = await room.hashed("right")
    seen.clear()
    assert not await room.fits("ana", "wrong", kept)
    assert not await room.fits("nobody", "wrong", "")
    assert not await room.fits("imported", "wrong", "$2a$10$0123456789012345678901")
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]
    room.close()


async def test_a_right_password_is_quick_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that was right costs no hash again, until it changes; a wrong one always does."""
    room = Passwords(COST)
    kept, other = await room.hashed("right"), await room.hashed("right")
    assert await room.fits("ana", "right", kept)
    runs: list[tuple[str, ...]] = []

    def noted(*told: str) -> bool:
        runs.append(told)
        return False

    monkeypatch.setattr(passwords, "verify_password", noted)
    assert await room.fits("ana", "right", kept)
    assert not runs
    assert not await room.fits("ana", "wrong", kept)
    assert not await room.fits("ana", "right", other)
    assert not await room.fits("eve", "right", kept)
    assert len(runs) == 3
    assert "right" not in repr(room._right)
    room.close()


async def test_only_so_many_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logins beyond those that may wait are refused at once, and take neither thread nor memory."""
    monkeypatch.setattr(passwords, "WAITING_MAX", 2)
    room = Passwords(COST)
    tries = [asyncio.ensure_future(room.hashed("pw")) for _ in range(5)]
    done = await asyncio.gather(*tries, return_exceptions=True)
    assert [type(one) for one in done].count(Exhausted) == 3
    assert await room.hashed("pw")
    room.close()


async def test_passwords_that_nobody_can_have() -> None:
    """An empty and a very long password are refused, and never compared."""
    room = Passwords(COST)
    for password in ("", "x" * 1025):
        with pytest.raises(InvalidRequest):
            await room.hashed(password)
        assert not await room.fits("ana", password, hash_password("x", SALT, COST))
    assert verify_password("\ud800", await room.hashed("\ud800"))
    room.close()
