"""Users, roles, permissions and API keys from the shell, and who coordctl itself is."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator_sdk import ApiKey, Password
from coordinator_sdk.sync import Client
from coordinator_sdk.testing import CoordinatorProcess, free_port, running
from tests.cli.ctl import environment
from tests.cli.forked import Forked

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

RECORDED = Path(__file__).parent / "cases" / "users.jsonl"
CHEAP = ["--password-cost", "10"]
SECRET = "hunter2-and-more"
ROOT = ("--user", f"root:{SECRET}")


@pytest.fixture(scope="module")
def forked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forked]:
    with Forked(tmp_path_factory.mktemp("coordctl")) as made:
        yield made


@pytest.fixture(scope="module")
def guarded(forked: Forked) -> Iterator[CoordinatorProcess]:
    """A coordinator with authentication on, by one command."""
    with running(options=CHEAP) as server:
        code, out, err = forked.run(
            server.url, "auth", "init", "--interactive=false", stdin=f"{SECRET}\n"
        )
        assert (code, out, err) == (0, "User root created\nAuthentication Enabled\n", "")
        yield server


def without_header(text: str) -> str:
    return re.sub(r'"header":\{[^}]*\}', '"header":{}', text)


@pytest.mark.slow
def test_users_and_roles_are_as_with_etcdctl(forked: Forked) -> None:
    """Output and exit code of recorded commands about users, roles and logins are etcdctl's."""
    cases = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    assert len(cases) > 100
    wrong = []
    with running(options=CHEAP) as server:
        for case in cases:
            code, out, err = forked.run(server.url, *case["args"], stdin=case.get("stdin", ""))
            got = (code, without_header(out), err)
            want = tuple(case.get(name, "") or "" for name in ("exit", "stdout", "stderr"))
            if got != (want[0] or 0, *want[1:]):
                wrong.append((case["args"], want, got))
    assert wrong == []


def ok(forked: Forked, server: CoordinatorProcess, *args: str, stdin: str = "") -> str:
    code, out, err = forked.run(server.url, *args, stdin=stdin)
    assert (code, err) == (0, ""), (args, out, err)
    return out


@pytest.mark.slow
def test_one_command_makes_root_and_turns_it_on(forked: Forked) -> None:
    """auth init asks twice for a password, or makes one and prints it once."""
    with running(options=CHEAP) as server:
        twice = forked.run(server.url, "auth", "init", stdin="one\ntwo\n")
        assert twice == (
            128,
            "Password of root: \nType password of root again for confirmation: \n",
            "Error: given passwords are different\n",
        )
        assert (
            ok(forked, server, "auth", "status").splitlines()[0] == "Authentication Status: false"
        )
        out = ok(forked, server, "auth", "init", "--generate")
        password = out.splitlines()[2].rpartition(": ")[2]
        assert len(password) == 24
        with Client(server.url, auth=Password("root", password)) as client:
            assert client.auth.whoami().roles == ["root"]
        again = forked.run(server.url, "--user", f"root:{password}", "auth", "init", "--generate")
        assert again == (1, "", "Error: authentication is enabled already\n")


def test_actions_are_granted_by_namespace_and_name(
    forked: Forked, guarded: CoordinatorProcess
) -> None:
    """role grant-permission takes actions on names, shows them, and takes them back."""
    run = lambda *args: forked.run(guarded.url, *ROOT, *args)  # noqa: E731
    assert run("role", "add", "jobs")[0] == 0
    granted = run("role", "grant-permission", "jobs", "lock:acquire", "default", "jobs/*")
    assert granted == (0, "Role jobs updated\n", "")
    assert run("role", "grant-permission", "jobs", "session:open")[0] == 0
    code, _, err = run("role", "grant-permission", "jobs", "lock:acquire")
    assert (code, err.partition(";")[0]) == (
        128,
        "Error: lock:acquire needs a namespace and a name",
    )
    assert run("role", "grant-permission", "jobs", "lock:steal", "default", "x")[0] == 1
    shown = "Role jobs\nKV Read:\nKV Write:\nActions:\n\tlock:acquire default jobs/*\n"
    assert run("role", "get", "jobs")[1] == shown + "\tsession:open * *\n"
    told = json.loads(run("role", "get", "jobs", "-w", "json")[1])
    assert told["domains"][0] == {
        "action": "lock:acquire",
        "namespace": "default",
        "name": "jobs/*",
    }
    assert run("user", "add", "worker:w", "--certificate-name", "w.example")[0] == 0
    assert run("user", "grant-role", "worker", "jobs")[0] == 0
    worker = ("--user", "worker:w")
    held = forked.run(guarded.url, *worker, "lock", "jobs/a", "--", "echo", "held")
    assert held == (0, "held\n", "")
    refused = forked.run(guarded.url, *worker, "lock", "other", "--", "echo", "held")
    assert refused == (1, "", "Error: etcdserver: permission denied\n")
    gone = run("role", "revoke-permission", "jobs", "lock:acquire", "default", "jobs/*")
    assert gone[1] == ("Permission lock:acquire on jobs/* in default is revoked from role jobs\n")
    assert forked.run(guarded.url, *worker, "lock", "jobs/a", "--", "echo")[0] == 1


def test_api_keys_are_made_used_and_revoked(forked: Forked, guarded: CoordinatorProcess) -> None:
    """A key is printed once, alone; it works as a flag and from the environment, until revoked."""
    run = lambda *args: forked.run(guarded.url, *ROOT, *args)  # noqa: E731
    assert run("user", "add", "robot", "--no-password") == (0, "User robot created\n", "")
    code, out, err = run("api-key", "create", "robot", "--ttl", "1h", "--label", "pipeline")
    key = out.strip()
    assert code == 0
    assert re.fullmatch(r"ck_[0-9a-f]{16}_[\w-]{43}", key)
    assert err == f"API key {key[3:19]} of user robot; nobody can read it again\n"
    listed = run("api-key", "list", "robot")[1].splitlines()
    assert listed[1].startswith(f"{key[3:19]}  robot  -")
    assert listed[1].endswith("pipeline")
    assert key[20:] not in run("api-key", "list", "-w", "json")[1]
    who = forked.run(guarded.url, "--api-key", key, "auth", "whoami")
    assert who[1].startswith(f"User: robot\nRoles:\nLimited to: key:{key[3:19]}\nUntil: 20")
    assert forked.run(guarded.url, "auth", "whoami", more={"COORDCTL_API_KEY": key}) == who
    assert run("api-key", "revoke", key) == (0, f"API key {key[3:19]} is revoked\n", "")
    refused = forked.run(guarded.url, "--api-key", key, "auth", "whoami")
    assert refused == (2, "", "Error: etcdserver: invalid auth token\n")
    expired = run("api-key", "create", "robot", "--ttl", "1ms")[1].strip()
    assert forked.run(guarded.url, "--api-key", expired, "auth", "whoami") == refused


def test_a_token_serves_other_programs(forked: Forked, guarded: CoordinatorProcess) -> None:
    """auth login prints a token that other programs may show."""
    code, token, told = forked.run(guarded.url, *ROOT, "auth", "login")
    assert (code, told[:24]) == (0, "token of user root, good")
    who = forked.run(guarded.url, "--token", token.strip(), "auth", "whoami")
    assert who[1].startswith("User: root\nRoles: root\nUntil: ")
    nobody = forked.run(guarded.url, "auth", "login")
    assert nobody == (128, "", "Error: auth login command needs --user\n")


@pytest.mark.parametrize(
    ("args", "more", "wanted"),
    [
        ((), {"COORDCTL_USER": f"root:{SECRET}"}, "root"),
        ((), {"ETCDCTL_USER": "root", "ETCDCTL_PASSWORD": SECRET}, "root"),
        ((), {"COORDINATOR_USER": "root", "COORDINATOR_PASSWORD": SECRET}, "root"),
        (("--user=root",), {"COORDCTL_TOKEN": "wrong", "COORDCTL_PASSWORD": SECRET}, "root"),
        (("--user=root", f"--password={SECRET}"), {"COORDCTL_PASSWORD": "wrong"}, "root"),
    ],
)
def test_who_it_is_may_come_from_the_environment(
    forked: Forked,
    guarded: CoordinatorProcess,
    args: tuple[str, ...],
    more: dict[str, str],
    wanted: str,
) -> None:
    """Flags come first, then our variables, the SDK's, and etcdctl's."""
    code, out, err = forked.run(guarded.url, *args, "auth", "whoami", more=more)
    assert (code, err) == (0, "")
    assert out.startswith(f"User: {wanted}\n")


def test_a_password_is_asked_for(forked: Forked, guarded: CoordinatorProcess) -> None:
    """Without a password coordctl asks, beside its output; what follows is the command's input."""
    put = forked.run(guarded.url, "--user=root", "put", "asked", stdin=f"{SECRET}\nvalue")
    assert put == (0, "OK\n", "Password: \n")
    got = forked.run(guarded.url, "--user=root", "get", "asked", stdin=f"{SECRET}\n")
    assert got[1] == "asked\nvalue\n"
    assert forked.run(guarded.url, "--user=root", "get", "asked")[::2] == (
        128,
        "Password: \nError: empty password\n",
    )
    assert forked.run(guarded.url, "--user=root", "version")[2] == ""


def test_a_terminal_does_not_show_it(guarded: CoordinatorProcess) -> None:
    """What is typed at a terminal is not echoed, and the terminal echoes again afterwards."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "coordinator.cli.coordctl", "--user=root", "auth", "whoami"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment(guarded.url),
        start_new_session=True,
    )
    os.close(follower)
    shown = b""
    try:
        while b"Password: " not in shown:
            shown += os.read(leader, 1024)
        os.write(leader, f"{SECRET}\n".encode())
        while b"Until: " not in shown:
            shown += os.read(leader, 1024)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(leader)
    assert SECRET.encode() not in shown
    assert b"User: root" in shown


@pytest.mark.parametrize(
    ("args", "stdin"),
    [
        (("--user", f"root:{SECRET}!", "get", "k"), ""),
        (("--user", "root", "--password", f"{SECRET}!", "get", "k", "--debug"), ""),
        (("--token", f"{SECRET}!", "get", "k", "--debug"), ""),
        (("--api-key", f"{SECRET}!", "get", "k"), ""),
        (("--user", f"x:{SECRET}", "--api-key", SECRET, "get", "k"), ""),
        (("--pasword", SECRET, "get", "k"), ""),
        ((f"--pasword={SECRET}", "get", "k"), ""),
        (("--password", SECRET + "\udcff", "--user", "u", "get", "k"), ""),
        (("user", "add", f"joe:{SECRET}\udcff"), ""),
        (("user", "add", f"joe:{SECRET}"), ""),
        (("user", "passwd", "joe", "--interactive=false"), SECRET),
        (("api-key", "revoke", f"ck_{SECRET}"), ""),
    ],
)
def test_secrets_stand_in_no_error(
    forked: Forked, guarded: CoordinatorProcess, args: tuple[str, ...], stdin: str
) -> None:
    """Whatever is wrong, no complaint repeats a secret."""
    code, out, err = forked.run(guarded.url, *args, stdin=stdin)
    assert code in (1, 2, 128)
    assert err.splitlines()[-1].startswith("Error: ")
    assert SECRET not in out + err


def test_nobody_is_told_what_to_do(forked: Forked, guarded: CoordinatorProcess) -> None:
    """Without a login there is etcd's refusal and nothing else; health tells it as well."""
    refused = (1, "", "Error: etcdserver: user name is empty\n")
    assert forked.run(guarded.url, "get", "k") == refused
    assert forked.run(guarded.url, "role", "list") == refused
    health = forked.run(guarded.url, "endpoint", "health")
    assert health[0] == 1
    assert "failed to commit proposal: etcdserver: user name is empty\n" in health[2]
    root = forked.run(guarded.url, *ROOT, "endpoint", "health")
    assert (root[0], "is healthy" in root[2]) == (0, True)


def test_a_revoked_role_ends_what_is_open(forked: Forked, guarded: CoordinatorProcess) -> None:
    """A role that is taken away from the shell ends a program's watch, and its next read."""
    run = lambda *args: forked.run(guarded.url, *ROOT, *args)  # noqa: E731
    run("role", "add", "reading")
    run("role", "grant-permission", "reading", "read", "open/", "--prefix")
    run("user", "add", "reader", "--no-password")
    run("user", "grant-role", "reader", "reading")
    key = run("api-key", "create", "reader")[1].strip()
    with Client(guarded.url, auth=ApiKey(key)) as client:
        with client.kv.watch(prefix="open/") as watch:
            assert run("put", "open/a", "1")[0] == 0
            assert next(watch).kv.key == b"open/a"
            got = forked.run(guarded.url, "--api-key", key, "get", "open/a", "-w", "json")
            assert (json.loads(got[1])["count"], got[2]) == (1, "")
            assert run("user", "revoke-role", "reader", "reading")[0] == 0
            with pytest.raises(Exception, match="permission denied"):
                next(watch)
        with pytest.raises(Exception, match="permission denied"):
            client.kv.get("open/a")


@pytest.mark.slow
def test_tls_as_with_etcdctl(forked: Forked, tmp_path: Path) -> None:
    """--cacert, --cert and --key, or their variables; a certificate is a user; clear sentences."""
    folder = tmp_path / "certs"
    made = forked.run("", "certs", "--dir", str(folder), "--client", "root")
    assert made[0] == 0, made
    ca, stranger = f"--cacert={folder / 'ca.pem'}", f"--cacert={folder / 'peer-ca.pem'}"
    mine = ("--cert", str(folder / "root.pem"), "--key", str(folder / "root-key.pem"))
    plain, secure = free_port(), free_port()
    urls = f"http://127.0.0.1:{plain},https://127.0.0.1:{secure}"
    options = ["--listen-client-urls", urls, "--cert-file", str(folder / "server.pem")]
    options += ["--key-file", str(folder / "server-key.pem")]
    options += ["--trusted-ca-file", str(folder / "ca.pem")]
    with running(port=plain, options=[*CHEAP, *options]) as server:
        assert forked.run(server.url, "auth", "init", "--generate")[0] == 0
        bare, url = f"127.0.0.1:{secure}", f"https://127.0.0.1:{secure}"
        who = forked.run(bare, ca, *mine, "auth", "whoami")
        assert who == (0, "User: root\nRoles: root\n", "")
        names = ("CACERT", "CERT", "KEY")
        files = (str(folder / name) for name in ("ca.pem", "root.pem", "root-key.pem"))
        more = {f"ETCDCTL_{name}": file for name, file in zip(names, files, strict=True)}
        assert forked.run(url, "auth", "whoami", more=more) == who
        skipping = forked.run(bare, "--insecure-skip-tls-verify", *mine, "auth", "whoami")
        assert skipping == who
        saved = forked.run(bare, ca, *mine, "snapshot", "save", str(tmp_path / "backup.db"))
        assert (saved[0], (tmp_path / "backup.db").exists()) == (0, True), saved
        code, _, err = forked.run(bare, stranger, *mine, "auth", "whoami")
        assert code == 2
        assert err.startswith(f"Error: {url} shows a certificate of somebody this client")
        assert err.endswith("pass the file of its CA as --cacert\n")
        code, _, err = forked.run(bare, f"--cacert={tmp_path / 'none'}", "auth", "whoami")
        assert (code, err) == (
            128,
            f"Error: --cacert: '{tmp_path / 'none'}' can't be read: No such file or directory\n",
        )
        code, _, err = forked.run(bare, ca, "--dial-timeout=1s", "auth", "whoami")
        assert code == 2
        assert "--cert and --key" in err
        assert forked.run(bare, "--key=x", "get", "k")[::2] == (
            128,
            "Error: --key: goes with --cert\n",
        )
        tls = ("--insecure-transport=false", "--dial-timeout=1s")
        code, _, err = forked.run(f"127.0.0.1:{plain}", *tls, "get", "k")
        assert code == 2
        assert f"http://127.0.0.1:{plain}" in err
