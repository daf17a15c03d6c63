"""Where the cluster is reached, and how long to wait between attempts.

Pure: randomness is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .protocol.cluster import ClusterMembersResult

DEFAULT_ENDPOINT = "http://127.0.0.1:2379"
DEFAULT_PORT = 2379
_SECURE = {"http": False, "ws": False, "https": True, "wss": True}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of the cluster.

    Attributes:
        url: As shown to people.
        host: Name or address, without brackets.
        port: TCP port.
        secure: Whether it speaks TLS.
    """

    url: str
    host: str
    port: int
    secure: bool

    @property
    def authority(self) -> str:
        """Host and port as they stand in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """Read an endpoint.

    Args:
        url: ``http://host:port``, ``https://host:port`` or ``host:port``.

    Returns:
        The endpoint; the port defaults to 2379.

    Raises:
        ValueError: It is not an endpoint, or it contains credentials.
    """
    text = url.strip()
    if "://" not in text:
        text = "http://" + text
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError("an endpoint holds no credentials: pass auth= to the client")
    try:
        secure, host, port = _SECURE[parts.scheme], parts.hostname, parts.port
    except (KeyError, ValueError):
        host = None
    if not host or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(f"not an endpoint: {url!r}; it looks like {DEFAULT_ENDPOINT}")
    scheme = "https" if secure else "http"
    found = Endpoint("", host, port or DEFAULT_PORT, secure)
    return Endpoint(f"{scheme}://{found.authority}", found.host, found.port, secure)


class Rotation:
    """The order in which endpoints are tried: as given, then those the cluster told of."""

    def __init__(self, given: Iterable[Endpoint]) -> None:
        self.given = list(given)
        self._learned: list[Endpoint] = []
        self._at = 0

    @property
    def all(self) -> list[Endpoint]:
        """Every endpoint, the given ones first."""
        return self.given + self._learned

    def current(self) -> Endpoint:
        """The endpoint to try now."""
        everything = self.all
        return everything[self._at % len(everything)]

    def advance(self) -> bool:
        """Go on to the next endpoint; returns whether that begins a new round."""
        self._at = (self._at + 1) % len(self.all)
        return self._at == 0

    def learn(self, urls: Iterable[str]) -> None:
        """Take in what the cluster says about itself; never from TLS to plain text."""
        here = self.current()
        secure = all(endpoint.secure for endpoint in self.given)
        known = {endpoint.url for endpoint in self.given}
        learned: list[Endpoint] = []
        for url in urls:
            try:
                endpoint = parse_endpoint(url)
            except ValueError:
                continue
            if endpoint.secure == secure and endpoint.url not in known and len(learned) < 32:
                known.add(endpoint.url)
                learned.append(endpoint)
        if here.url not in known:
            learned.append(here)  # In use; whoever is told of the next time may leave it out.
        self._learned = learned
        self._at = self.all.index(here)


class Learning:
    """Takes the answer that lists the members, and hands their addresses to the rotation."""

    def __init__(self, rotation: Rotation) -> None:
        self._rotation = rotation

    def done(self) -> bool:
        """Never: it waits for its answer."""
        return False

    def cancelled(self) -> bool:
        """Never."""
        return False

    def set_result(self, result: ClusterMembersResult, /) -> None:
        """Take note of where the members are."""
        self._rotation.learn(url for member in result.members for url in member.client_urls)

    def set_exception(self, exception: BaseException, /) -> None:
        """Let be: the next greeting tells it."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How calls are tried again.

    A call that the cluster refuses because it cannot serve *now*, or whose connection breaks,
    is sent again; a change keeps its request id, so that it is applied at most once.

    Attributes:
        deadline: Seconds after which a call gives up; None for never.
        base: Seconds of the first pause, at most.
        cap: Seconds of the longest pause.
        jitter: Whether each pause is drawn between zero and its length, so that clients that
            lost the same member do not come back all at once.
    """

    deadline: float | None = 30.0
    base: float = 0.05
    cap: float = 5.0
    jitter: bool = True

    def pause(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds to wait before the next attempt.

        Args:
            attempt: How many attempts have failed so far, from 1 on.
            random: Gives a number from 0 to 1.
        """
        length = min(self.cap, self.base * 2.0 ** min(attempt - 1, 30))
        return length * random() if self.jitter else length
