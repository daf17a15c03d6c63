"""The network between members in one process: links in memory, with faults made from outside.

Every member's `MemoryNetwork` hangs on one `MemorySwitchboard`. All time is that of the event loop
and all chance comes from the generator given to the switchboard, so on a loop with virtual time a
run can be repeated exactly. What a network calls back runs in the context in which it was
started: a simulator that stops or ends what belongs to a context stops its links as well.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from coordinator.transport.errors import CannotListen, PeerRefused, PeerUnreachable
from coordinator.transport.greeting import anonymous, answer, problem_of_answer, problem_of_caller
from coordinator.transport.memory_link import Link
from coordinator.transport.memory_stream import Stream, ask
from coordinator.transport.ports import PeerHandler, PeerHello, Purpose

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Mapping

DIAL_SECONDS: Final = 0.25
"""How long a dial waits for an answer."""
REDIAL_SECONDS: Final = 0.05
"""Pause after a dial that failed, about."""
SILENCE_SECONDS: Final = 2.0
"""How long something may stay undelivered before the connection counts as broken."""

Fate = Callable[[str, str, bytes], Sequence[tuple[float | None, bytes]] | None]


class MemorySwitchboard:
    """What lies between the members.

    Args:
        rng: Where chance comes from.
        latency: Gives the seconds that a frame takes from one place to another; asked for each
            frame. A link keeps its frames in order all the same.

    Attributes:
        fate: Decides about single frames, given (source, target, frame): None lets a frame take
            its place in the link. Otherwise the frames that it gives take its place: each arrives
            after some seconds, past all others, or, for None, in its turn. No real link does such
            a thing, but what lies above has to be safe even then.
        silence_seconds: How long something may stay undelivered before its connection breaks.
    """

    def __init__(
        self,
        rng: random.Random,
        latency: Callable[[str, str], float] = lambda source, target: 0.0,
    ) -> None:
        self.rng = rng
        self.latency = latency
        self.fate: Fate | None = None
        self.silence_seconds = SILENCE_SECONDS
        self._places: dict[str, str] = {}
        self._listening: dict[str, MemoryNetwork] = {}
        self._dark: dict[str, None] = {}
        self._cut: dict[tuple[str, str], None] = {}
        self._links: dict[Link, None] = {}

    def open(self, place: str, urls: Sequence[str]) -> MemoryNetwork:
        """Give a member its network; to be called where everything of this member runs.

        Args:
            place: The machine it runs on; faults are told by it.
            urls: The peer URLs under which others reach it.
        """
        self._places.update(dict.fromkeys(urls, place))
        if place in self._dark:
            # The machine is up again, and knows nothing of the connections it had.
            del self._dark[place]
            for link in list(self._links):
                if link.target.place == place:
                    link.break_off(is_target_told=False)
        return MemoryNetwork(self, place, tuple(urls))

    # Faults.

    def cut(self, source: str, target: str) -> None:
        """Let nothing through in one direction; only the silence tells of it."""
        self._cut[source, target] = None

    def mend(self, source: str, target: str) -> None:
        """Let everything through again; what waits in a link that still holds arrives late."""
        self._cut.pop((source, target), None)
        self._resume()

    def mend_all(self) -> None:
        """Undo every cut."""
        self._cut.clear()
        self._resume()

    def break_link(self, source: str, target: str) -> bool:
        """Break the link from one place to another, as a reset does; what is on its way is lost.

        Returns:
            Whether there was one.
        """
        found = [link for link in self._links if link.places == (source, target)]
        for link in found:
            link.break_off(is_target_told=True)
        return bool(found)

    def end(self, network: MemoryNetwork, *, is_silent: bool = False) -> None:
        """Let a member's process die: its end of every connection is gone.

        Args:
            network: That of the member.
            is_silent: The whole machine is gone and tells nobody: until another network is opened
                in its place, whoever dials it gets no answer, not even a refusal.
        """
        network.is_over = True
        for url in network.urls:
            if self._listening.get(url) is network:
                del self._listening[url]
        if is_silent:
            self._dark[network.place] = None
        for link in list(self._links):
            if link.source is network:
                link.source_ended(is_silent=is_silent)
            elif link.target is network and not is_silent:
                link.break_off(is_target_told=False)
        for stream in list(network.streams):
            stream.end_of(network, is_silent=is_silent)

    # For networks and links.

    def is_open(self, source: str, target: str) -> bool:
        """Whether what is sent from one place reaches another."""
        return (source, target) not in self._cut and target not in self._dark

    def listen(self, network: MemoryNetwork) -> None:
        """Have a network answer at its URLs.

        Raises:
            CannotListen: One of them is in use.
        """
        for url in network.urls:
            if url in self._listening:
                raise CannotListen(f"{url} is in use")
        self._listening.update(dict.fromkeys(network.urls, network))

    def reach(self, source: str, url: str) -> tuple[bool, MemoryNetwork | None]:
        """Tell whether there is a way to a URL and back, and who listens there."""
        place = self._places.get(url)
        if place is None:
            return True, None
        is_open = self.is_open(source, place) and self.is_open(place, source)
        return is_open, self._listening.get(url)

    def draw(self, seconds: float) -> float:
        """Give a pause of about that length."""
        return seconds * (0.5 + self.rng.random())

    def note(self, link: Link) -> None:
        """Take note of a link that has been accepted."""
        self._links[link] = None

    def forget(self, link: Link) -> None:
        """Take note that a link is gone."""
        self._links.pop(link, None)

    def _resume(self) -> None:
        for link in list(self._links):
            link.resume()


class MemoryNetwork:
    """The links of one member; see `PeerNetwork`. Made by `MemorySwitchboard.open`.

    Attributes:
        place: The machine the member runs on.
        urls: Where it listens.
        is_over: Its process has ended.
        context: In which everything of this member runs.
        streams: Snapshots that come and go.
    """

    def __init__(self, switchboard: MemorySwitchboard, place: str, urls: tuple[str, ...]) -> None:
        self.switchboard = switchboard
        self.place = place
        self.urls = urls
        self.is_over = False
        self.handler: PeerHandler
        self.context = contextvars.copy_context()
        self.streams: dict[Stream, None] = {}
        self.loop = asyncio.get_running_loop()
        self._is_started = False
        self._peers: dict[int, tuple[str, ...]] = {}
        self._outgoing: dict[int, Link] = {}
        self._incoming: dict[int, Link] = {}
        self._attempts: dict[int, int] = {}
        self._attempt = 0
        self._refusals: dict[int, str] = {}

    async def start(self, handler: PeerHandler, *, listens: bool = True) -> None:
        """See `PeerNetwork.start`."""
        self.handler = handler
        self.switchboard.listen(self)
        self._is_started = True
        for member in self._peers:
            self._dial(member)

    def set_peers(self, peers: Mapping[int, Sequence[str]]) -> None:
        """See `PeerNetwork.set_peers`."""
        before, self._peers = self._peers, {peer: tuple(urls) for peer, urls in peers.items()}
        for member in before:
            if member not in self._peers:
                self._attempts.pop(member, None)
                link = self._outgoing.pop(member, None)
                if link is not None:
                    link.source_ended(is_silent=False)
        if self._is_started and not self.is_over:
            for member in self._peers:
                if member not in before:
                    self._dial(member)

    def send(self, member: int, frame: bytes) -> bool:
        """See `PeerNetwork.send`."""
        link = self._outgoing.get(member)
        if link is None or self.is_over:
            return False
        return link.send(frame)

    def is_linked(self, member: int) -> bool:
        """See `PeerNetwork.is_linked`."""
        return member in self._outgoing

    async def send_snapshot(self, member: int, head: bytes, chunks: AsyncIterator[bytes]) -> None:
        """See `PeerNetwork.send_snapshot`."""
        urls = self._peers.get(member, ())
        for url in urls:
            is_open, target = self.switchboard.reach(self.place, url)
            if is_open and target is not None:
                break
        else:
            await self.pass_time(DIAL_SECONDS)
            raise PeerUnreachable(f"member {member:016x} does not answer")
        stream = Stream(self, target)
        await stream.send(self.greeting(Purpose.SNAPSHOT, member), head, chunks)

    async def inquire(self, url: str) -> bytes:
        """See `PeerNetwork.inquire`."""
        is_open, target = self.switchboard.reach(self.place, url)
        if not is_open or target is None:
            await self.pass_time(DIAL_SECONDS if not is_open else 0.0)
            raise PeerUnreachable(f"nobody answers at {url}")
        hello = anonymous(Purpose.INQUIRY)

        def describe() -> bytes:
            refusal = target.check_caller(hello)
            if refusal:
                raise PeerRefused(refusal)
            return target.handler.describe()

        return await ask(self, target, describe)

    async def close(self) -> None:
        """See `PeerNetwork.close`."""
        self._attempts.clear()
        self.switchboard.end(self)

    # Between networks.

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, at least until others have had their turn."""
        await asyncio.sleep(seconds)

    def post(self, target: MemoryNetwork, call: Callable[..., Any], *args: Any) -> bool:
        """Have something called at another member once it has got there.

        Returns:
            False if there is no way there: it is lost.
        """
        if not self.switchboard.is_open(self.place, target.place):
            return False
        delay = self.switchboard.latency(self.place, target.place)
        self.loop.call_later(delay, target.run, call, *args, context=target.context)
        return True

    def run(self, call: Callable[..., Any], *args: Any) -> None:
        """Call something unless the process has ended meanwhile."""
        if not self.is_over:
            call(*args)

    def later(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        """Call something in a while, unless the process has ended by then."""
        self.loop.call_later(seconds, self.run, call, *args, context=self.context)

    def greeting(self, purpose: Purpose, target: int) -> PeerHello:
        """Give our hello for a connection that we dial."""
        return msgspec.structs.replace(
            self.handler.hello(), purpose=purpose, target=target, refusal=""
        )

    def check_caller(self, hello: PeerHello) -> str:
        """Tell why whoever dials us is refused, or nothing."""
        problem = problem_of_caller(hello, self.handler.hello())
        if problem or hello.purpose == Purpose.INQUIRY:
            return problem
        return self.handler.admit(hello)

    # Dialling.

    def _dial(self, member: int) -> None:
        urls = self._peers.get(member)
        if urls is None or member in self._outgoing:
            return
        self._attempt += 1
        self._attempts[member] = attempt = self._attempt
        is_open, target = self.switchboard.reach(self.place, urls[attempt % len(urls)])
        if not is_open:
            self.later(DIAL_SECONDS, self._dialled_in_vain, member, attempt)
        elif target is None:
            self.later(0.0, self._dialled_in_vain, member, attempt)
        else:
            hello = self.greeting(Purpose.LINK, member)
            self.post(target, target.accept, self, hello, member, attempt)
            self.later(DIAL_SECONDS, self._dialled_in_vain, member, attempt)

    def _dialled_in_vain(self, member: int, attempt: int) -> None:
        if self._attempts.get(member) == attempt and member not in self._outgoing:
            self._attempts[member] = 0
            self.later(self.switchboard.draw(REDIAL_SECONDS), self._dial_again, member)

    def _dial_again(self, member: int) -> None:
        if self._attempts.get(member) == 0:
            self._dial(member)

    def accept(self, dialler: MemoryNetwork, hello: PeerHello, member: int, attempt: int) -> None:
        """Take a link that another member has dialled."""
        refusal = self.check_caller(hello)
        link = Link(dialler, self, hello.member, member, hello.incarnation)
        if not refusal:
            old = self._incoming.get(hello.member)
            self._incoming[hello.member] = link
            self.switchboard.note(link)
            if old is not None:
                old.replace()
                if old.incarnation != hello.incarnation:
                    self._seen_dead(old)
        told = answer(self.handler.hello(), hello, refusal)
        self.post(dialler, dialler.answered, link, told, attempt)

    def answered(self, link: Link, told: PeerHello, attempt: int) -> None:
        """Learn whether the other member takes our link."""
        member = link.member
        if self._attempts.get(member) != attempt or member in self._outgoing:
            link.source_ended(is_silent=False)
            return
        if link.is_broken:
            self._dialled_in_vain(member, attempt)
            return
        refusal = told.refusal or problem_of_answer(told, member) or self.handler.admit(told)
        if refusal:
            link.source_ended(is_silent=False)
            if self._refusals.get(member) != refusal:
                self._refusals[member] = refusal
                self.handler.refused(member, refusal)
            self._dialled_in_vain(member, attempt)
            return
        self._refusals.pop(member, None)
        self._outgoing[member] = link
        self.handler.linked(member)

    # The ends of links.

    def link_down(self, link: Link) -> None:
        """Learn that an outgoing link has broken."""
        if self._outgoing.get(link.member) is link:
            del self._outgoing[link.member]
            self.handler.unreachable(link.member)
            self._dial(link.member)

    def link_ended(self, link: Link) -> None:
        """Learn that an incoming link has ended; dial once to see whether the process lives."""
        member = link.origin
        if self._incoming.get(member) is not link:
            return
        del self._incoming[member]
        for url in self._peers.get(member, ()):
            is_open, target = self.switchboard.reach(self.place, url)
            if not is_open:
                return
            if target is not None:
                self.post(target, target.tell_incarnation, self, link)
                return
        if member in self._peers:
            delay = 2 * self.switchboard.latency(self.place, link.source.place)
            self.later(delay, self._seen_dead, link)

    def tell_incarnation(self, dialler: MemoryNetwork, link: Link) -> None:
        """Answer somebody who wants to know whether this process is still the same."""
        incarnation = self.handler.hello().incarnation
        if incarnation != link.incarnation:
            self.post(dialler, dialler._seen_dead, link)

    def _seen_dead(self, link: Link) -> None:
        if link.origin in self._peers:
            self.handler.deserted(link.origin)
