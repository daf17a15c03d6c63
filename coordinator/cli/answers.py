"""Answers about keys in every format that etcdctl has for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.cli import fields, output

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordinator.cli.command import Context
    from coordinator.cli.output import Response
    from coordinator_sdk import Client

FORMATS = ("simple", "fields", "json", "protobuf")


async def show(context: Context, client: Client, response: Response) -> None:
    """Print the answer to a request about keys."""
    if context.write_out == "simple":
        output.write(output.response_lines(response, context.hex))
        return
    head = await output.header(client, response.revision)
    if context.is_json:
        output.say_json(output.response_json(response, head))
    elif context.write_out == "fields":
        output.say(*fields.response_lines(response, head))
    else:
        output.write(_encoded(response, head))


def _encoded(response: Response, head: Mapping[str, int]) -> bytes:
    """Give the answer as etcd's message."""
    # Making the message classes takes a while, and few ask for them.
    from coordinator.etcd import translate
    from coordinator_sdk.protocol.kv import DeleteResult, PutResult, RangeResult

    if isinstance(response, PutResult):
        made = translate.put_response(response)
    elif isinstance(response, RangeResult):
        made = translate.range_response(response)
    elif isinstance(response, DeleteResult):
        made = translate.delete_response(response)
    else:
        made = translate.txn_response(response)
    for name, value in head.items():
        setattr(made.header, name, value)
    encoded: bytes = made.SerializeToString()
    return encoded
