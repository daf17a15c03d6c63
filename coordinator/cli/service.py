"""service: list, show, register and watch instances."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from coordinator.cli import output, tables
from coordinator.cli.child import Child
from coordinator.cli.command import (
    BAD_ARGUMENTS,
    CommandError,
    Context,
    Nouns,
    seconds,
    whole,
)
from coordinator_sdk.protocol.services import DRAINING, MAINTENANCE, PASSING, STATUSES

if TYPE_CHECKING:
    from coordinator_sdk import Instance

TITLES = ("INSTANCE", "ADDRESS", "STATUS", "SINCE", "ZONE", "VERSION", "WEIGHT", "TAGS")


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("service", "services: register instances, find them, follow them")
    for parser in (
        group.command("ls", list_all, "[prefix]", "list the services"),
        group.command("show", show, "<name>", "list the instances of a service, in any status"),
    ):
        parser.set_defaults(formats=tables.FORMATS, reads_past=True)
    for name, run, summary in (
        ("drain", drain, "take an instance out of traffic before it goes away"),
        ("maintenance", maintain, "take an instance out of traffic for a while"),
    ):
        parser = group.command(name, run, "<name> <instance>", summary)
        parser.add_argument("--reason", default="", help="why, for people")
        parser.add_argument("--off", action="store_true", help="give it traffic again")
    group.command("watch", watch, "[name]", "print every instance that comes, changes or goes")
    register_flags = group.command(
        "register",
        register,
        "<name> <address:port> [-- command [arguments]]",
        "register an instance until a signal, or for as long as a command runs",
        2,
    ).add_argument
    register_flags("--ttl", type=seconds, default=10.0, help="seconds it outlives this process")
    register_flags("--instance", default="", help="its id; the cluster gives one otherwise")
    register_flags("--tag", action="append", default=[], help="a label; may be repeated")
    register_flags(
        "--meta", action="append", default=[], metavar="NAME=VALUE", help="a fact; repeatable"
    )
    register_flags("--zone", default="", help="where it runs")
    register_flags("--service-version", default="", metavar="VERSION", help="of the software")
    register_flags("--weight", type=whole, default=1, help="its share of traffic")
    register_flags("--status", choices=STATUSES, default="passing", help="to begin with")


async def list_all(context: Context) -> None:
    """List the services."""
    prefix = (context.arguments(0, 1, "service ls takes at most a prefix") or [""])[0]
    async with context.client() as client:
        services = await client.services.list(prefix, revision=context.revision)
        rows = [
            (
                one.service,
                one.instances,
                ", ".join(f"{count} {status}" for status, count in sorted(one.statuses.items())),
            )
            for one in services
        ]
        tables.show(context, ("SERVICE", "INSTANCES", "STATUS"), rows, services)


async def show(context: Context) -> None:
    """List the instances of a service."""
    name = context.arguments(1, 1, "service show takes a service name")[0]
    async with context.client() as client:
        found = await client.services.discover(name, statuses=["*"], revision=context.revision)
        rows = [
            (one.instance, address(one), status(one), output.since(one.registered_ms), one.zone)
            + (one.version, one.weight, ",".join(one.tags))
            for one in found
        ]
        tables.show(context, TITLES, rows, found)


def address(instance: Instance) -> str:
    """Give address and port as they stand in a URL."""
    host = f"[{instance.address}]" if ":" in instance.address else instance.address
    return f"{host}:{instance.port}" if instance.port else host


def status(instance: Instance) -> str:
    """Give the status, and why."""
    why = f" ({instance.status_reason})" if instance.status_reason else ""
    return instance.status + why


def split_address(text: str) -> tuple[str, int]:
    """Read ``host:port``, ``[::1]:port`` or a host alone."""
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        return text.strip("[]"), 0
    if not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise CommandError(f"bad address {text!r}; it looks like 10.0.0.5:8080", BAD_ARGUMENTS)
    return host.strip("[]"), int(port)


def facts(pairs: list[str]) -> dict[str, str]:
    """Read ``name=value`` pairs."""
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise CommandError(f"bad pair {pair!r}; it looks like NAME=VALUE", BAD_ARGUMENTS)
        found[name] = value
    return found


async def register(context: Context) -> int | None:
    """Register an instance."""
    flags = context.flags
    complaint = "service register takes a name and an address:port"
    args = context.arguments(2, None if context.dashed == 2 else 2, complaint)
    host, port = split_address(args[1])
    metadata = facts(flags.meta)
    async with context.client() as client:
        registration = await client.services.register(
            args[0],
            address=host,
            port=port,
            ttl=flags.ttl,
            tags=flags.tag,
            metadata=metadata,
            zone=flags.zone,
            version=flags.service_version,
            weight=flags.weight,
            instance=flags.instance,
            status=flags.status,
        )
        async with registration:
            if context.is_json:
                output.say_json({"service": args[0], "instance": registration.instance})
            else:
                output.say(f"instance {output.clean(registration.instance)} registered")
            if len(args) > 2:
                child = await Child.start(
                    args[2:], {"COORD_SERVICE_INSTANCE": registration.instance}
                )
                return await child.wait_and_forward(context.signals)
            await context.signals.catch().get()
            if registration.status != DRAINING:
                await registration.drain()
    return None


async def drain(context: Context) -> None:
    """Take an instance out of traffic before it goes away."""
    await _set(context, "drain", DRAINING)


async def maintain(context: Context) -> None:
    """Take an instance out of traffic for a while."""
    if not (context.flags.reason or context.flags.off):
        raise CommandError("service maintenance needs --reason, which others see", BAD_ARGUMENTS)
    await _set(context, "maintenance", MAINTENANCE)


async def _set(context: Context, command: str, wanted: str) -> None:
    complaint = f"service {command} takes a service name and the id of an instance"
    name, instance = context.arguments(2, 2, complaint)
    wanted = PASSING if context.flags.off else wanted
    async with context.client() as client:
        result = await client.services.set_status(name, instance, wanted, context.flags.reason)
    if context.is_json:
        output.say_json(output.plain(result))
    else:
        output.say(f"instance {output.clean(instance)} is {wanted}")


async def watch(context: Context) -> None:
    """Print what becomes of instances."""
    name = (context.arguments(0, 1, "service watch takes at most a service name") or [""])[0]
    known: dict[tuple[str, str], Instance] = {}
    async with context.client() as client:
        async for found in client.services.watch(name, statuses=["*"]):
            now = {(one.service, one.instance): one for one in found}
            for key in sorted(known.keys() | now.keys()):
                _print_change(context, known.get(key), now.get(key))
            known = now
            await asyncio.sleep(0)


def _print_change(context: Context, before: Instance | None, after: Instance | None) -> None:
    if before == after:
        return
    one = after or before
    assert one is not None
    what = "DOWN" if after is None else "UP" if before is None else "CHANGE"
    if context.is_json:
        output.say_json({"event": what, "instance": output.plain(one)})
    else:
        line = f"{what:<6} {one.service}/{one.instance} {address(one)} {status(one)}"
        output.say(output.clean(line))
