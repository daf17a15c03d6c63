"""Who coordctl is and whom it trusts: the flags of etcdctl, the environment, the prompt."""

from __future__ import annotations

import contextlib
import os
import sys
import termios
from argparse import SUPPRESS
from typing import TYPE_CHECKING, Any, TextIO

from coordinator_sdk import TLS, ApiKey, InvalidRequest, Password, Token, Unauthenticated
from coordinator_sdk.protocol.auth import AUTH_FAILED, INVALID_TOKEN

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping

    from coordinator_sdk.credentials import Credential

PREFIXES = ("COORDCTL_", "COORDINATOR_", "ETCDCTL_")
SECRETS = frozenset(("user", "password", "token", "api_key", "new_user_password"))
"""Flags whose values are never repeated."""
_FLAGS = {"tls.ca": "--cacert", "tls.cert": "--cert", "tls.key": "--key"}
_IN_FLAGS = (
    ("pass tls=TLS(cert=..., key=...)", "give --cert and --key"),
    (", tls=TLS(cert=..., key=...)", ", --cert and --key"),
    (", given as tls=TLS(cert=...)", ", given as --cert"),
    (" as tls=TLS(ca=...)", " as --cacert"),
    (", or pass tls=TLS(server_name=...)", ""),
)
"""What the SDK advises, and how it is done here."""
_ON = ("true", "1", "t")


def add_flags(add: Callable[..., None]) -> None:
    """Add the flags that every command takes.

    Args:
        add: Adds one.
    """
    add("--cacert", metavar="FILE", help="certificates to trust")
    add("--cert", metavar="FILE", help="certificate to show")
    add("--key", metavar="FILE", help="its private key")
    add("--insecure-skip-tls-verify", action="store_true", help="trust every certificate")
    add("--insecure-transport", action="store_true", help="=false: endpoints are https://")
    add("--no-insecure-transport", dest="insecure_transport", action="store_false", help=SUPPRESS)
    add("--user", metavar="NAME[:PASSWORD]", help="who you are; asks for the password")
    add("--password", metavar="TEXT", help="of --user; others may see it in the process list")
    add("--token", metavar="TOKEN", help="a bearer token in place of --user")
    add("--api-key", metavar="KEY", help="an API key in place of --user")


class Settings:
    """What the command line and the environment say about a name, in this order."""

    def __init__(self, found: argparse.Namespace, environment: Mapping[str, str]) -> None:
        self._found = found
        self._environment = environment

    def flag(self, name: str) -> Any:
        """Give what the command line says; None for nothing."""
        return getattr(self._found, name, None)

    def text(self, name: str) -> str:
        """Give a text; empty if nobody says anything."""
        if (given := self.flag(name)) is not None:
            return str(given)
        return next(filter(None, (self.variable(prefix, name) for prefix in PREFIXES)), "")

    def switch(self, name: str, default: bool) -> bool:
        """Give a switch."""
        if (given := self.flag(name)) is not None:
            return bool(given)
        text = self.text(name)
        return text.lower() in _ON if text else default

    def variable(self, prefix: str, name: str) -> str:
        """Give a variable of the environment."""
        return self._environment.get(f"{prefix}{name.upper()}", "")


def tls_of(settings: Settings) -> TLS | None:
    """Give what is said about TLS; None for nothing.

    Raises:
        InvalidRequest: There is a key without a certificate.
    """
    ca, cert, key = (settings.text(name) or None for name in ("cacert", "cert", "key"))
    skips = settings.switch("insecure_skip_tls_verify", False)
    if key and not cert:
        raise InvalidRequest("--key: goes with --cert", field="tls.key")
    return TLS(ca, cert, key, verify=not skips) if ca or cert or skips else None


def credential_of(settings: Settings) -> tuple[Credential | None, str]:
    """Give who coordctl is.

    Returns:
        The credential, or None; and the user whose password has to be asked for, or nothing.

    Raises:
        InvalidRequest: More than one is given.
    """
    kinds = ("api_key", "token", "user")
    given = [kind for kind in kinds if settings.flag(kind)]
    if len(given) > 1:
        raise InvalidRequest("--user, --token and --api-key exclude each other", field="user")
    if given:
        return _made(settings, given[0], settings.flag(given[0]))
    for prefix in PREFIXES:
        for kind in kinds:
            if value := settings.variable(prefix, kind):
                return _made(settings, kind, value)
    return None, ""


def _made(settings: Settings, kind: str, value: str) -> tuple[Credential | None, str]:
    if kind == "api_key":
        return ApiKey(value), ""
    if kind == "token":
        return Token(value), ""
    if password := settings.flag("password"):
        return Password(value, password), ""
    user, colon, password = value.partition(":")
    if not colon and not (password := settings.text("password")):
        return None, user
    return Password(user, password), ""


def https(endpoints: str, default: str) -> str:
    """Give endpoints without a scheme one of TLS."""
    urls = [url.strip() for url in (endpoints or default).split(",")]
    return ",".join(url if "://" in url or not url else f"https://{url}" for url in urls)


# ---------------------------------------------------------------- the prompt


def ask(prompt: str, out: TextIO | None = None) -> str:
    """Ask for a secret: a line of standard input, which a terminal does not show.

    Args:
        prompt: The question.
        out: Where it is asked; standard output unless given.

    Raises:
        InvalidRequest: The answer is no text.
    """
    out = sys.stdout if out is None else out
    with _unseen(0):  # before the question: whoever answers it at once is not to be shown
        out.write(prompt)
        out.flush()
        try:
            return read_line()
        finally:
            out.write("\n")
            out.flush()


def read_line() -> str:
    """Read one line of standard input, and not a byte beyond it: the rest is the command's.

    Raises:
        InvalidRequest: It is no text.
    """
    line = bytearray()
    while (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError:
        raise InvalidRequest("password: is not UTF-8", field="password") from None


@contextlib.contextmanager
def _unseen(descriptor: int) -> Iterator[None]:
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    silent = list(before)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    try:
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)


# ---------------------------------------------------------------- refusals


def words_of(error: Exception) -> str:
    """Give an error in the words of the command line; a refused login in etcd's."""
    if isinstance(error, Unauthenticated) and error.details.get("reply"):
        return str(error.details["reply"])
    if isinstance(error, InvalidRequest) and (flag := _FLAGS.get(error.details.get("field", ""))):
        return str(error).replace(error.details["field"], flag, 1)
    text = str(error) or type(error).__name__
    for advice, flags in _IN_FLAGS:
        text = text.replace(advice, flags)
    return text


def is_refused_login(error: Exception) -> bool:
    """Whether a credential was wrong, as opposed to missing."""
    return isinstance(error, Unauthenticated) and error.details.get("reply") in (
        AUTH_FAILED,
        INVALID_TOKEN,
    )


def is_bad_file(error: Exception) -> bool:
    """Whether one of the files for TLS is not what it should be."""
    return isinstance(error, InvalidRequest) and error.details.get("field", "") in _FLAGS


def hint(error: Exception) -> str:
    """Say what mends a refusal, for people at a terminal; nothing for most."""
    if isinstance(error, Unauthenticated) and not is_refused_login(error):
        return (
            "authentication is on: say who you are with --user NAME, or with COORDCTL_USER, "
            "COORDCTL_TOKEN or COORDCTL_API_KEY in the environment"
        )
    return ""
