"""coordctl against a real coordinator."""

import base64
import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from coordinator_sdk.testing import CoordinatorProcess, free_port, running
from tests.cli.ctl import Ctl, environment, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

PYTHON = [sys.executable, "-c"]


@pytest.fixture(scope="module")
def server() -> Iterator[CoordinatorProcess]:
    with running() as process:
        yield process


@pytest.fixture
def ctl(server: CoordinatorProcess) -> Iterator[Ctl]:
    made = Ctl(f"127.0.0.1:{server.port}")
    yield made
    made.end()


# ---------------------------------------------------------------- keys


def test_keys_are_put_read_and_deleted(ctl: Ctl) -> None:
    """put, get and del print what etcdctl prints."""
    assert ctl.ok("put", "kv/a", "1") == "OK\n"
    assert ctl.ok("put", "kv/a", "2", "--prev-kv") == "OK\nkv/a\n1\n"
    assert ctl.ok("put", "kv/b", stdin="from stdin") == "OK\n"
    assert ctl.ok("get", "kv/", "--prefix") == "kv/a\n2\nkv/b\nfrom stdin\n"
    assert ctl.ok("get", "kv/", "--prefix", "--keys-only", "--order=DESCEND") == "kv/b\n\nkv/a\n\n"
    assert ctl.ok("get", "kv/", "--prefix", "--count-only") == "2\n"
    assert ctl.ok("get", "kv/a", "--print-value-only", "--hex") == "\\x32\n"
    assert ctl.ok("del", "kv/", "--prefix", "--prev-kv") == "2\nkv/a\n2\nkv/b\nfrom stdin\n"
    assert ctl.ok("get", "kv/", "--prefix") == ""


def test_any_bytes_survive(ctl: Ctl) -> None:
    """Values that are no text come out as they went in."""
    value = bytes(range(256))
    ctl.ok("put", "bytes", stdin=value)
    answer = json.loads(ctl.ok("get", "bytes", "-w", "json"))
    assert base64.b64decode(answer["kvs"][0]["value"]) == value


def test_the_past_is_readable(ctl: Ctl) -> None:
    """get --rev reads a key as it was, and a future revision is an error of one line."""
    ctl.ok("put", "past", "1")
    revision = json.loads(ctl.ok("put", "past", "2", "-w", "json"))["header"]["revision"]
    assert ctl.ok("get", "past", f"--rev={revision - 1}") == "past\n1\n"
    done = ctl.run("get", "past", f"--rev={revision + 1000}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: etcdserver: mvcc: required revision is a future revision\n"


def test_a_transaction_is_read_from_standard_input(ctl: Ctl) -> None:
    """txn runs one of two branches and prints which."""
    ctl.ok("put", "t", "1")
    text = 'value("t") = "1"\n\nput t 2\nget t\n\nget t\n'
    assert ctl.ok("txn", stdin=text) == "SUCCESS\n\nOK\n\nt\n2\n"
    assert ctl.ok("txn", stdin=text) == "FAILURE\n\nt\n2\n"
    done = ctl.run("txn", stdin="nonsense\n\n")
    assert (done.returncode, done.stderr) == (3, "Error: malformed comparison: nonsense\n")


def test_leases_hold_keys(ctl: Ctl) -> None:
    """lease grants, tells, renews, lists and revokes; its keys go with it."""
    lease = ctl.ok("lease", "grant", "100").split()[1]
    ctl.ok("put", "leased", "1", f"--lease={lease}")
    told = ctl.ok("lease", "timetolive", lease, "--keys")
    assert told.startswith(f"lease {lease} granted with TTL(100s), remaining(")
    assert told.endswith("attached keys([leased])\n")
    once = ctl.ok("lease", "keep-alive", "--once", lease)
    assert once == f"lease {lease} keepalived with TTL(100)\n"
    assert lease in ctl.ok("lease", "list").splitlines()
    assert ctl.ok("lease", "revoke", lease) == f"lease {lease} revoked\n"
    assert ctl.ok("get", "leased") == ""
    assert ctl.ok("lease", "timetolive", lease) == f"lease {lease} already expired\n"
    assert ctl.ok("lease", "keep-alive", lease) == f"lease {lease} expired or revoked.\n"
    done = ctl.run("lease", "revoke", lease)
    assert done.stderr == "Error: failed to revoke lease (etcdserver: requested lease not found)\n"


# ---------------------------------------------------------------- watch


def test_a_watch_prints_changes_until_it_is_interrupted(ctl: Ctl) -> None:
    """watch prints history and what happens now, and ends by the signal that stops it."""
    revision = json.loads(ctl.ok("put", "w", "1", "-w", "json"))["header"]["revision"]
    watching = ctl.start("watch", "w", f"--rev={revision}", "--prev-kv")
    watching.shows("PUT\nw\n1\n")
    ctl.ok("put", "w", "2")
    ctl.ok("del", "w")
    watching.shows("PUT\nw\n1\nPUT\nw\n1\nw\n2\nDELETE\nw\n2\nw\n\n")
    assert watching.interrupt() == -signal.SIGINT
    assert watching.stderr == ""


def test_a_watch_runs_a_command(ctl: Ctl) -> None:
    """watch hands each event to a command, by its environment."""
    revision = json.loads(ctl.ok("put", "x", "a b", "-w", "json"))["header"]["revision"]
    code = "import os; print(*(v for k, v in sorted(os.environ.items()) if 'ETCD_WATCH' in k))"
    watching = ctl.start("watch", "x", f"--rev={revision}", "--", *PYTHON, code)
    watching.shows(f'PUT\nx\na b\n"PUT" "x" {revision} "a b"\n')


def test_watches_are_typed_in(ctl: Ctl) -> None:
    """watch -i follows every watch that is typed."""
    watching = ctl.start("watch", "-i")
    assert watching.process.stdin is not None
    watching.process.stdin.write(b"nonsense\nwatch typed/ --prefix\n")
    watching.process.stdin.flush()
    watching.shows("only support watch")

    def seen() -> bool:
        ctl.ok("put", "typed/a", "1")
        return "PUT\ntyped/a\n1\n" in watching.stdout

    until("an event of the typed watch", seen)
    assert watching.interrupt(signal.SIGTERM) == -signal.SIGTERM


def test_progress_is_asked_for(ctl: Ctl) -> None:
    """progress, typed into watch -i, tells of every watch up to which revision it has all."""
    first = int(json.loads(ctl.ok("put", "progress/a", "1", "-w", "json"))["header"]["revision"])
    last = int(json.loads(ctl.ok("put", "progress/a", "2", "-w", "json"))["header"]["revision"])
    watching = ctl.start("watch", "-i")
    assert watching.process.stdin is not None
    watch = f"watch progress/a --rev={first}\n".encode()
    watching.process.stdin.write(b"progress\n" + watch + b"watch progress/b\nprogress\n")
    watching.process.stdin.flush()
    told = f"progress notify: {last}\n"
    until("the progress of two watches", lambda: watching.stdout.count(told) == 2)
    events = "PUT\nprogress/a\n1\nPUT\nprogress/a\n2\n"
    assert watching.stdout.replace(told, "") == events
    assert watching.stdout.rindex(told) > watching.stdout.index(events)
    assert watching.interrupt() == -signal.SIGINT
    assert watching.stderr == ""


def test_a_compacted_watch_says_so(server: CoordinatorProcess, ctl: Ctl) -> None:
    """A watch whose history is gone ends with code 5 and says where to begin."""
    from coordinator_sdk.sync import Client

    with Client(server.url) as client:
        client.kv.put("c", "1")
        client.kv.compact(client.kv.put("c", "2").revision)
    done = ctl.run("watch", "c", "--rev=1")
    assert done.returncode == 5
    assert "required revision has been compacted" in done.stderr


# ---------------------------------------------------------------- locks and elections


def token_of(ctl: Ctl, name: str) -> int:
    held = json.loads(ctl.ok("lock", "show", name, "-w", "json"))["holder"]
    return int(held["token"]) if held else 0


def test_a_lock_is_held_while_a_command_runs(ctl: Ctl) -> None:
    """lock NAME -- command runs it with the fencing token, gives its code and lets go."""
    code = "import os, sys; print(os.environ['COORD_LOCK_TOKEN']); sys.exit(7)"
    done = ctl.run("lock", "job", "--", *PYTHON, code)
    assert (done.returncode, done.stderr) == (7, "Error: exit status 7\n")
    assert int(done.stdout) > 0
    assert ctl.ok("lock", "show", "job") == "job is free\n"
    assert ctl.ok("lock", "job", "echo", "again") == "again\n"
    done = ctl.run("lock", "job", "--", "/no/such/command")
    assert (done.returncode, done.stderr) == (127, "Error: /no/such/command: command not found\n")


def test_waiters_are_served_in_order(ctl: Ctl) -> None:
    """A second holder waits in the queue, which is shown, until the first is interrupted."""
    first = ctl.start("lock", "mx")
    first.shows("holding lock 'mx'")
    second = ctl.start("lock", "mx", "echo", "mine now")
    until("a waiter", lambda: "  1. coordctl.py@" in ctl.ok("lock", "show", "mx"))
    assert second.stdout == ""
    assert [line.split()[0] for line in ctl.ok("lock", "ls").splitlines()] == ["LOCK", "mx"]
    assert first.interrupt() == 0
    assert first.stdout.startswith("mx/")
    assert second.ends() == 0
    assert second.stdout == "mine now\n"


@pytest.mark.slow
def test_waiting_has_an_end(ctl: Ctl) -> None:
    """lock --timeout gives up, and a waiter that is interrupted leaves the queue."""
    first = ctl.start("lock", "taken")
    first.shows("holding lock")
    done = ctl.run("lock", "taken", "--timeout", "100ms")
    assert done.returncode == 1
    assert "was not granted within 0.1 s" in done.stderr
    waiter = ctl.start("lock", "taken")
    until("a waiter", lambda: "  1. " in ctl.ok("lock", "show", "taken"))
    assert waiter.interrupt() == -signal.SIGINT
    until("an empty queue", lambda: "  1. " not in ctl.ok("lock", "show", "taken"))


def test_a_command_is_stopped_when_the_lock_is_lost(ctl: Ctl) -> None:
    """When an operator takes the lock away, the command gets SIGTERM and coordctl fails."""
    holding = ctl.start("lock", "lost", "--", "sleep", "60")
    until("a holder", lambda: token_of(ctl, "lost"))
    assert ctl.ok("lock", "release", "lost", "--reason", "maintenance") == "lock lost released\n"
    assert holding.ends() == 1
    assert "maintenance" in holding.stderr
    assert "Error: lock 'lost' was lost, 'sleep' was stopped" in holding.stderr


def test_a_command_that_ignores_the_loss_is_killed(ctl: Ctl) -> None:
    """A command that ignores SIGTERM is killed after --kill-after, with what it started."""
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(60)"
    stubborn = [sys.executable, "-u", "-c", code]
    holding = ctl.start("lock", "stubborn", "--kill-after", "200ms", "--", *stubborn)
    holding.shows("up")
    ctl.ok("lock", "release", "stubborn", "--reason", "now")
    assert holding.ends() == 1


def test_a_command_may_be_left_alone(ctl: Ctl) -> None:
    """With --on-lost ignore the command goes on to its end; coordctl still fails."""
    code = "import sys; print('up', flush=True); sys.stdin.read(); print('done')"
    holding = ctl.start("lock", "ignored", "--on-lost=ignore", "--", *PYTHON, code)
    holding.shows("up")
    ctl.ok("lock", "release", "ignored", "--reason", "now")
    holding.shows("was lost")
    assert holding.process.stdin is not None
    holding.process.stdin.close()
    assert holding.ends() == 1
    assert "done" in holding.stdout
    assert "went on without it" in holding.stderr


def test_signals_reach_the_command(ctl: Ctl) -> None:
    """A signal to coordctl goes on to the command, whose end lets the lock go."""
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(9)); "
    code += "print('up', flush=True); signal.pause()"
    holding = ctl.start("lock", "signalled", "--", *PYTHON, code)
    holding.shows("up")
    assert holding.interrupt(signal.SIGTERM) == 9
    assert ctl.ok("lock", "show", "signalled") == "signalled is free\n"


def test_a_lock_may_be_called_like_a_command(ctl: Ctl) -> None:
    """`lock --name ls` locks ls; an ls in the wrong place takes nothing."""
    assert ctl.ok("lock", "--name", "ls", "--", "echo", "locked") == "locked\n"
    done = ctl.run("lock", "--ttl", "5s", "ls")
    assert done.returncode == 128
    assert "lock --name ls" in done.stderr


@pytest.mark.slow
def test_the_command_stops_when_nobody_renews_the_lock() -> None:
    """When the coordinator hangs, the command is stopped before the lock could be granted anew."""
    with running() as own:
        ctl = Ctl(f"127.0.0.1:{own.port}")
        try:
            holding = ctl.start("lock", "cut-off", "--ttl", "2s", "--", *PYTHON, _UP)
            holding.shows("up")
            own.pause()
            try:
                until("the child's end", lambda: "was lost" in holding.stderr)
            finally:
                own.resume()
            assert holding.ends() == 1
        finally:
            ctl.end()


_UP = "import time; print('up', flush=True); time.sleep(60)"


def test_leaders_follow_each_other(ctl: Ctl) -> None:
    """elect leads until it is interrupted; the next candidate follows, and a listener sees it."""
    listening = ctl.start("elect", "-l", "boss")
    first = ctl.start("elect", "boss", "first")
    first.shows("leading 'boss'")
    second = ctl.start("elect", "boss", "second")
    until("a candidate", lambda: "  1. " in ctl.ok("election", "show", "boss"))
    assert "boss" in ctl.ok("election", "ls")
    assert first.interrupt() == 0
    second.shows("leading 'boss'")
    assert second.stdout.splitlines()[1] == "second"
    listening.shows("second")
    lines = listening.stdout.splitlines()
    assert lines[1::2] == ["first", "second"]
    assert all(line.startswith("boss/") for line in lines[::2])


# ---------------------------------------------------------------- services and topics


def test_an_instance_comes_and_goes(ctl: Ctl) -> None:
    """service register registers until a signal; ls, show and watch see it."""
    watching = ctl.start("service", "watch", "web")
    flags = ["--tag", "blue", "--meta", "team=a", "--zone", "eu", "--instance", "web-1"]
    registered = ctl.start("service", "register", "web", "10.0.0.5:80", *flags)
    registered.shows("instance web-1 registered")
    assert ctl.ok("service", "ls").splitlines()[1].split() == ["web", "1", "1", "passing"]
    row = ctl.ok("service", "show", "web").splitlines()[1]
    assert row.split()[:3] == ["web-1", "10.0.0.5:80", "passing"]
    shown = json.loads(ctl.ok("service", "show", "web", "-w", "json"))[0]
    assert (shown["tags"], shown["metadata"], shown["zone"]) == (["blue"], {"team": "a"}, "eu")
    watching.shows("UP     web/web-1 10.0.0.5:80 passing")
    assert registered.interrupt(signal.SIGTERM) == 0
    watching.shows("DOWN   web/web-1")
    assert ctl.ok("service", "ls", "web").splitlines() == ["SERVICE  INSTANCES  STATUS"]


def test_an_instance_lives_as_long_as_its_command(ctl: Ctl) -> None:
    """service register with a command gives its exit code and deregisters."""
    done = ctl.run("service", "register", "short", "h:1", "--", *PYTHON, "raise SystemExit(4)")
    assert done.returncode == 4
    assert ctl.ok("service", "show", "short").count("\n") == 1


def test_messages_are_kept_and_followed(ctl: Ctl) -> None:
    """topic creates, publishes, lists and subscribes."""
    created = ctl.ok("topic", "create", "news.a", "--max-messages", "10", "--max-age", "1h")
    assert created == "topic news.a created\n"
    assert ctl.ok("topic", "publish", "news.a", "one") == "1\n"
    assert ctl.ok("topic", "publish", "news.a", stdin="two") == "2\n"
    assert ctl.ok("topic", "subscribe", "news.>", "--start=earliest", "--count=2") == (
        "news.a 1 one\nnews.a 2 two\n"
    )
    row = ctl.ok("topic", "ls", "news.*").splitlines()[1].split()
    assert row[:4] == ["news.a", "2", "1", "2"]
    following = ctl.start("topic", "subscribe", "news.a", "--start=2", "-w", "json")
    following.shows("dHdv")
    ctl.ok("topic", "publish", "news.a", "three", "--header", "kind=last")
    following.shows('"headers":{"kind":"last"}')
    assert following.interrupt() == -signal.SIGINT


def test_namespaces_keep_things_apart(ctl: Ctl) -> None:
    """What is in one namespace is not seen in another."""
    ctl.ok("--namespace", "other", "topic", "publish", "apart", "1")
    assert "apart" in ctl.ok("topic", "ls", "--namespace=other")
    assert "apart" not in ctl.ok("topic", "ls")


# ---------------------------------------------------------------- the cluster


def test_sessions_show_what_they_hold(ctl: Ctl) -> None:
    """session ls names processes and what hangs on them."""
    ctl.start("lock", "held-here").shows("holding")
    rows = [line for line in ctl.ok("session", "ls").splitlines() if "held-here" in line]
    assert len(rows) == 1
    assert "locks/default/held-here" in rows[0]
    found = json.loads(ctl.ok("session", "ls", "-w", "json"))
    assert any("locks/default/held-here" in session["holds"] for session in found)


def test_endpoints_tell_how_they_stand(ctl: Ctl) -> None:
    """endpoint status and health ask every endpoint; a dead one makes them fail."""
    status = ctl.ok("endpoint", "status").strip().split(", ")
    assert status[0] == f"http://{ctl.endpoint}"
    assert status[4:6] == ["true", "false"]
    done = ctl.run("endpoint", "health")
    assert (done.returncode, done.stdout) == (0, "")
    assert "is healthy: successfully committed proposal: took = " in done.stderr
    both = f"{ctl.endpoint},127.0.0.1:{free_port()}"
    done = ctl.run("endpoint", "health", "--endpoints", both, "--dial-timeout=2s")
    assert done.returncode == 1
    assert "is unhealthy" in done.stderr
    assert done.stderr.endswith("Error: unhealthy cluster\n")
    made = json.loads(ctl.ok("endpoint", "status", "--cluster", "-w", "json"))
    assert made[0]["Status"]["coordinator"]["role"] == "leader"


def test_members_are_listed(ctl: Ctl) -> None:
    """member list shows the one member."""
    line = ctl.ok("member", "list").strip().split(", ")
    assert (line[1], line[-1], len(line)) == ("started", "false", 6)
    members = json.loads(ctl.ok("member", "list", "-w", "json"))["members"]
    assert members[0]["ID"] == int(line[0], 16)


@pytest.mark.slow
def test_without_a_server_the_error_says_what_to_do() -> None:
    """With nobody listening, one line names the address and how to start a coordinator."""
    nowhere = Ctl(f"127.0.0.1:{free_port()}")
    done = nowhere.run("get", "a", "--dial-timeout=300ms")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert nowhere.endpoint in done.stderr
    assert "start one with" in done.stderr
    assert nowhere.ok("version").startswith("coordctl version: ")


def test_a_reader_that_goes_is_no_error(ctl: Ctl) -> None:
    """When the reader of its output has gone, coordctl ends quietly, by SIGPIPE."""
    ctl.ok("put", "pipe", "x" * 100_000)
    done = subprocess.run(
        ["sh", "-c", '"$@" | head -c 1; true', "sh", *ctl.command("get", "pipe")],
        env=environment(ctl.endpoint),
        capture_output=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == (b"p", b"")


@pytest.mark.slow
def test_members_come_and_go(ctl: Ctl) -> None:
    """member add tells how to start the new one; update, promote and remove tell what was done."""
    url, other = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    lines = ctl.ok("member", "add", "second", f"--peer-urls={url}", "--promote").splitlines()
    words = lines[0].split()
    member, cluster = words[1], words[-1]
    assert words == ["Member", member, "added", "to", "cluster", cluster]
    listed = ctl.ok("member", "list").splitlines()
    [first] = [line.split(", ") for line in listed if not line.startswith(member)]
    assert f"{member}, unstarted, , {url}, , true" in listed
    cluster_line = next(line for line in lines if line.startswith("ETCD_INITIAL_CLUSTER="))
    assert set(cluster_line.split("=", 1)[1].strip('"').split(",")) == {
        f"{first[2]}={first[3]}",
        f"second={url}",
    }
    assert lines[1] == ""
    assert lines[2] == 'ETCD_NAME="second"'
    assert lines[4:] == [
        f'ETCD_INITIAL_ADVERTISE_PEER_URLS="{url}"',
        'ETCD_INITIAL_CLUSTER_STATE="existing"',
    ]
    told = ctl.ok("member", "update", member, f"--peer-urls={other}")
    assert told.split() == ["Member", member, "updated", "in", "cluster", cluster]
    refused = ctl.run("member", "promote", member)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "in sync with leader" in refused.stderr
    made = json.loads(ctl.ok("member", "remove", member, "-w", "json"))
    assert [f"{one['ID']:x}" for one in made["members"]] == [first[0]]
    refused = ctl.run("member", "remove", member)
    assert refused.stderr == "Error: etcdserver: member not found\n"


def test_a_voter_is_added_on_request(ctl: Ctl) -> None:
    """member add --learner=false asks for a voter, which is no learner to be promoted."""
    url = f"--peer-urls=http://127.0.0.1:{free_port()}"
    done = ctl.run("member", "add", "x", url, "--learner=false", "--promote")
    assert (done.returncode, done.stderr) == (128, "Error: --promote: only a learner is promoted\n")


def test_the_leader_moves_only_to_members(ctl: Ctl) -> None:
    """move-leader names the former and the new leader, and refuses who is no voter."""
    own = ctl.ok("member", "list").split(",")[0]
    told = ctl.ok("move-leader", own)
    assert told == f"Leadership transferred from {own} to {own}\n"
    refused = ctl.run("move-leader", "9")
    assert refused.stderr == "Error: etcdserver: bad leader transferee\n"


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (("member", "add"), 128, "member name not provided"),
        (("member", "add", "x"), 128, "member peer urls not provided"),
        (
            ("member", "add", "x", "http://a:1"),
            128,
            "too many arguments, did you mean --peer-urls=http://a:1",
        ),
        (("member", "add", "x", "--peer-urls=a:1"), 1, "URL scheme must be http"),
        (("member", "remove"), 128, "member ID is not provided"),
        (("member", "update", "zz"), 128, 'strconv.ParseUint: parsing "zz": invalid syntax'),
        (("member", "update", "1"), 128, "member peer urls not provided"),
        (("move-leader",), 128, "move-leader command needs 1 argument"),
    ],
)
def test_wrong_words_about_members_are_refused(
    ctl: Ctl, args: tuple[str, ...], status: int, text: str
) -> None:
    """Member commands without what they need say so before anything is sent."""
    done = ctl.run(*args)
    assert (done.returncode, done.stdout) == (status, "")
    assert text in done.stderr
