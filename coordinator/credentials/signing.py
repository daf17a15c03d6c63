"""What this member signs tokens with, and believes them by: the settings' keys, or the members'."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from coordinator.credentials.token_key import TokenKey, WrongKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.config.tokens import TokenSetting

SECRET_BYTES: Final = 32
FRESH_MS: Final = 60_000
"""A shared secret signs only once every member has surely heard of it, if there is an older one."""
ROTATION_MS: Final = 30 * 86_400_000
"""Age at which a shared secret is followed by another; the former ones still verify."""


def load_keys(setting: TokenSetting) -> tuple[dict[str, TokenKey], TokenKey | None]:
    """Read the keys that a setting names.

    Returns:
        Those that verify by their names, and the one that signs; None if none does.

    Raises:
        WrongKey: One can't be used; names its file.
    """
    keys: dict[str, TokenKey] = {}
    signing: TokenKey | None = None
    for file in setting.files:
        from coordinator.credentials import keys as read

        try:
            data = Path(file).read_bytes()
            if setting.sign_method == "HS256":
                key = read.secret_key(data.strip())
            elif file == setting.priv_key:
                key = read.private_key(data, setting.sign_method)
            else:
                key = read.public_key(data, setting.sign_method)
        except OSError as error:
            raise WrongKey(f"--auth-token {file}: {error.strerror or error}") from None
        except WrongKey as error:
            raise WrongKey(f"--auth-token {file}: {error}") from None
        if key.signing is not None and (file == setting.priv_key or not setting.priv_key):
            signing = signing or key
        if key.kid not in keys or key.signing is not None:
            keys[key.kid] = key
    return keys, signing


def new_secret(now_ms: int) -> tuple[str, bytes]:
    """Choose a secret to share; its name tells when it was made."""
    return f"{now_ms:012x}-{secrets.token_hex(4)}", secrets.token_bytes(SECRET_BYTES)


def made_ms(name: str) -> int:
    """Tell when a shared secret was made: Unix time."""
    try:
        return int(name.partition("-")[0], 16)
    except ValueError:
        return 0


def choose_secret(shared: Mapping[str, bytes], now_ms: int) -> str:
    """Give the name of the shared secret to sign with; empty if there is none."""
    names = sorted(shared, key=made_ms)
    known = [name for name in names if made_ms(name) <= now_ms - FRESH_MS]
    return known[-1] if known else names[0] if names else ""


def is_due(shared: Mapping[str, bytes], now_ms: int) -> bool:
    """Tell whether another secret is to be shared."""
    return not shared or max(map(made_ms, shared)) <= now_ms - ROTATION_MS
