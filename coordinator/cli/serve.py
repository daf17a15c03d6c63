"""The command ``coordinator``: serve, migrate, show the configuration."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from coordinator import __version__
from coordinator.cli import import_etcd
from coordinator.cli.open_files import fit_connections
from coordinator.config import Config, ConfigError, auth_rules, resolve, setting_fields, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from coordinator.node.node import Node

M_MMAP_THRESHOLD = -3
"""What glibc calls it, in ``malloc.h``."""
LARGE_BLOCK_BYTES = 131_072
_BEGAN = time.monotonic()
logger = logging.getLogger("coordinator")
PROGRAM = "coordinator"

EPILOG = """\
first steps:
  coordinator serve                       a member on http://127.0.0.1:2379, data in
                                          ./default.coordinator
  curl -X PUT --data hello http://127.0.0.1:2379/v1/kv/greeting
  curl http://127.0.0.1:2379/v1/kv/greeting
  coordctl get greeting                   the same, with the client

every flag can also be set by the environment (COORDINATOR_DATA_DIR for --data-dir) and in a
TOML file named by --config-file; the command line wins, then the environment, then the file.
`coordinator config show --origin` tells what holds and why.
"""


def build_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Services, fair fenced locks, elections and topics on one replicated keyspace.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    serve = commands.add_parser(
        "serve",
        help="run a member",
        description="Run a member until it is told to stop (Ctrl-C, SIGTERM).",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_settings(serve)
    migrate = commands.add_parser(
        "migrate",
        help="bring a data directory to the schema of this release",
        description="Bring the state database of a stopped member to the schema of this release. "
        "`coordinator serve` does the same at every start.",
        allow_abbrev=False,
    )
    migrate.add_argument("--data-dir", default="default.coordinator", metavar="DIR")
    bring = commands.add_parser(
        "import-etcd",
        help="copy a live etcd into a backup",
        description="Read the keys, leases, users and roles of a live etcd, and write a backup of "
        "them, which `coordctl snapshot restore` makes a data directory of. It begins above the "
        "revision of etcd. Passwords are not copied.",
        allow_abbrev=False,
    )
    import_etcd.add_arguments(bring)
    config = commands.add_parser("config", help="show the configuration", allow_abbrev=False)
    actions = config.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser(
        "show", help="print every setting that would hold", allow_abbrev=False
    )
    show.add_argument("--origin", action="store_true", help="also tell where each came from")
    _add_settings(show)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", metavar="FILE", help="TOML file with settings")
    groups: dict[str, Any] = {}
    for flag, one in setting_fields().items():
        name = one.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        text = one.metadata["help"].replace("%", "%%")
        options: dict[str, Any] = {"help": f"{text} [{_default(one)}]", "metavar": "V"}
        if isinstance(one.default, bool):
            # As with etcd, a switch may stand alone or carry a value.
            options |= {"nargs": "?", "const": "true", "metavar": "true|false"}
        elif one.metadata["choices"]:
            options["metavar"] = "|".join(one.metadata["choices"])
        groups[name].add_argument(f"--{flag}", dest=one.name, **options)


def _default(one: Any) -> str:
    if one.metadata["is_secret"]:
        return "set"
    value = one.default
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _resolve(arguments: argparse.Namespace, environment: Mapping[str, str]) -> Config:
    given = {flag: getattr(arguments, one.name) for flag, one in setting_fields().items()}
    given["config-file"] = arguments.config_file
    return resolve({flag: text for flag, text in given.items() if text is not None}, environment)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit status.
    """
    arguments = build_parser().parse_args(argv)
    try:
        if arguments.command == "migrate":
            return _migrate(arguments.data_dir)
        if arguments.command == "import-etcd":
            return import_etcd.run(arguments)
        config = _resolve(arguments, os.environ)
        if arguments.command == "config":
            return _show(config, arguments.origin)
        return serve(config)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{PROGRAM}: {problem}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the settings has gone: nothing is left to say, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def _show(config: Config, with_origin: bool) -> int:
    flags = setting_fields()
    width = max(map(len, flags))
    for flag, one in flags.items():
        line = f"{flag:{width}}  {shown(config, flag)}"
        print(f"{line}  # {config.origins[one.name]}" if with_origin else line)
    sys.stdout.flush()
    return 0


def _migrate(data_dir: str) -> int:
    from pathlib import Path

    from coordinator.storage.errors import StorageError
    from coordinator.storage.identity import DataDirectory
    from coordinator.storage.migrate import upgrade

    if not Path(data_dir).is_dir():
        print(f"{PROGRAM}: --data-dir {data_dir}: no such directory", file=sys.stderr)
        return 2
    try:
        directory = DataDirectory.open(data_dir)
        try:
            if directory.identity is None:
                print(f"{data_dir} holds no member yet: there is nothing to migrate")
                return 0
            upgrade(directory.state_path)
        finally:
            directory.close()
    except StorageError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 1
    print(f"{data_dir} has the schema of {PROGRAM} {__version__}")
    return 0


# ---------------------------------------------------------------- serving


def serve(config: Config, announce: Callable[[Config, Node], None] | None = None) -> int:
    """Run a member until it is told to stop.

    Args:
        config: Its settings.
        announce: Called once it serves; says so by default.

    Returns:
        The exit status.

    Raises:
        ConfigError: The settings cannot be used.
    """
    _configure_logging(config.log_level)
    for warning in auth_rules.warnings(config):
        logger.warning("%s", warning)
    config = fit_connections(config)
    _tune_allocator()
    gc.disable()  # What is loaded now stays; looking for garbage in it only costs time.
    from coordinator.api.server import CannotListen
    from coordinator.node.bootstrap import CannotJoin
    from coordinator.node.group import MemberRemoved, MembershipEnded
    from coordinator.storage.errors import StorageError
    from coordinator.transport.errors import CannotListen as CannotListenToPeers

    told = (CannotJoin, CannotListen, CannotListenToPeers, ConfigError, MembershipEnded)
    # The log writer needs the interpreter for moments only, and often.
    sys.setswitchinterval(0.0001)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_run(config, announce or _announce))
    except MemberRemoved as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 0  # Nobody should start it again.
    except (*told, StorageError) as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


def _configure_logging(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "asyncio", "aiosqlite", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


class _LineFormatter(logging.Formatter):
    """One line for each record: time, level, logger, text."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record; only a traceback takes more lines."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        text = record.getMessage().replace("\n", "\\n")
        line = f"{at}.{int(record.msecs):03d}Z {record.levelname:7} {record.name}: {text}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


async def _run(config: Config, announce: Callable[[Config, Node], None]) -> int:
    """Serve until told to stop, or until the member has failed."""
    from coordinator.api.server import Server, listen
    from coordinator.app import build_app
    from coordinator.domains import apis
    from coordinator.node.group import MembershipEnded
    from coordinator.node.node import Node

    stop = _watch_signals()
    sockets = listen(config)
    domains = apis()
    node = Node(config, [domain.domain for domain in domains])
    try:
        if not await _unless(stop, node.start()):
            return 0
        app = build_app(node, domains)
        server = Server(app, app.state.serving, sockets)
        _tune_collector()
        await server.startup()
        serving = asyncio.ensure_future(server.until_stopped())
        ended = asyncio.ensure_future(node.stopped.wait())
        announce(config, node)
        await asyncio.wait(
            {asyncio.ensure_future(stop.wait()), ended, serving},
            return_when=asyncio.FIRST_COMPLETED,
        )
        server.stop()
        await serving
    finally:
        for one, _ in sockets:
            one.close()
        await node.stop()
    if isinstance(node.failure, MembershipEnded):
        raise node.failure
    if node.failure is not None:
        logger.error("the member has stopped: %s", node.failure, exc_info=node.failure)
        return 1
    logger.info("stopped")
    return 0


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do ``work`` to its end, or leave it when told to stop; tell whether it ended."""
    task = asyncio.ensure_future(work)
    told = asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if task.done():
        await task
        return True
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return False


def _watch_signals() -> asyncio.Event:
    """Give the event that SIGTERM and SIGINT set; the second of them ends the process."""
    stop = asyncio.Event()

    def told(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + int(number))
        logger.info("%s: stopping", number.name)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
    return stop


def _tune_collector() -> None:
    """Keep what was loaded out of the collector's sight, and let it run seldom from now on."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


def _tune_allocator() -> None:
    """Give large blocks back to the system at once, where the C library is one that keeps them.

    By default glibc learns from large blocks to keep larger ones. What clients send of requests
    that never come whole would leave it with many times as much memory as is in use.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def _announce(config: Config, node: Node) -> None:
    logger.info(
        "serving %s · data %s · member %s (%016x) · ready in %d ms",
        ", ".join(config.listen_client_urls),
        os.path.abspath(config.data_dir),
        node.name,
        node.member_id,
        (time.monotonic() - _BEGAN) * 1000,
    )
