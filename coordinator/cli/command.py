"""What all commands of coordctl share: flags, errors, exit codes, the connection, signals."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from coordinator.cli import credentials
from coordinator_sdk import TLS, Client
from coordinator_sdk.client import endpoints_of
from coordinator_sdk.credentials import Credential, Password
from coordinator_sdk.errors import InvalidRequest

OK = 0
ERROR = 1
BAD_CONNECTION = 2
BAD_INPUT = 3
UNSUPPORTED = 4
BAD_ARGUMENTS = 128

DEFAULT_ADDRESS = "127.0.0.1:2379"
ALL_FORMATS = ("simple", "fields", "json", "protobuf", "table")
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class CommandError(Exception):
    """A command cannot be carried out.

    Attributes:
        status: The exit code.
    """

    def __init__(self, message: str, status: int = ERROR) -> None:
        super().__init__(message)
        self.status = status


# ---------------------------------------------------------------- values


def seconds(text: str) -> float:
    """Read a duration such as ``5s``, ``100ms`` or ``1m30s``; a bare number is seconds."""
    if re.fullmatch(r"\d+(\.\d*)?", text):
        return float(text)
    total, at = 0.0, 0
    for match in _DURATION.finditer(text):
        if match.start() != at:
            break
        total += float(match[1]) * _UNIT_SECONDS[match[2]]
        at = match.end()
    if not text or at != len(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; it looks like 5s or 100ms")
    return total


def whole(text: str) -> int:
    """Read a whole number."""
    try:
        number = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None
    if not -(1 << 63) <= number < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} does not fit 64 bits")
    return number


def hexadecimal(text: str, complaint: str, parser: str = "ParseInt") -> int:
    """Read an id.

    Args:
        text: Up to 16 hexadecimal digits.
        complaint: What the error calls it, such as ``bad lease ID``.
        parser: What etcdctl reads it with.
    """
    try:
        number = int(text, 16)
    except ValueError:
        number = -1
    if not re.fullmatch(r"[0-9a-fA-F]+", text) or not 0 <= number < 1 << 63:
        reason = "value out of range" if number >= 0 else "invalid syntax"
        parsing = f'strconv.{parser}: parsing "{text}": {reason}'
        raise CommandError(f"{complaint} ({parsing}), expecting ID in Hex", BAD_ARGUMENTS)
    return number


# ---------------------------------------------------------------- parsing


Run = Callable[["Context"], Awaitable[int | None]]


class Parser(argparse.ArgumentParser):
    """A parser of flags and whatever else stands between them; it errs in one line.

    Flags and arguments may be mixed in any order; what follows ``--`` are arguments only.
    Arguments arrive in ``args``; ``dashed`` is the number of those before ``--``, None if
    there is none.

    Attributes:
        words: Commands that may stand as the very first argument, each with its own parser.
        is_raw: Whether everything is an argument, for a command that runs another one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.words: dict[str, Parser] = {}
        self.is_raw = False

    def add_word(self, word: str, run: Run, usage: str) -> Parser:
        """Make a word a command of its own, if it is the very first argument."""
        prog = f"{self.prog} {word}"
        parser = Parser(prog=prog, usage=f"{prog} [flags] {usage}", allow_abbrev=False)
        parser.set_defaults(run=run, text_args=None)
        add_globals(parser)
        self.words[word] = parser
        return parser

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise CommandError(f"{message}; see `{self.prog} --help`")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the rest of the command line; a parser with commands below leaves it to them."""
        if self._subparsers is not None:
            words = list(args or ())
            at = self._leading(words)
            plain = [*self._plain(words[:at]), *words[at:]]
            return super().parse_known_args(plain, namespace)
        given = list(args or ())
        if given and given[0] in self.words:
            return self.words[given[0]].parse_known_args(given[1:], namespace)
        if self.is_raw and given[:1] not in (["-h"], ["--help"]):
            found, _ = super().parse_known_args([], namespace)
            found.args, found.dashed = given, None
            return found, []
        flags, after, dashed = given, [], "--" in given
        if dashed:
            at = given.index("--")
            flags, after = given[:at], given[at + 1 :]
        found, rest = super().parse_known_args(self._plain(flags), namespace)
        for word in rest:
            if word.startswith("-") and word != "-" and not re.fullmatch(r"-\d+(\.\d+)?", word):
                self.error(f"unknown flag: {word.split('=')[0]}")
        found.args = rest + after
        found.dashed = len(rest) if dashed else None
        return found, []

    def _leading(self, words: list[str]) -> int:
        """Count the words before the name of a command.

        An unknown flag is refused here: its value would be taken for a command, and shown as one.
        """
        at = 0
        while at < len(words) and words[at].startswith("-"):
            name, equals, _ = words[at].partition("=")
            action = self._option_string_actions.get(name)
            if action is None and name[:2] not in self._option_string_actions:
                self.error(f"unknown flag: {name}")
            takes_next = action is not None and action.nargs != 0 and not equals
            at += 2 if takes_next else 1
        return at

    def _plain(self, words: list[str]) -> list[str]:
        """Take ``=true`` and ``=false`` off switches."""
        switches = {
            name
            for action in self._actions
            if action.nargs == 0
            for name in action.option_strings
            if name.startswith("--")
        }
        plain = []
        for word in words:
            name, equals, value = word.partition("=")
            if not equals or name not in switches:
                plain.append(word)
            elif value.lower() in ("true", "1", "t"):
                plain.append(name)
            elif value.lower() not in ("false", "0", "f"):
                self.error(f"{name}: {value!r} is neither true nor false")
            elif f"--no-{name[2:]}" in switches:
                plain.append(f"--no-{name[2:]}")
        return plain


class Nouns:
    """Adds commands to a level of the parser tree."""

    def __init__(self, parser: argparse.ArgumentParser, title: str = "commands") -> None:
        self._children = parser.add_subparsers(
            title=title, metavar="<command>", required=True, parser_class=Parser
        )
        self._prog = parser.prog
        self.parsers: list[Parser] = []

    def command(
        self, name: str, run: Run, usage: str, summary: str, text_args: int | None = None
    ) -> Parser:
        """Add a command.

        Args:
            name: Its name.
            run: What it does.
            usage: Its arguments, for its help.
            summary: What it does, in one line.
            text_args: How many of its arguments are text; the others may be any bytes. All
                unless given.
        """
        parser: Parser = self._children.add_parser(
            name,
            help=summary,
            description=summary[0].upper() + summary[1:] + ".",
            usage=f"{self._prog} {name} [flags] {usage}".rstrip(),
            allow_abbrev=False,
        )
        parser.set_defaults(run=run, text_args=text_args)
        add_globals(parser)
        self.parsers.append(parser)
        return parser

    def group(self, name: str, summary: str) -> Nouns:
        """Add a noun with commands of its own."""
        parser = self._children.add_parser(name, help=summary, description=summary)
        add_globals(parser)
        return Nouns(parser)


def add_globals(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every command takes, before or after its name."""
    flags = parser.add_argument_group("global flags")

    def add(*names: str, **how: Any) -> None:
        flags.add_argument(*names, default=argparse.SUPPRESS, **how)

    add("--endpoints", metavar="URLS", help="members to talk to, joined by commas")
    add("--dial-timeout", metavar="2s", type=seconds, help="how long connecting may take")
    add("--command-timeout", metavar="5s", type=seconds, help="how long a call may take")
    add(
        "-w",
        "--write-out",
        metavar="FORMAT",
        help=f"{', '.join(ALL_FORMATS)}; not all commands have all",
    )
    add("--hex", action="store_true", help="print bytes as hexadecimal digits")
    add("--namespace", metavar="NAME", help="of services, locks, elections and topics")
    add("--debug", action="store_true", help="show a traceback with an error")
    credentials.add_flags(add)
    add("-d", "--discovery-srv", metavar="DOMAIN", help="domain whose SRV records name members")
    add("--discovery-srv-name", metavar="NAME", help="tells clusters of one domain apart")
    add(
        "--insecure-discovery",
        action=argparse.BooleanOptionalAction,
        help="follow SRV records without TLS as well; the default",
    )
    for name in ("--keepalive-time", "--keepalive-timeout"):
        add(name, type=seconds, help="taken, as with etcdctl; the server sets the pace here")


# ---------------------------------------------------------------- running


class Signals:
    """What becomes of SIGINT, SIGTERM and SIGHUP: they end the command, or are handed to it.

    Attributes:
        number: The signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.number = 0
        self._task: asyncio.Task[Any] | None = None
        self._caught: asyncio.Queue[int] | None = None

    def install(self) -> None:
        """Begin to listen, for the task that calls this."""
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        for number in STOPPING_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)

    def catch(self) -> asyncio.Queue[int]:
        """From now on, put signals into a queue in place of cancelling the command."""
        self._caught = asyncio.Queue()
        return self._caught

    def _on_signal(self, number: int) -> None:
        self.number = number
        if self._caught is not None:
            self._caught.put_nowait(number)
        elif self._task is not None:
            self._task.cancel()


@dataclass
class Context:
    """One invocation.

    Attributes:
        flags: The flags of the command, by name.
        args: Its arguments.
        dashed: How many of them stand before ``--``; None if there is no ``--``.
        endpoints: URLs of members.
        dial_timeout: Seconds that connecting may take.
        command_timeout: Seconds that a call may take.
        write_out: ``simple`` or ``json``, or another one that the command has in ``formats``.
        hex: Whether bytes are printed as hexadecimal digits.
        namespace: Of services, locks, elections and topics.
        tls: Whom to trust; None for what is usual.
        credential: Who this is; None for nobody.
        asks_password_of: The user whose password has to be asked for, or nothing.
        signals: What becomes of signals.
        revision: What listings are to be as of; 0 for now.
        domain: Whose SRV records name the members; empty if endpoints are given.
        domain_name: Tells clusters of one domain apart.
        is_insecure_taken: Whether SRV records without TLS are followed.
    """

    flags: argparse.Namespace
    args: list[str]
    dashed: int | None
    endpoints: list[str]
    dial_timeout: float
    command_timeout: float
    write_out: str
    hex: bool
    namespace: str
    tls: TLS | None = None
    credential: Credential | None = None
    asks_password_of: str = ""
    signals: Signals = field(default_factory=Signals)
    revision: int = 0
    domain: str = ""
    domain_name: str = ""
    is_insecure_taken: bool = True

    @property
    def is_json(self) -> bool:
        """Whether to print JSON."""
        return self.write_out == "json"

    @contextlib.asynccontextmanager
    async def client(self, *endpoints: str) -> AsyncIterator[Client]:
        """Connect to the cluster, or to the member at ``endpoints``."""
        async with self.unconnected(*endpoints) as client:
            yield client

    def unconnected(self, *endpoints: str) -> Client:
        """Make a client that is not connected yet, and that its owner closes."""
        return Client(
            *(endpoints or self.endpoints),
            tls=self.tls or TLS(),
            auth=self.credential,
            connect_timeout=self.dial_timeout,
            timeout=self.command_timeout,
            namespace=self.namespace,
        )

    def prepare(self) -> None:
        """Ask whatever has to be asked at the terminal, before anything else is under way."""
        asks_first = getattr(self.flags, "asks_first", None)
        if asks_first is not None:
            asks_first(self)
        if self.asks_password_of and getattr(self.flags, "connects", True):
            password = credentials.ask("Password: ", sys.stderr)
            if not password:
                raise CommandError("empty password", BAD_ARGUMENTS)
            self.credential = Password(self.asks_password_of, password)

    def arguments(self, least: int, most: int | None, complaint: str) -> list[str]:
        """Give the arguments, if there are as many as the command takes."""
        if len(self.args) < least or (most is not None and len(self.args) > most):
            raise CommandError(complaint, BAD_ARGUMENTS)
        return self.args


def context_of(found: argparse.Namespace) -> Context:
    """Complete what the command line says with the environment and the defaults."""
    _check_text(found)
    write_out = str(_setting(found, "write_out", "simple"))
    formats = getattr(found, "formats", ("simple", "json"))
    if write_out not in formats:
        usable = " or ".join((", ".join(formats[:-1]), formats[-1]))
        if write_out in ALL_FORMATS:
            raise CommandError(
                f"--write-out: {write_out} not supported as output format here; use {usable}",
                UNSUPPORTED,
            )
        raise CommandError(
            f"--write-out: {write_out!r} is an unsupported output format; use {usable}", UNSUPPORTED
        )
    given = str(_setting(found, "endpoints", "", ("COORDINATOR_ENDPOINTS",)))
    settings = credentials.Settings(found, os.environ)
    try:
        tls = credentials.tls_of(settings)
        credential, asks_password_of = credentials.credential_of(settings)
        if tls is not None or not settings.switch("insecure_transport", True):
            given = credentials.https(given, DEFAULT_ADDRESS)
        endpoints = [endpoint.url for endpoint in endpoints_of((given,) if given else ())]
    except InvalidRequest as error:
        raise CommandError(str(error), BAD_ARGUMENTS) from None
    context = Context(
        found,
        found.args,
        found.dashed,
        endpoints,
        _duration(found, "dial_timeout", "2s"),
        _duration(found, "command_timeout", "5s"),
        write_out,
        bool(_setting(found, "hex", False)),
        str(_setting(found, "namespace", "default")),
        tls,
        credential,
        asks_password_of,
        domain="" if given else str(_setting(found, "discovery_srv", "")),
        domain_name=str(_setting(found, "discovery_srv_name", "")),
        is_insecure_taken=settings.switch("insecure_discovery", True),
    )
    for name in ("dial_timeout", "command_timeout"):
        if getattr(context, name) <= 0:
            raise CommandError(f"--{name.replace('_', '-')}: must be positive", BAD_ARGUMENTS)
    return context


def _check_text(found: argparse.Namespace) -> None:
    """Refuse what is no text where only text can be meant: everywhere but in keys and payloads."""
    args = found.args[: found.text_args]
    for name, value in (*vars(found).items(), *(("argument", arg) for arg in args)):
        for text in value if isinstance(value, list) and name != "args" else [value]:
            if isinstance(text, str) and not text.isascii():
                try:
                    text.encode()
                except UnicodeEncodeError:
                    shown = repr(text.encode("utf-8", "surrogateescape"))
                    if name in credentials.SECRETS or getattr(found, "hides_args", False):
                        shown = "a secret"
                    raise CommandError(f"{name}: {shown} is not UTF-8", BAD_ARGUMENTS) from None


def _setting(
    found: argparse.Namespace, name: str, default: object, names: Sequence[str] = ()
) -> object:
    given = getattr(found, name, None)
    if given is not None:
        return given
    variables = [f"COORDCTL_{name.upper()}", *names, f"ETCDCTL_{name.upper()}"]
    for variable in variables:
        value = os.environ.get(variable, "")
        if value:
            return value.lower() in ("true", "1", "t") if default is False else value
    return default


def _duration(found: argparse.Namespace, name: str, default: str) -> float:
    value = _setting(found, name, default)
    if isinstance(value, float):
        return value
    try:
        return seconds(str(value))
    except argparse.ArgumentTypeError as error:
        raise CommandError(f"--{name.replace('_', '-')}: {error}", BAD_ARGUMENTS) from None
