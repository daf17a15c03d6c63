"""topic: create, publish, subscribe, list."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from coordinator.cli import kv, output, tables
from coordinator.cli.command import (
    BAD_ARGUMENTS,
    CommandError,
    Context,
    Nouns,
    seconds,
    whole,
)
from coordinator.cli.service import facts

if TYPE_CHECKING:
    from coordinator_sdk import TopicMessage


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("topic", "topics: durable publish and subscribe")
    create_flag = group.command(
        "create", create, "<topic>", "create a topic, or change what it keeps"
    ).add_argument
    create_flag("--max-age", type=seconds, help="how long to keep messages, such as 24h; 0: ever")
    create_flag("--max-messages", type=whole, help="how many to keep; 0: no limit")
    create_flag("--max-bytes", type=whole, help="how much to keep; 0: no limit")
    publish_flag = group.command(
        "publish", publish, "<topic> [payload]", "append a message; without payload, from stdin", 1
    ).add_argument
    publish_flag(
        "--header", action="append", default=[], metavar="NAME=VALUE", help="may be repeated"
    )
    summary = "print messages of the topics that match, as they come"
    subscribe_flag = group.command("subscribe", subscribe, "<pattern>", summary).add_argument
    subscribe_flag(
        "--start", default="latest", help="latest, earliest, or the first sequence wanted"
    )
    subscribe_flag("--after-revision", type=whole, help="begin after this revision instead")
    subscribe_flag("--count", type=whole, default=0, help="end after so many messages")
    subscribe_flag("--payload-only", action="store_true", help="print nothing but payloads")
    subscribe_flag("--name", default="", help="name of the subscription, for operators")
    listing = group.command("ls", list_all, "[pattern]", "list the topics that match")
    listing.set_defaults(formats=tables.FORMATS, reads_past=True)


async def create(context: Context) -> None:
    """Create a topic."""
    flags = context.flags
    topic = context.arguments(1, 1, "topic create takes a topic name")[0]
    async with context.client() as client:
        result = await client.topics.create(
            topic,
            max_age=flags.max_age,
            max_messages=flags.max_messages,
            max_bytes=flags.max_bytes,
        )
        if context.is_json:
            output.say_json(output.plain(result))
        else:
            word = "created" if result.changed else "is so already"
            output.say(f"topic {output.clean(topic)} {word}")


async def publish(context: Context) -> None:
    """Append a message."""
    args = context.arguments(1, 2, "topic publish takes a topic and a payload or standard input")
    headers = facts(context.flags.header)
    payload = kv.encode(args[1]) if len(args) > 1 else sys.stdin.buffer.read()
    async with context.client() as client:
        result = await client.topics.publish(args[0], payload, headers=headers)
        if context.is_json:
            output.say_json(output.plain(result))
        else:
            output.say(f"{result.sequence}")


def start_of(text: str, after_revision: int | None) -> dict[str, Any]:
    """Read where a subscription begins."""
    if after_revision is not None:
        return {"start": "revision", "position": after_revision}
    if text in ("latest", "earliest"):
        return {"start": text}
    if text.isascii() and text.isdigit() and int(text) < 1 << 63:
        return {"start": "sequence", "position": int(text)}
    raise CommandError(f"bad --start {text!r}: it is latest, earliest or a sequence", BAD_ARGUMENTS)


async def subscribe(context: Context) -> None:
    """Print messages as they come."""
    flags = context.flags
    pattern = context.arguments(1, 1, "topic subscribe takes a topic or pattern")[0]
    start = start_of(flags.start, flags.after_revision)
    left = flags.count
    async with context.client() as client:
        subscription = client.topics.subscribe(pattern, on_gap="continue", name=flags.name, **start)
        async with subscription:
            gaps = 0
            async for message in subscription:
                if len(subscription.gaps) > gaps:
                    gaps = len(subscription.gaps)
                    gap = subscription.gaps[-1]
                    output.tell(
                        f"{output.clean(gap.topic)}: retention removed messages before they "
                        f"came; going on with {gap.first_sequence}"
                    )
                _print(context, message)
                left -= 1
                if left == 0:
                    return


def _print(context: Context, message: TopicMessage) -> None:
    if context.is_json:
        output.say_json(output.plain(message))
        return
    payload = output.shown(message.payload, context.hex)
    if context.flags.payload_only:
        output.write(payload + b"\n")
    else:
        lead = f"{output.clean(message.topic)} {message.sequence} ".encode()
        output.write(lead + payload + b"\n")


async def list_all(context: Context) -> None:
    """List topics."""
    pattern = (context.arguments(0, 1, "topic ls takes at most a pattern") or [">"])[0]
    async with context.client() as client:
        topics = await client.topics.list(pattern, revision=context.revision)
        rows = [
            (one.topic, one.messages, one.first_sequence, one.last_sequence, one.bytes)
            + (_keeps(one.retention),)
            for one in topics
        ]
        titles = ("TOPIC", "MESSAGES", "FIRST", "LAST", "BYTES", "KEEPS")
        tables.show(context, titles, rows, topics)


def _keeps(retention: Any) -> str:
    parts = []
    if retention.max_age_ms:
        parts.append(output.span(retention.max_age_ms / 1000))
    if retention.max_messages:
        parts.append(f"{retention.max_messages} messages")
    if retention.max_bytes:
        parts.append(f"{retention.max_bytes} bytes")
    return ", ".join(parts) or "everything"
