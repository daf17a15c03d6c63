"""Saying who the client is: first on every new connection, and again on one that stands.

On a new connection the proof and the greeting share the first frame, so that neither costs a round
trip; nothing else is sent before both are answered.
"""

from __future__ import annotations

import asyncio
import platform
import random
from typing import TYPE_CHECKING, Any

from ._calls import Call, decoder
from ._clock import now
from ._identity import ANSWERS
from ._modes import BEAT
from ._version import __version__
from .errors import CoordinatorError, Unauthenticated
from .protocol.cluster import HelloResult
from .protocol.codec import MSGPACK

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._endpoints import RetryPolicy
    from ._identity import Proof, Prover
    from ._session import Session
    from ._websocket import WebSocket

AGENT = f"coordinator-sdk/{__version__} Python/{platform.python_version()}"
ANSWER_SECONDS_MAX = 10.0
"""How long an answer to a proof may take on a connection that stands."""


_HELLO = decoder(HelloResult)
_DECODERS = {proof: decoder(answer) for proof, answer in ANSWERS.items()}


class Proving:
    """Uses a `Prover` on the connections of one client.

    Args:
        prover: Knows what to say.
        session: The conversation.
        policy: How long to leave the cluster alone after a refusal.
        wake: Sees to it that what is queued is sent.
    """

    def __init__(
        self, prover: Prover, session: Session, policy: RetryPolicy, wake: Callable[[], None]
    ) -> None:
        self._prover = prover
        self._session = session
        self._policy = policy
        self._wake = wake
        self._task: asyncio.Task[None] | None = None
        self._failure: CoordinatorError | None = None
        self._failures, self._quiet_until = 0, 0.0
        session.unproven.is_wanted = prover.is_wanted
        session.unproven.advised = prover.advised

    async def introduce(self, socket: WebSocket, proof: Proof | None) -> HelloResult:
        """Exchange proof and greeting on a new connection.

        Raises:
            CoordinatorError: One of the two was refused.
        """
        prover = self._prover
        while True:
            proved, greeting = self._futures()
            sent_at, call = now(), None
            if proof is not None:
                call = Call(proof, _DECODERS[type(proof)], BEAT, proved)
            floor, batch = self._session.hello(greeting, _HELLO, AGENT, sent_at, call)
            socket.send(MSGPACK.encode_requests(floor, batch))
            try:
                if proof is None or await self._proved(proof, proved, sent_at):
                    return await greeting
            finally:
                proved.cancel()
                greeting.cancel()
            proof = await prover.proof(now())

    def _futures(self) -> tuple[asyncio.Future[Any], asyncio.Future[HelloResult]]:
        loop = asyncio.get_running_loop()
        proved: asyncio.Future[Any] = loop.create_future()
        greeting: asyncio.Future[HelloResult] = loop.create_future()
        for future in (proved, greeting):
            future.add_done_callback(_seen)
        return proved, greeting

    async def _proved(self, proof: Proof, proved: asyncio.Future[Any], sent_at: float) -> bool:
        """Wait for the answer; returns whether to go on, False to try with another proof."""
        try:
            result = await proved
        except CoordinatorError as error:
            if error.retryable or not self._prover.refused(proof, error):
                raise
            return self._prover.is_anonymous
        self._prover.accepted(proof, result, sent_at)
        self._failures, self._failure = 0, None
        return True

    def next_at(self) -> float | None:
        """When to look again; None for not by itself."""
        return self._prover.next_at() if self._task is None else None

    def look(self, at: float) -> None:
        """Prove again if it is time, or if the cluster asked for it."""
        unproven = self._session.unproven
        if self._task is not None or not (unproven.is_asked or self._prover.is_due(at)):
            return
        if unproven.is_asked and self._failure is not None and at < self._quiet_until:
            if isinstance(self._failure, Unauthenticated):
                self._session.proved(self._failure)
            return
        unproven.is_asked = False
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._again(), name="coordinator-proof")

    async def _again(self) -> None:
        prover, failure = self._prover, None
        try:
            proof = await prover.proof(now(), is_renewal=True)
            if proof is not None:
                proved, _ = self._futures()
                sent_at, decode = now(), _DECODERS[type(proof)]
                self._session.submit(Call(proof, decode, BEAT, proved, None, ANSWER_SECONDS_MAX))
                self._wake()
                await self._proved(proof, proved, sent_at)
        except CoordinatorError as error:
            failure = error
        self._task = None
        if failure is not None:
            self._failures += 1
            self._failure = failure
            self._quiet_until = now() + self._policy.pause(self._failures, random.random)
            prover.postpone(self._quiet_until, failure)
        if self._session.greeted:
            if failure is None or isinstance(failure, Unauthenticated):
                self._session.proved(failure)
            else:  # It may go better later: what waits goes on waiting.
                self._session.unproven.is_asked = bool(self._session.unproven.calls)
        self._wake()

    def stop(self) -> None:
        """Leave off."""
        if self._task is not None:
            self._task.cancel()


def _seen(future: asyncio.Future[Any]) -> None:
    """Let nobody complain of a failure that nobody waited for."""
    if not future.cancelled():
        future.exception()
