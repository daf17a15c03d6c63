"""Values of settings as people write them: durations, sizes, numbers, URLs."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

HOUR_MS = 3_600_000


def duration_ms(text: str) -> int:
    """Read a duration such as ``100``, ``100ms``, ``1.5s``, ``5m`` or ``1h30m``, in ms.

    Raises:
        ValueError: It is none.
    """
    if re.fullmatch(r"[0-9]{1,15}", text):
        return int(text)
    if not re.fullmatch(r"([0-9]{1,12}(\.[0-9]{1,6})?(ms|s|m|h))+", text):
        raise ValueError("a duration is a number of ms, or such as 100ms, 1.5s, 5m, 1h30m")
    units = {"ms": 1, "s": 1000, "m": 60_000, "h": HOUR_MS}
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)", text)
    return sum(round(float(number) * units[unit]) for number, unit in parts)


def size_bytes(text: str) -> int:
    """Read a size such as ``1048576``, ``512MiB`` or ``2GiB``.

    Raises:
        ValueError: It is none.
    """
    match = re.fullmatch(r"([0-9]{1,18}) ?(B|KiB|MiB|GiB|TiB)?", text)
    if match is None:
        raise ValueError("a size is a number of bytes, or such as 512MiB, 2GiB")
    power = {None: 0, "B": 0, "KiB": 1, "MiB": 2, "GiB": 3, "TiB": 4}[match[2]]
    return int(match[1]) << (10 * power)


def count(text: str) -> int:
    """Read a number that is not negative.

    Raises:
        ValueError: It is none.
    """
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ValueError("a whole number that is not negative")
    return int(text)


def switch(text: str) -> bool:
    """Read true or false.

    Raises:
        ValueError: It is neither.
    """
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise ValueError("true or false")
    return words[text.lower()]


def names(text: str) -> tuple[str, ...]:
    """Read a list separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    scheme: str
    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_url(url: str) -> Address:
    """Take a listen or advertise URL apart.

    Raises:
        ValueError: It is not such a URL.
    """
    rule = "written as http://HOST:PORT or https://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(rule) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port is None:
        raise ValueError(rule)
    if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(f"{rule}, without path, user or query")
    return Address(parts.scheme, parts.hostname, port)
