"""The command ``coordctl``: drive a cluster from the shell.

The commands for keys, leases, members and endpoints are those of etcdctl, with its flags and
its output; services, locks, elections, topics and sessions are our own. Exit codes: 0 done,
1 failed, 2 no connection, 3 wrong input, 4 an unsupported value, 128 wrong arguments; a
command that a signal ended ends by that signal.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from coordinator import __version__
from coordinator.cli import (
    api_key,
    auth,
    blame,
    certs,
    check,
    completion,
    credentials,
    discovery,
    doctor,
    election,
    endpoint,
    kv,
    lease,
    lock,
    maintenance,
    member,
    mirror,
    output,
    past,
    role,
    service,
    session,
    snapshot,
    srv,
    top,
    topic,
    txn,
    user,
    watch,
)
from coordinator.cli.command import (
    BAD_ARGUMENTS,
    BAD_CONNECTION,
    ERROR,
    CommandError,
    Context,
    Nouns,
    Parser,
    add_globals,
    context_of,
)
from coordinator.storage.errors import StorageError
from coordinator_sdk import ConnectFailed, CoordinatorError
from coordinator_sdk.protocol.cluster import PROTOCOL_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "coordctl"
EPILOG = (
    "Every global flag can come from the environment: COORDCTL_ENDPOINTS for --endpoints, and so "
    "on; COORDINATOR_ENDPOINTS and etcdctl's own variables are read as well."
)


def build_parser() -> Parser:
    """Make the parser tree."""
    parser = Parser(
        prog=PROGRAM,
        description="Drive a Coordinator cluster from the shell.",
        epilog=EPILOG,
        allow_abbrev=False,
    )
    add_globals(parser)
    nouns = Nouns(parser)
    for module in (
        kv,
        txn,
        watch,
        lease,
        lock,
        election,
        service,
        topic,
        session,
        endpoint,
        member,
        snapshot,
        maintenance,
        check,
        discovery,
        auth,
        user,
        role,
        api_key,
        blame,
        certs,
        mirror,
        doctor,
        top,
    ):
        module.add(nouns)
    past.add(nouns, build_parser)
    completion.add(nouns, build_parser)
    version = nouns.command("version", show_version, "", "print the version of coordctl")
    version.set_defaults(connects=False)
    return parser


async def show_version(context: Context) -> None:
    """Print the version."""
    if context.is_json:
        output.say_json({"version": __version__, "protocol": PROTOCOL_VERSION})
    else:
        output.say(f"coordctl version: {__version__}", f"protocol version: {PROTOCOL_VERSION}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; gives its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    context: Context | None = None
    try:
        _check_environment()
        found, _ = build_parser().parse_known_args(words)
        context = context_of(found)
        context.prepare()
        return asyncio.run(_perform(context)) or 0
    except CommandError as error:
        return _fail(str(error), error.status, words)
    except ConnectFailed as error:
        return _fail(credentials.words_of(error), BAD_CONNECTION, words)
    except (CoordinatorError, StorageError) as error:
        return _refused(error, words)
    except BrokenPipeError:
        # Whoever read the output has gone: end as other programs do, without a complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _end_by(signal.SIGPIPE)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _end_by(context.signals.number if context else signal.SIGINT)


def _check_environment() -> None:
    if os.environ.get("ETCDCTL_API", "3") == "2":
        raise CommandError(
            "ETCDCTL_API=2 asks for the keys of etcd v2, which Coordinator does not have; "
            "unset it, or set ETCDCTL_API=3"
        )


async def _perform(context: Context) -> int | None:
    context.signals.install()
    if context.domain:
        context.endpoints = list(
            await srv.endpoints_of(
                context.domain, context.domain_name, is_insecure_taken=context.is_insecure_taken
            )
        )
    status: int | None = await context.flags.run(context)
    return status


def _refused(error: Exception, words: list[str]) -> int:
    status = ERROR
    if credentials.is_refused_login(error):
        status = BAD_CONNECTION
    elif credentials.is_bad_file(error):
        status = BAD_ARGUMENTS
    _fail(credentials.words_of(error), status, words)
    if (hint := credentials.hint(error)) and sys.stderr.isatty():
        output.tell(hint)
    return status


def _fail(message: str, status: int, words: list[str]) -> int:
    if "--debug" in words:
        traceback.print_exc()
    output.tell(f"Error: {' '.join(message.split())}")
    return status


def _end_by(number: int) -> int:
    """End by the signal itself, so that shells and scripts see what happened."""
    signal.signal(number or signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), number or signal.SIGINT)
    return 128 + number


if __name__ == "__main__":
    sys.exit(main())
