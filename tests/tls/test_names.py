"""Whom a certificate names."""

from coordinator.tls.names import certificate_names, names_of

SHOWN = {
    "subject": ((("organizationName", "acme"),), (("commonName", "alice"),)),
    "subjectAltName": (
        ("DNS", "alice.test"),
        ("IP Address", "127.0.0.1"),
        ("URI", "spiffe://acme/alice"),
        ("email", "alice@acme.test"),
    ),
}


def test_the_common_name_comes_first() -> None:
    """The common name is first, DNS names, URIs and email addresses follow, addresses do not."""
    assert names_of(SHOWN) == ("alice", "alice.test", "spiffe://acme/alice", "alice@acme.test")


def test_without_a_common_name_the_first_is_empty() -> None:
    """An alternative name never takes the place of a common name that is missing or ambiguous."""
    assert names_of({**SHOWN, "subject": ()})[:2] == ("", "alice.test")
    two = ((("commonName", "alice"),), (("commonName", "root"),))
    assert names_of({**SHOWN, "subject": two})[:2] == ("", "alice.test")


def test_who_shows_nothing_has_no_name() -> None:
    """Without TLS there are no names."""
    assert certificate_names(None) == ()
