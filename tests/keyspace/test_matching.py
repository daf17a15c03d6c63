"""Finding what is interested in a key, against trying every span."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.keyspace import SYSTEM, USER, prefix_end
from coordinator.keyspace.matching import Matcher, Span

texts = st.binary(max_size=3).map(lambda raw: bytes(b"\x00ab\xff"[byte % 4] for byte in raw))


def contains(span: Span, space: int, key: bytes) -> bool:
    if space != span.space:
        return False
    if not span.range_end:
        return key == span.key
    return key >= span.key and (span.range_end == b"\0" or key < span.range_end)


spans = st.one_of(
    st.builds(Span, st.sampled_from([USER, SYSTEM]), texts, texts),
    texts.map(lambda prefix: Span(USER, prefix, prefix_end(prefix))),
    st.sampled_from([Span(USER, b"", b"\0"), Span(USER, b"\0", b"\0")]),
)


@given(st.lists(spans, unique=True, max_size=12), st.data())
def test_matches_are_the_spans_that_contain_the_key(all_spans, data) -> None:
    """A key matches each span that contains it once, also after others were taken out."""
    matcher: Matcher[Span] = Matcher()
    present: list[Span] = []
    taken: list[tuple[int, bytes]] = []
    for span in all_spans:
        # Two spans that are the same prefix in other words would be one entry.
        if span.prefix is not None and (span.space, span.prefix) in taken:
            continue
        taken.append((span.space, span.prefix))
        matcher.add(span, span)
        present.append(span)
    gone = data.draw(st.lists(st.sampled_from(present), unique=True)) if present else []
    for span in gone:
        matcher.remove(span)
        present.remove(span)
    for space in (USER, SYSTEM):
        for key in (b"", b"a", b"ab", b"aba", b"b", b"\xff", b"\xff\xff", b"\x00", b"a\x00"):
            if not key:
                continue
            found = matcher.match(space, key)
            assert sorted(found) == sorted(one for one in present if contains(one, space, key))


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"a\xff", b"b"), (b"\xff", b"\0"), (b"", b"\0"), (b"a\xfe", b"a\xff")],
)
def test_the_end_of_a_prefix(prefix, end) -> None:
    """The range of a prefix ends where its last byte that is not 0xff is counted up."""
    assert prefix_end(prefix) == end
