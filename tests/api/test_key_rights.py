"""Who may make an API key void."""

from __future__ import annotations

from pathlib import Path

from tests.api.users import KEYS, Guarded, guarded

_ADMIN = {"domain": {"action": "auth:admin"}}


async def _key(made: Guarded, user: str, role: str = "") -> tuple[str, str]:
    answer = await made.ask("POST", "/v1/api-keys", {"user": user, "role": role})
    assert answer.status == 201, answer.body
    return answer.json["key"], answer.json["secret"]


async def test_who_may_revoke_a_key(tmp_path: Path) -> None:
    """A limited key may be used to void itself and no other of its user's; who administers users
    voids everybody's keys but those of root."""
    async with guarded(tmp_path) as made:
        await made.add_user("ana", KEYS)
        await made.add_user("eve", _ADMIN)
        limited, secret = await _key(made, "ana", "ana")
        full, _ = await _key(made, "ana")
        roots, _ = await _key(made, "root")
        other, _ = await _key(made, "ana")
        eve = await made.token("eve")
        for key, token, status in (
            (full, secret, 403),
            (roots, secret, 403),
            (roots, eve, 403),
            (other, eve, 200),
            (limited, secret, 200),
            (limited, secret, 401),
            (full, await made.token("ana"), 200),
            (roots, made.root, 200),
        ):
            answer = await made.ask("DELETE", f"/v1/api-keys/{key}", token=token)
            assert answer.status == status, (key, status, answer.body)
