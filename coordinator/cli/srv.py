"""Endpoints from DNS: the SRV records of a domain tell where the members are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.cli.command import BAD_ARGUMENTS, CommandError
from coordinator.node.dns import DnsFailed, Malformed, Resolver

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICES = ("coordinator-client", "etcd-client")
"""In this order; the second one is asked for only if the first does not exist."""


async def endpoints_of(
    domain: str, name: str, *, is_insecure_taken: bool, resolver: Resolver | None = None
) -> Sequence[str]:
    """Ask DNS for the client URLs of a cluster.

    Args:
        domain: Where its SRV records are.
        name: Tells clusters of one domain apart; empty for none.
        is_insecure_taken: Whether records without TLS are followed.
        resolver: Whom to ask; the name servers of this machine unless given.

    Raises:
        CommandError: There are no such records, or DNS does not answer.
    """
    resolver = resolver or Resolver()
    suffix = f"-{name}" if name else ""
    kinds = [("-ssl", "https"), *([("", "http")] if is_insecure_taken else [])]
    try:
        for service in SERVICES:
            found = []
            for kind, scheme in kinds:
                records = await resolver.srv(f"_{service}{kind}{suffix}._tcp.{domain}")
                found += [f"{scheme}://{one.target}:{one.port}" for one in records]
            if found:
                return found
    except Malformed as error:
        raise CommandError(f"--discovery-srv: {domain!r}: {error}", BAD_ARGUMENTS) from None
    except DnsFailed as error:
        raise CommandError(f"--discovery-srv: {error}") from None
    asked = " or ".join(f"_{service}-ssl{suffix}._tcp.{domain}" for service in SERVICES)
    raise CommandError(f"--discovery-srv: there are no SRV records {asked}")
