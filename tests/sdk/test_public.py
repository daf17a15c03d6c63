"""What users import, and what they never see."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from typing import Any

import pytest

import coordinator_sdk
from coordinator_sdk import TLS, ApiKey, Client, Password, Token, errors, sync

SECRET = "hunter2"
MODULES = [
    module.name for module in pkgutil.walk_packages(coordinator_sdk.__path__, "coordinator_sdk.")
]


def test_all_is_sorted_and_complete() -> None:
    """`__all__` is sorted, every name exists, and everything public is in it."""
    names = coordinator_sdk.__all__
    assert names == sorted(names)
    assert all(hasattr(coordinator_sdk, name) for name in names)
    public = {
        name
        for name, member in vars(coordinator_sdk).items()
        if not name.startswith("_")
        and not inspect.ismodule(member)
        and getattr(member, "__module__", "").startswith("coordinator_sdk")
    }
    assert public <= set(names)


def test_every_error_is_exported() -> None:
    """Every class of the error tree can be imported from the package."""
    missing = set(errors.__all__) - set(coordinator_sdk.__all__) - {"error_from_wire"}
    assert missing == set()


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported_alone(name: str) -> None:
    """Every module can be imported, and says what it is."""
    assert importlib.import_module(name).__doc__


def test_importing_does_nothing() -> None:
    """Importing the client starts no thread, opens no socket and loads no server."""
    code = (
        "import sys, threading, coordinator_sdk, coordinator_sdk.sync;"
        "assert threading.active_count() == 1;"
        "assert not {'coordinator', 'fastapi', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def public_members(owner: Any) -> list[tuple[str, Any]]:
    """The public functions, methods and properties of a class."""
    return [
        (f"{owner.__name__}.{name}", member)
        for name, member in inspect.getmembers(owner)
        if not name.startswith("_")
        and (inspect.isfunction(member) or isinstance(member, property))
        and (getattr(member, "__module__", None) or owner.__module__).startswith("coordinator_sdk")
    ]


def test_everything_public_is_documented() -> None:
    """Every public class, method and property has a docstring."""
    silent = []
    for name in coordinator_sdk.__all__:
        member = getattr(coordinator_sdk, name)
        if inspect.isclass(member):
            silent += [path for path, inner in public_members(member) if not inspect.getdoc(inner)]
            if not member.__doc__:
                silent.append(name)
    assert silent == []


@pytest.mark.parametrize(
    "credential",
    [
        Password("ada", SECRET),
        Token(SECRET),
        ApiKey(SECRET),
        TLS(ca="ca.pem", password=SECRET),
    ],
    ids=lambda credential: type(credential).__name__,
)
def test_secrets_stand_in_no_repr(credential: Any) -> None:
    """Neither credentials nor a client that has them show the secret."""
    keyword = "tls" if isinstance(credential, TLS) else "auth"
    plain = Client("https://db1", **{keyword: credential})
    without_await = sync.Client("https://db1", **{keyword: credential})
    for shown in (credential, plain, without_await):
        assert SECRET not in repr(shown)
        assert SECRET not in str(shown)
        assert SECRET not in f"{shown!r:>200}"
    assert type(credential).__name__ in repr(credential)
