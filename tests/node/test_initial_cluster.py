"""The first members of a cluster, and the ids that follow from them."""

import pytest

from coordinator.node.initial_cluster import InitialCluster, cluster_id, member_id, peer_url

TEXT = "a=http://127.0.0.1:2380,b=http://127.0.0.1:2390,a=http://10.0.0.1:2380"


def test_the_text_is_read_and_written():
    """What --initial-cluster says is read; a name that repeats has several URLs."""
    cluster = InitialCluster.parse(TEXT, "t")
    assert cluster.names_to_urls == {
        "a": ("http://127.0.0.1:2380", "http://10.0.0.1:2380"),
        "b": ("http://127.0.0.1:2390",),
    }
    assert InitialCluster.parse(str(cluster), "t") == cluster


def test_ids_do_not_depend_on_the_order():
    """Ids are the same however members and URLs are ordered, and others with another token."""
    cluster = InitialCluster.parse(TEXT, "t")
    turned = InitialCluster.parse(",".join(reversed(TEXT.split(","))), "t")
    assert cluster.member_ids == turned.member_ids
    assert cluster.cluster_id == turned.cluster_id
    other = InitialCluster.parse(TEXT, "u")
    assert cluster.cluster_id != other.cluster_id
    assert set(cluster.member_ids.values()).isdisjoint(other.member_ids.values())


def test_member_ids_are_those_of_etcd_but_positive():
    """A member has the id that etcd gives it, without the sign bit."""
    # What a lone etcd with its defaults is called.
    known = 0x8E9E05C52164694D
    assert member_id(["http://localhost:2380"], "etcd-cluster") == known & ((1 << 63) - 1)
    assert cluster_id([1, 2]) == cluster_id([2, 1]) > 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "=http://127.0.0.1:2380",
        "a=",
        "a=127.0.0.1:2380",
        "a=http://127.0.0.1",
        "a=http://127.0.0.1:2380/path",
        "a=http://u@127.0.0.1:2380",
        "a=http://127.0.0.1:x",
        "a=http://127.0.0.1:2380,b=http://127.0.0.1:2380",
    ],
)
def test_what_is_malformed_is_refused(text: str):
    """A text that is no list of members is refused, as are two members of one URL."""
    with pytest.raises(ValueError, match=r"."):
        InitialCluster.parse(text, "t")


def test_a_peer_url_has_one_form():
    """A slash at the end and capitals in the host make no other URL."""
    assert peer_url("http://Host:2380/") == "http://host:2380"
    assert peer_url("https://[::1]:2380") == "https://[::1]:2380"
