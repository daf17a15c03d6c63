"""Who may talk to the member at all: host names and web pages.

A web page that an operator has open can make the browser send requests anywhere. Two checks
keep it out: the ``Host`` must be an address or a known name, so that a foreign name that was
made to resolve to this machine (DNS rebinding) is refused; and an ``Origin``, which browsers
add to WebSockets and to requests that change something, must be that same host, with the scheme
that it is reached by here, another member of the cluster (its dashboard goes on here when that
member is gone), or allowed. Where a proxy ends TLS, the origin of its pages has to be allowed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from coordinator.config import Config, parse_url
from coordinator_sdk.errors import InvalidRequest, NotApplied, PermissionDenied

_PORTS: Final = {"http": ":80", "https": ":443"}


def host_name(host: str) -> str:
    """Take the port and the brackets off a ``Host``."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def is_address(name: str) -> bool:
    """Tell whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_this_machine(address: str) -> bool:
    """Tell whether an address is a loopback address; what is none may be anybody's."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def is_same_host(origin: str, host: str) -> bool:
    """Tell whether a page of an origin comes from this very host, whatever its scheme."""
    scheme, _, rest = origin.strip().lower().partition("://")
    default = _PORTS.get(scheme)
    if default is None or not host:
        return False
    return rest.removesuffix(default) == host.strip().lower().removesuffix(default)


def is_same_origin(origin: str, host: str, *, is_tls: bool) -> bool:
    """Tell whether a page of an origin comes from this very host, by the scheme of a connection."""
    scheme = "https" if is_tls else "http"
    return origin.strip().lower().startswith(f"{scheme}://") and is_same_host(origin, host)


class Gate:
    """Knows the names of this member and the web pages that may use it.

    Args:
        config: Names the hosts and origins that are allowed.
        members: Gives the client URLs of the members.
    """

    def __init__(self, config: Config, members: Callable[[], Iterable[str]] = tuple) -> None:
        self._members = members
        urls = (*config.listen_client_urls, *config.advertise_client_urls)
        self._hosts = {"localhost", *(parse_url(url).host.lower() for url in urls)}
        self._hosts |= {host.lower() for host in config.allowed_hosts}
        self._origins = {origin.lower().rstrip("/") for origin in config.allowed_origins}

    def refusal(
        self,
        hosts: Sequence[str],
        origins: Sequence[str],
        *,
        is_tls: bool,
        needs_host: bool = True,
    ) -> NotApplied | None:
        """Say why a request is refused; None if it is not.

        Args:
            hosts: The values of its ``Host`` headers.
            origins: The values of its ``Origin`` headers, if they are to be checked.
            is_tls: Whether it came by TLS.
            needs_host: Whether there must be a host.
        """
        if len(hosts) > 1 or (needs_host and not hosts):
            return InvalidRequest("host: exactly one Host header is needed", field="host")
        host = hosts[0].strip().lower() if hosts else ""
        if hosts and not self._knows(host_name(host)):
            return PermissionDenied(
                f"host: {host[:200]!r} is no name of this member; --allowed-hosts adds names",
                field="host",
            )
        for origin in origins:
            if not self._trusts(origin.strip().lower(), host, is_tls=is_tls):
                return PermissionDenied(
                    f"origin: a page of {origin[:200]!r} may not use this member; "
                    "--allowed-origins adds origins",
                    field="origin",
                )
        return None

    def is_member(self, origin: str) -> bool:
        """Tell whether a page of an origin comes from a member of the cluster."""
        origin = origin.strip().lower()
        return any(origin == url.lower().rstrip("/") for url in self._members())

    def is_own(self, origin: str, host: str, *, is_tls: bool) -> bool:
        """Tell whether a page comes from this very host, which may use the cookie of the dashboard.

        With another scheme than the connection's it must be named by the settings or be the URL of
        a member: a proxy ends TLS then.
        """
        if is_same_origin(origin, host, is_tls=is_tls):
            return True
        is_named = origin.strip().lower() in self._origins or self.is_member(origin)
        return is_named and is_same_host(origin, host)

    def _knows(self, name: str) -> bool:
        # No page can make a browser send somebody else's address as the host.
        return name in self._hosts or "*" in self._hosts or is_address(name)

    def _trusts(self, origin: str, host: str, *, is_tls: bool) -> bool:
        if origin in self._origins or "*" in self._origins:
            return True
        if self.is_member(origin):
            return True
        return is_same_origin(origin, host, is_tls=is_tls)
