"""coordctl's command line, its little languages and its printing, without a server."""

import argparse
import json

import pytest

from coordinator.cli import fields, kv, output, txn
from coordinator.cli.command import CommandError, context_of, hexadecimal, seconds
from coordinator.cli.coordctl import build_parser
from coordinator.cli.service import facts, split_address
from coordinator_sdk import KeyValue
from coordinator_sdk.protocol.kv import (
    Compare,
    CompareResult,
    CompareTarget,
    Delete,
    Put,
    PutResult,
    Range,
    RangeResult,
    SortOrder,
    SortTarget,
    TxnResult,
)
from coordinator_sdk.protocol.locks import LockHolder, LockInfo


def parse(*words: str) -> argparse.Namespace:
    found, rest = build_parser().parse_known_args(list(words))
    assert rest == []
    return found


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COORDCTL_ENDPOINTS", "COORDINATOR_ENDPOINTS", "ETCDCTL_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)


# ---------------------------------------------------------------- flags


@pytest.mark.parametrize(
    ("text", "value"), [("5s", 5), ("100ms", 0.1), ("1m30s", 90), ("1.5h", 5400), ("7", 7)]
)
def test_durations_are_written_as_in_go(text: str, value: float) -> None:
    """A duration is numbers with units, or a bare number of seconds."""
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "5x", "5s5", "-1s", " 5s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """A duration with another unit, sign or remainder is refused."""
    with pytest.raises(argparse.ArgumentTypeError, match="no duration"):
        seconds(text)


def test_flags_stand_anywhere() -> None:
    """Flags and arguments mix in any order, global flags also before the command."""
    found = parse("-w", "json", "get", "--prefix", "a", "--limit", "3", "--endpoints=h:1", "b")
    assert (found.args, found.limit, found.prefix) == (["a", "b"], 3, True)
    assert (found.write_out, found.endpoints) == ("json", "h:1")


def test_two_dashes_end_the_flags() -> None:
    """After -- everything is an argument, and where it stood is known."""
    found = parse("put", "key", "--", "--prefix")
    assert (found.args, found.dashed) == (["key", "--prefix"], 1)
    assert parse("put", "key", "value").dashed is None


def test_a_switch_takes_true_and_false() -> None:
    """A switch may be written --prefix=true or --prefix=false, as in Go."""
    assert parse("get", "a", "--prefix=true").prefix is True
    assert parse("get", "a", "--prefix=false").prefix is False
    with pytest.raises(CommandError, match="neither true nor false"):
        parse("get", "a", "--prefix=maybe")


def test_negative_numbers_are_arguments() -> None:
    """A negative number is an argument or a value, not an unknown flag."""
    assert parse("get", "a", "--rev", "-1").rev == -1
    assert parse("lease", "grant", "-1").args == ["-1"]


def test_unknown_flags_are_named() -> None:
    """An unknown flag or command is refused by its name."""
    with pytest.raises(CommandError, match="unknown flag: --bogus"):
        parse("get", "a", "--bogus=1")
    with pytest.raises(CommandError, match="bogus"):
        parse("bogus")


def test_the_environment_gives_what_flags_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoints come from the flag, then coordctl's, the SDK's and etcdctl's variables."""
    assert context_of(parse("version")).endpoints == ["http://127.0.0.1:2379"]
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", "etcd:1")
    assert context_of(parse("version")).endpoints == ["http://etcd:1"]
    monkeypatch.setenv("COORDINATOR_ENDPOINTS", "sdk:1,sdk:2")
    assert context_of(parse("version")).endpoints == ["http://sdk:1", "http://sdk:2"]
    monkeypatch.setenv("COORDCTL_ENDPOINTS", "ctl:1")
    assert context_of(parse("version")).endpoints == ["http://ctl:1"]
    flag = parse("version", "--endpoints", "https://[::1]:7")
    assert context_of(flag).endpoints == ["https://[::1]:7"]


@pytest.mark.parametrize("name", ["table", "bogus"])
def test_other_formats_are_refused_clearly(name: str) -> None:
    """A format that a command does not have is refused, saying which it has."""
    with pytest.raises(CommandError, match="use simple, fields, json or protobuf") as refusal:
        context_of(parse("get", "a", "-w", name))
    assert refusal.value.status == 4


@pytest.mark.parametrize("bad", ["ftp://x", "http://u:p@h:1", "http://h:1/path", "h:port"])
def test_bad_endpoints_are_refused(bad: str) -> None:
    """What is no endpoint, or holds credentials, is refused before anything is sent."""
    with pytest.raises(CommandError, match="endpoint") as refusal:
        context_of(parse("version", "--endpoints", bad))
    assert refusal.value.status == 128


def test_a_lock_may_have_any_name() -> None:
    """`lock ls` lists, `lock --name ls` locks, and an unclear `ls` is refused."""
    assert parse("lock", "ls").run is parse("lock", "ls", "pre").run
    assert parse("lock", "ls").run is not parse("lock", "x").run
    named = parse("lock", "--name", "ls", "--", "cmd", "-x")
    assert (named.name, named.args, named.run) == ("ls", ["cmd", "-x"], parse("lock", "x").run)
    assert parse("lock", "x", "ls", "-w", "json").args == ["x", "ls"]


@pytest.mark.parametrize(
    "words",
    [
        ["lock", "\udcff"],
        ["lock", "a", "--reason", "\udcff"],
        ["topic", "publish", "a", "b", "--header", "k=\udcff"],
        ["service", "ls", "\udcff", "--namespace", "x"],
        ["topic", "ls", "--namespace", "\udcff"],
    ],
)
def test_names_are_text(words: list[str]) -> None:
    """Where a name is meant, bytes that are no UTF-8 are refused before anything is sent."""
    with pytest.raises(CommandError, match="is not UTF-8") as refusal:
        context_of(parse(*words))
    assert refusal.value.status == 128


def test_keys_and_payloads_are_any_bytes() -> None:
    """Keys, values, payloads and arguments of commands need not be UTF-8."""
    for words in (["put", "\udcff", "\udcfe"], ["topic", "publish", "a", "\udcff"]):
        assert context_of(parse(*words)).args == parse(*words).args
    context_of(parse("lock", "a", "--", "echo", "\udcff"))
    assert kv.encode("\udcff") == b"\xff"


@pytest.mark.parametrize("text", ["", "0x1", "zz", "8000000000000000", "-1"])
def test_ids_are_hexadecimal(text: str) -> None:
    """An id is up to 16 hexadecimal digits of a positive number."""
    assert hexadecimal("7fffffffffffffff", "bad") == (1 << 63) - 1
    with pytest.raises(CommandError, match="expecting ID in Hex") as refusal:
        hexadecimal(text, "bad lease ID")
    assert refusal.value.status == 128


# ---------------------------------------------------------------- operations


def get(*words: str) -> Range:
    found = parse("get", *words)
    return kv.get_of(found, found.args)


def test_get_becomes_a_range() -> None:
    """The flags of get become the bounds, order and filters of a range."""
    assert get("a") == Range(b"a")
    assert get("a", "c", "--limit=2", "--rev=-1") == Range(b"a", b"c", 2)
    assert get("a\xff", "--prefix") == Range("a\xff".encode(), "a\xff".encode()[:-1] + b"\xc0")
    assert get("", "--prefix") == get("", "--from-key") == Range(b"\0", b"\0")
    assert get("b", "--from-key", "--keys-only") == Range(b"b", b"\0", keys_only=True)
    assert get("a", "--consistency=s").serializable
    by = get("a", "--sort-by=modify")
    assert (by.sort_order, by.sort_target) == (SortOrder.ASCEND, SortTarget.MOD)
    assert get("a", "--order=DESCEND").sort_order == SortOrder.DESCEND


def test_the_end_of_a_prefix() -> None:
    """The end of a prefix is the first key behind all that begin with it."""
    assert kv.after(b"ab") == b"ac"
    assert kv.after(b"a\xff\xff") == b"b"
    assert kv.after(b"\xff") == b"\0"


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["a", "--prefix", "--from-key"], 128),
        (["a", "b", "--prefix"], 128),
        (["a", "--keys-only", "--count-only"], 128),
        ([], 128),
        (["a", "--sort-by=x"], 4),
        (["a", "--order=x"], 4),
        (["a", "--consistency=x"], 4),
    ],
)
def test_what_get_refuses(words: list[str], status: int) -> None:
    """Flags that exclude each other, and unknown values, are refused with etcdctl's code."""
    with pytest.raises(CommandError) as refusal:
        get(*words)
    assert refusal.value.status == status


def test_words_are_split_as_in_a_shell() -> None:
    """Quotes of both kinds hold words together; escapes work in double ones."""
    assert txn.words('put k "a \\"b\\" \\x41\\u0042\\n" --lease=1') == [
        "put",
        "k",
        'a "b" AB\n',
        "--lease=1",
    ]
    assert txn.words("put 'a b' c") == ["put", "a b", "c"]


def test_comparisons_are_read() -> None:
    """Every target and relation of a comparison is understood."""
    assert txn.compare_of('mod("k") > "0"') == Compare(
        CompareTarget.MOD, CompareResult.GREATER, b"k", 0
    )
    assert txn.compare_of('val("k")="a b"') == Compare(
        CompareTarget.VALUE, CompareResult.EQUAL, b"k", value=b"a b"
    )
    assert txn.compare_of('lease("k") != "7f"').number == 0x7F
    assert txn.compare_of('c("k") < "5"').target == CompareTarget.CREATE
    assert txn.compare_of('ver("k(\\")") = "5"').key == b'k(")'


@pytest.mark.parametrize(
    "line",
    [
        'lease("a") = "ffffffffffffffffff"',
        'mod("a") = "9223372036854775808"',
        "bogus line",
        'mod("a") > "x"',
        'size("a") = "1"',
        'mod("a") ~ "1"',
        "mod(a) = 1",
    ],
)
def test_wrong_comparisons_are_refused(line: str) -> None:
    """A comparison that makes no sense is refused with the whole line."""
    with pytest.raises(CommandError, match="compar") as refusal:
        txn.compare_of(line)
    assert (refusal.value.status, line in str(refusal.value)) == (3, True)


def test_operations_are_read() -> None:
    """The operations of a transaction have the flags of their commands."""
    assert txn.op_of('put a "b c" --lease=ff') == Put(b"a", b"b c", 255)
    assert txn.op_of("get a --prefix") == Range(b"a", b"b")
    assert txn.op_of("del a b --prev-kv") == Delete(b"a", b"b", True)
    for line in ("frobnicate a", "put a", "get", "put a b --bogus"):
        with pytest.raises(CommandError, match="invalid txn request") as refusal:
            txn.op_of(line)
        assert refusal.value.status == 3


def test_addresses_and_facts() -> None:
    """Addresses with and without port, and name=value pairs, are read."""
    assert split_address("10.0.0.5:80") == ("10.0.0.5", 80)
    assert split_address("[::1]:80") == ("::1", 80)
    assert split_address("[::1]") == ("::1", 0)
    assert split_address("db") == ("db", 0)
    assert facts(["a=b=c", "d="]) == {"a": "b=c", "d": ""}
    for bad in ("h:70000", "h:x", "h:"):
        with pytest.raises(CommandError):
            split_address(bad)
    with pytest.raises(CommandError):
        facts(["novalue"])


# ---------------------------------------------------------------- printing


def test_answers_look_as_in_etcdctl() -> None:
    """Records are two lines; a transaction's answers stand apart by empty lines."""
    record = KeyValue(b"k", 1, 2, 3, 0, b"v")
    answer = TxnResult(5, True, [PutResult(5, record), RangeResult(5, [record])])
    assert output.response_lines(answer, False) == b"SUCCESS\n\nOK\nk\nv\n\nk\nv\n"
    assert output.record_lines(record, True) == b"\\x6b\n\\x76\n"


def test_json_leaves_out_what_is_empty() -> None:
    """The JSON of an answer is etcd's: base64, numbers, nothing empty."""
    record = KeyValue(b"k", 1, 2, 3, 0, b"")
    made = output.response_json(RangeResult(9, [record], False, 1), {"revision": 9})
    assert json.loads(json.dumps(made)) == {
        "header": {"revision": 9},
        "kvs": [{"key": "aw==", "create_revision": 1, "mod_revision": 2, "version": 3}],
        "count": 1,
    }


def test_structs_become_json_with_names() -> None:
    """What is our own is printed with names, ids as 16 digits, bytes in base64."""
    made = output.plain(LockInfo("default", "n", LockHolder(7, 255, "o", "t", 1)))
    assert made["holder"]["session"] == "00000000000000ff"
    assert (made["holder"]["token"], made["queue"]) == (7, [])


def test_names_of_others_do_not_reach_the_terminal_raw() -> None:
    """Control characters in names are shown as escapes, and tables stay aligned."""
    lines = output.columns(("A", "B"), [("x\x1b[31m\n", 1), ("long name", 22)])
    assert lines[1].startswith("x\\x1b[31m\\n")
    assert lines[1].index("1", 12) == lines[2].index("22")


def test_lengths_of_time() -> None:
    """A length of time is told in its two largest units."""
    shown = [output.span(value) for value in (0.25, 12, 61, 3700, 90_000)]
    assert shown == ["0.2s", "12s", "1m1s", "1h1m", "1d1h"]


def test_bytes_are_quoted_as_in_go() -> None:
    """What a watch hands to its command is quoted as with %q."""
    assert fields.quoted(b'a"\n\xff\x01') == '"a\\"\\n\\xff\\x01"'
    assert fields.quoted("ключ".encode()) == '"ключ"'
