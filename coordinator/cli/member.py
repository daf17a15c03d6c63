"""member: the members of the cluster, with etcdctl's output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.cli import output

if TYPE_CHECKING:
    from coordinator.cli.command import Context, Nouns


def add(nouns: Nouns) -> None:
    """Add the commands."""
    group = nouns.group("member", "members of the cluster")
    group.command("list", list_all, "", "list the members")


async def list_all(context: Context) -> None:
    """List the members."""
    context.arguments(0, 0, "member list takes no argument")
    async with context.client() as client:
        members = await client.cluster.members()
        if context.is_json:
            shown = [
                output.filled(
                    ID=one.member,
                    name=one.name,
                    peerURLs=one.peer_urls,
                    clientURLs=one.client_urls,
                    isLearner=one.is_learner,
                )
                for one in members
            ]
            head = await output.header(client)
            del head["revision"]  # as in etcd: members have none
            output.say_json({"header": head, "members": shown})
            return
        for one in members:
            started = "started" if one.name else "unstarted"
            learner = "true" if one.is_learner else "false"
            peers, clients = ",".join(one.peer_urls), ",".join(one.client_urls)
            name = output.clean(one.name)
            output.say(f"{one.member:x}, {started}, {name}, {peers}, {clients}, {learner}")
