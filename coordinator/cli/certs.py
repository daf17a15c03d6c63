"""certs: an authority, and certificates for servers, members and clients, in one command."""

from __future__ import annotations

import argparse
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from coordinator.cli import output
from coordinator.cli.command import BAD_ARGUMENTS, CommandError, Context, Nouns, whole

if TYPE_CHECKING:
    from coordinator.tls.folder import CertificateFolder, Wanted

VERBS = ("create", "client", "renew", "new-ca", "drop-ca")
NO_CLIENTS = ("ca", "peer-ca", "server", "peer")
EPILOG = """\
create   (what it does if nothing is said) makes two authorities, for clients and for members,
         and a server's, a members' and a client's certificate
client   makes certificates for more clients: coordctl certs client alice bob
renew    makes all certificates anew, with new keys
new-ca   makes new authorities, which are trusted beside the old ones
drop-ca  ends the trust in old authorities
"""


def add(nouns: Nouns) -> None:
    """Add the command."""
    parser = nouns.command(
        "certs",
        certs,
        "[create | client <name>... | renew | new-ca | drop-ca]",
        "make and renew certificates for TLS",
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.set_defaults(connects=False)
    parser.add_argument("--dir", default="certs", metavar="FOLDER", help="where they are [certs]")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="HOST",
        help="a name or address of a member, besides localhost; as often as there are",
    )
    parser.add_argument(
        "--client", action="append", default=[], metavar="NAME", help="a client's name [client]"
    )
    parser.add_argument("--days", type=whole, default=365, metavar="N", help="they hold [365]")
    parser.add_argument(
        "--ca-days", type=whole, default=3650, metavar="N", help="authorities hold [3650]"
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


async def certs(context: Context) -> None:
    """Make or renew certificates."""
    # Only here: the other commands do without the library behind it.
    from coordinator.tls.folder import CannotMake, CertificateFolder, Wanted

    flags = context.flags
    verb, *names = context.args or ["create"]
    if verb not in VERBS:
        raise CommandError(f"certs: {verb!r} is none of {', '.join(VERBS)}", BAD_ARGUMENTS)
    if names and verb != "client":
        raise CommandError(f"certs {verb} takes no arguments", BAD_ARGUMENTS)
    clients = [*flags.client, *names]
    if verb == "client" and not clients:
        raise CommandError("certs client needs the name of a client", BAD_ARGUMENTS)
    folder = CertificateFolder(Path(flags.dir))
    wanted = Wanted(flags.host, clients or ["client"], flags.days, flags.ca_days)
    try:
        made = _make(folder, verb, wanted, force=flags.force)
    except CannotMake as error:
        raise CommandError(str(error)) from error
    except (OSError, ValueError) as error:
        raise CommandError(f"{flags.dir}: {error}") from error
    if context.is_json:
        output.say_json({"folder": flags.dir, "made": made})
    else:
        output.say(*_next(flags.dir, verb, made))


def _make(folder: CertificateFolder, verb: str, wanted: Wanted, *, force: bool) -> list[str]:
    if verb == "create":
        return folder.create(wanted, force=force)
    if verb == "client":
        return folder.add_clients(wanted, force=force)
    if verb == "renew":
        return folder.renew(wanted.days)
    if verb == "new-ca":
        return folder.new_authorities(wanted.authority_days)
    return folder.drop_old_authorities()


def _next(given: str, verb: str, made: list[str]) -> list[str]:
    """Say what was made and what to do with it."""
    folder = given.rstrip("/") or given
    at = quote(folder)
    if verb == "new-ca":
        return [
            f"{folder}: ca.pem and peer-ca.pem hold the new authorities beside the old ones.",
            "Copy both to every member and client, then: coordctl certs renew",
        ]
    if verb == "renew":
        return [
            f"{folder}: new certificates and keys for {', '.join(made)}.",
            "Copy them over the old ones: members and clients take them by themselves.",
        ]
    if verb == "drop-ca":
        files = " and ".join(f"{name}.pem" for name in made)
        return [f"{folder}: {files or 'no file'} held old authorities; now the newest alone."]
    client = next(name for name in made if name not in NO_CLIENTS)
    pair = f"--cert {at}/{client}.pem --key {at}/{client}-key.pem"
    lines = [f"{folder}: {', '.join(f'{name}.pem' for name in made)}, and their keys (-key.pem)."]
    if verb == "create":
        lines += [
            "No server needs ca-key.pem and peer-ca-key.pem: who has them can be anybody.",
            "",
            "Members:",
            f"  --cert-file {at}/server.pem --key-file {at}/server-key.pem \\",
            f"  --trusted-ca-file {at}/ca.pem --client-cert-auth \\",
            f"  --peer-cert-file {at}/peer.pem --peer-key-file {at}/peer-key.pem \\",
            f"  --peer-trusted-ca-file {at}/peer-ca.pem",
        ]
    return [
        *lines,
        "",
        "Clients:",
        f"  coordctl --endpoints https://127.0.0.1:2379 --cacert {at}/ca.pem {pair}",
        f'  Client("https://127.0.0.1:2379", tls=TLS(ca="{folder}/ca.pem",',
        f'         cert="{folder}/{client}.pem", key="{folder}/{client}-key.pem"))',
    ]
