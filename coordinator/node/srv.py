"""The first members of a cluster as DNS has them: SRV records, as with etcd."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from coordinator.config import ConfigError
from coordinator.node.dns import DnsFailed, Malformed, Resolver, Srv
from coordinator.node.initial_cluster import InitialCluster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordinator.config import Config

_log = logging.getLogger("coordinator.discovery")

SERVICES: Final = ("coordinator-server", "etcd-server")
"""In this order; the second one is asked for only if the first does not exist."""
RETRY_S: Final = 2.0


async def discover_srv(
    config: Config, resolver: Resolver | None = None, retry_s: float = RETRY_S
) -> InitialCluster:
    """Ask DNS for the first members, again and again until it answers.

    Only URLs and ids are the same on all members. This one has its own name, every other one
    its address for a name: DNS knows no others.

    Args:
        config: ``--discovery-srv``, ``--discovery-srv-name``, the name and the advertised URLs.
        resolver: Whom to ask; the name servers of this machine unless given.
        retry_s: Pause between two attempts, in seconds.

    Raises:
        ConfigError: There are no such records, or this member is not among them.
    """
    resolver = resolver or Resolver()
    told = ""
    while True:
        try:
            urls = await _member_urls(config, resolver)
            mine = await _own_urls(_advertised(config), urls)
            return _cluster(config, urls, mine)
        except Malformed as error:
            raise ConfigError([f"--discovery-srv {config.discovery_srv}: {error}"]) from None
        except (DnsFailed, socket.gaierror) as error:
            if str(error) != told:
                _log.warning("%s; trying on", error)
            told = str(error)
            await asyncio.sleep(retry_s)


async def _member_urls(config: Config, resolver: Resolver) -> list[str]:
    """Give the peer URLs of all members, sorted."""
    suffix = f"-{config.discovery_srv_name}" if config.discovery_srv_name else ""
    asked = []
    for service in SERVICES:
        found: list[str] = []
        for kind, scheme in ((f"{service}-ssl", "https"), (service, "http")):
            name = f"_{kind}{suffix}._tcp.{config.discovery_srv}"
            asked.append(name)
            found += [_url(scheme, record) for record in await resolver.srv(name)]
        if found:
            return sorted(dict.fromkeys(found))
    raise ConfigError(
        [f"--discovery-srv {config.discovery_srv}: there are no SRV records of {', '.join(asked)}"]
    )


def _url(scheme: str, record: Srv) -> str:
    return f"{scheme}://{record.target}:{record.port}"


async def _own_urls(advertised: Sequence[str], urls: Sequence[str]) -> list[str]:
    """Give those of the URLs that lead to this member: the same scheme, address and port."""
    own = [address for url in advertised for address in await _addresses(url)]
    return [url for url in urls if any(address in own for address in await _addresses(url))]


def _advertised(config: Config) -> tuple[str, ...]:
    return config.initial_advertise_peer_urls or config.listen_peer_urls


async def _addresses(url: str) -> list[tuple[str, str, int]]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise socket.gaierror(
            error.errno, f"{parts.hostname} has no address: {error.strerror}"
        ) from None
    return [(parts.scheme, str(place[0]), int(place[1])) for *_, place in found]


def _cluster(config: Config, urls: list[str], mine: list[str]) -> InitialCluster:
    if len(mine) != 1:
        own = ", ".join(_advertised(config))
        listed = ", ".join(urls)
        wrong = f"leads to {len(mine)} members of" if mine else "leads to no member of"
        raise ConfigError(
            [f"--initial-advertise-peer-urls {own}: {wrong} {config.discovery_srv}: {listed}"]
        )
    members = {config.name if url in mine else url.partition("://")[2]: (url,) for url in urls}
    cluster = InitialCluster.of(members, config.initial_cluster_token)
    return replace(cluster, has_names=False)
