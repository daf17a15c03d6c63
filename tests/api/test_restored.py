"""What proves who somebody is, after a backup was restored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from coordinator.domains import DOMAINS
from coordinator.node.bootstrap import Origin
from coordinator.node.restore import restore_directory
from tests.api.member import few, running
from tests.api.users import COST, KEYS, PASSWORD, Guarded, guarded
from tests.credentials.keys import private_pem, rsa_key, written


@pytest.mark.parametrize("signed_by", ["the cluster", "a key of the settings"])
async def test_logins_end_with_a_restore(tmp_path: Path, signed_by: str) -> None:
    """Tokens from before are void, whoever signed them; passwords, roles and API keys hold."""
    settings: dict[str, Any] = {"jwt_audience": "ours", "password_cost": COST, "limits": few()}
    if signed_by != "the cluster":
        (tmp_path / "keys").mkdir()
        file = written(tmp_path / "keys", "key.pem", private_pem(rsa_key()))
        settings["auth_token"] = f"jwt,priv-key={file},sign-method=RS256"
    async with guarded(tmp_path / "old", **settings) as old:
        await old.add_user("ana", KEYS)
        tokens = {user: await old.token(user) for user in ("root", "ana")}
        made = await old.ask("POST", "/v1/api-keys", {"user": "ana"})
        key = made.json["secret"]
        assert (await old.ask("PUT", "/v1/kv/app/a", b"1", token=key)).status == 200
        await old.member.node.save_backup(tmp_path / "backup.db")
    target = str(tmp_path / "new")
    await restore_directory(str(tmp_path / "backup.db"), target, DOMAINS, Origin(1001, 2002))
    async with running(tmp_path / "new", **settings) as member:
        new = Guarded(member, "")
        for token in tokens.values():
            assert (await new.ask("GET", "/v1/kv/app/a", token=token)).status == 401
        for user in tokens:
            again = await new.token(user, PASSWORD)
            assert (await new.ask("GET", "/v1/kv/app/a", token=again)).status == 200
        assert (await new.ask("GET", "/v1/kv/app/a", token=key)).status == 200
