"""Keys of an outside issuer of tokens: read from a file, or fetched, off the hot path."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import msgspec

from coordinator.credentials.token_key import TokenKey, WrongKey

if TYPE_CHECKING:
    from email.message import Message

SET_BYTES_MAX: Final = 262_144
KEYS_MAX: Final = 64
FETCH_SECONDS: Final = 5.0


class _KeySet(msgspec.Struct):
    keys: list[dict[str, object]]


_decode = msgspec.json.Decoder(_KeySet).decode


def read_key_set(data: bytes) -> dict[str, TokenKey]:
    """Read a JSON Web Key Set; keys that are of no use here are left out.

    Raises:
        WrongKey: It is none, or none of its keys can be used.
    """
    from coordinator.credentials.keys import from_jwk

    try:
        found = _decode(data).keys
    except (ValueError, RecursionError):
        raise WrongKey("it must be a JSON Web Key Set") from None
    keys: dict[str, TokenKey] = {}
    for facts in found[:KEYS_MAX]:
        try:
            key = from_jwk(facts)
        except WrongKey:
            continue
        keys[key.kid] = key
    if not keys:
        raise WrongKey("it holds no key for RS256 or ES256 with a kid")
    return keys


def load_key_set(file: str) -> dict[str, TokenKey]:
    """Read a JSON Web Key Set from a file.

    Raises:
        WrongKey: It can't be read or used.
    """
    try:
        return read_key_set(Path(file).read_bytes()[: SET_BYTES_MAX + 1])
    except OSError as error:
        raise WrongKey(f"{error.strerror or error}") from None


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows nobody elsewhere."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        """Refuse."""


def fetch_key_set(url: str) -> dict[str, TokenKey]:
    """Fetch a JSON Web Key Set. Blocks; redirections are not followed.

    Raises:
        WrongKey: It can't be had or used.
    """
    opener = urllib.request.build_opener(_Stay)
    try:
        with opener.open(url, timeout=FETCH_SECONDS) as answer:
            return read_key_set(answer.read(SET_BYTES_MAX + 1))
    except (OSError, ValueError, urllib.error.URLError) as error:
        if isinstance(error, WrongKey):
            raise
        raise WrongKey(f"it could not be fetched: {type(error).__name__}") from None
