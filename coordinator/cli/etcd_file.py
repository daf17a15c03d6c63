"""The file that etcd's ``--config-file`` names: YAML, whose keys are the flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from coordinator.config import ConfigError

SECTIONS: Final = {"client-transport-security": "", "peer-transport-security": "peer-"}
"""Keys with keys of their own, and what begins the flags that those stand for."""
PLAIN_IN_SECTIONS: Final = frozenset(
    ("cipher-suites", "tls-min-version", "tls-max-version", "self-signed-cert-validity")
)
"""Flags of both ports, which have no form with ``peer-``."""
FILE_BYTES_MAX: Final = 1 << 20


def read_file(path: str) -> dict[str, str]:
    """Read a file of etcd's into flags and their values.

    Args:
        path: Where it is.

    Raises:
        ConfigError: It cannot be read, or is not written so.
    """
    try:
        data = Path(path).read_bytes()
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError([f"--config-file {path}: at most {FILE_BYTES_MAX} bytes"])
        content = yaml.safe_load(data)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError([f"--config-file {path}: {_in_one_line(error)}"]) from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError([f"--config-file {path}: settings are written as NAME: VALUE"])
    found: dict[str, str] = {}
    problems: list[str] = []
    for key, value in content.items():
        if key in SECTIONS and isinstance(value, dict):
            for name, one in value.items():
                prefix = "" if name in PLAIN_IN_SECTIONS else SECTIONS[key]
                _take(f"{prefix}{name}", one, found, problems)
        elif value is not None:
            _take(str(key), value, found, problems)
    if problems:
        raise ConfigError([f"--config-file {path}: {problem}" for problem in problems])
    return found


def _take(flag: str, value: Any, found: dict[str, str], problems: list[str]) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        found[flag] = str(value).lower()
    elif isinstance(value, str | int):
        found[flag] = str(value)
    elif isinstance(value, list) and all(isinstance(one, str | int) for one in value):
        found[flag] = ",".join(map(str, value))
    else:
        problems.append(f"{flag}: a text, number, list, true or false")


def _in_one_line(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return " ".join(str(error).split())
