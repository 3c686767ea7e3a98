"""What WARDGATE_REDIS_URL may say, and what it is read as."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.errors import StartRefused
from gateway.redis_url import parse
from gateway.settings import Settings

PASSWORD = "canary-of-the-redis"


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("redis://host", "redis://host"),
        ("rediss://user:p%40ss@host:1/2?ssl_cert_reqs=none", None),
        ("unix:///run/redis.sock?db=1", None),
        ("redis+unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_one_server_is_what_the_library_reads(url: str, read: str | None) -> None:
    found = parse(url)
    assert (found.kind, found.whole, found.named) == ("one", read or url, ())


def test_sentinels_are_asked_with_their_own_password() -> None:
    found = parse(
        "rediss+sentinel://app:p%40ss@one:1,two,[::1]:3/limits/4"
        "?sentinel_username=guard&sentinel_password=g%2Fd&ssl_ca_certs=/etc/ca.pem"
    )
    assert (found.kind, found.service) == ("sentinel", "limits")
    assert found.named == (("one", 1), ("two", 26379), ("::1", 3))
    query = "?ssl_ca_certs=%2Fetc%2Fca.pem"
    assert found.of_primary == f"rediss://app:p%40ss@/4{query}"
    assert [found.of_sentinel(node) for node in found.named] == [
        f"rediss://guard:g%2Fd@one:1/{query}",
        f"rediss://guard:g%2Fd@two:26379/{query}",
        f"rediss://guard:g%2Fd@[::1]:3/{query}",
    ]


def test_sentinels_without_a_password_are_not_told_the_primarys() -> None:
    found = parse(f"redis+sentinel://:{PASSWORD}@one/limits")
    assert found.of_sentinel(("one", 26379)) == "redis://one:26379/?"
    assert found.of_primary == f"redis://:{PASSWORD}@/?"


def test_every_node_of_a_cluster_is_asked_with_the_same_password() -> None:
    found = parse(f"redis+cluster://:{PASSWORD}@one:1,two/")
    assert (found.kind, found.named) == ("cluster", (("one", 1), ("two", 6379)))
    assert found.of(("three", 5)) == f"redis://:{PASSWORD}@three:5/?"


@pytest.mark.parametrize(
    "url",
    [
        "http://host",
        "redis:/host",
        "redis://",
        "redis:///1",
        "unix://host/run/redis.sock",
        "redis://host:0",
        "redis://host:x",
        "redis+sentinel://host",  # no service
        "redis+sentinel://host/",
        "redis+sentinel://host/limits/x",
        "redis+sentinel://host:0/limits",
        "redis+sentinel://one,/limits",
        "redis+sentinel:///limits",
        "redis+sentinel://host/limits?sentinel_host=1",
        "redis+cluster://host/1",  # a cluster has one database
        "redis+cluster://one:1,two:x",
        "redis+cluster://[::1",
        "redis+cluster://" + ",".join(["host"] * 65),
        "valkey+cluster://host",
    ],
)
def test_what_cannot_be_read_is_refused_without_being_shown(url: str) -> None:
    secret = url.replace("://", f"://:{PASSWORD}@", 1)
    with pytest.raises(StartRefused, match="WARDGATE_REDIS_URL") as refused:
        Settings.from_env({"WARDGATE_REDIS_URL": secret})
    assert PASSWORD not in str(refused.value)


def test_those_of_the_docs_are_read() -> None:
    page = (Path(__file__).parent.parent / "docs" / "redis.md").read_text()
    urls = re.findall(r"`((?:rediss?|unix)[a-z+]*://.*?)`", page)
    assert [parse(url).kind for url in urls] == ["one"] * 3 + ["sentinel", "cluster"]


def test_it_is_never_shown_whole() -> None:
    for url in (
        f"redis://:{PASSWORD}@host",
        f"redis+cluster://:{PASSWORD}@host",
        f"redis+sentinel://:{PASSWORD}@host/limits?sentinel_password={PASSWORD}&password={PASSWORD}",
    ):
        assert PASSWORD not in repr(parse(url))
