"""Where a request goes: to a permitted address of its origin, whatever names, redirects and the
environment say."""

from __future__ import annotations

import asyncio
import os
from ipaddress import ip_network

import pytest

from gateway.addresses import AddressPolicy
from gateway.upstream.seam import Outbound
from tests import engines
from tests.engines import Stand, names, soon
from tests.ports import dead_port
from tests.test_disconnect import full_listener
from tests.test_engine_origin import HELLO, Origin, answering

stand = engines.stand
DENIED = "UpstreamError upstream_denied unsent"
UNREACHED = "UpstreamError upstream_failed unsent"
CLOSED = AddressPolicy()
V4 = AddressPolicy([ip_network("127.0.0.1/32")])


def at(origin: str) -> Outbound:
    return Outbound("POST", origin, b"/", [], b"x")


# `{port}` is the origin's own; none of them may reach it, or anything else.
LITERALS = [
    "http://127.0.0.1:{port}",
    "https://127.0.0.1:{port}",
    "https://[::1]:{port}",
    "https://[::ffff:127.0.0.1]:{port}",
    "https://[0:0:0:0:0:ffff:7f00:1]:{port}",
    "https://[64:ff9b::7f00:1]:{port}",
    "https://127.1:{port}",
    "https://127.0.0.1.:{port}",
    "https://2130706433:{port}",
    "https://0177.0.0.1:{port}",
    "https://0.0.0.0:{port}",
    "https://169.254.169.254:{port}",
    "https://10.0.0.1:{port}",
    "http://93.184.215.14:{port}",
]


@pytest.mark.parametrize("origin", LITERALS)
async def test_literal_address_that_is_not_permitted_is_not_connected_to(
    stand: Stand, origin: str
) -> None:
    engine = stand.engine(policy=CLOSED)
    outcome = await stand.outcome(engine, at(origin.format(port=stand.origin.port)))
    assert outcome == stand.expect(DENIED)
    assert stand.origin.wires == []


@pytest.mark.parametrize("spelled", ["0x7f000001", "0x7f.1", "localhost"])
async def test_name_for_a_forbidden_address_is_not_connected_to(stand: Stand, spelled: str) -> None:
    """Some of these are addresses to a resolver only: what it makes of them is judged."""
    engine = stand.engine(policy=CLOSED)
    outcome = await stand.outcome(engine, at(f"https://{spelled}:{stand.origin.port}"))
    assert outcome in (DENIED, UNREACHED)
    assert stand.origin.wires == []


NAMES = {
    "the first one forbidden": ["10.0.0.1", "127.0.0.1"],
    "the last one forbidden": ["127.0.0.1", "10.0.0.1"],
    "one in IPv6 forbidden": ["::1", "127.0.0.1"],
}


@pytest.mark.parametrize("case", NAMES)
async def test_forbidden_addresses_of_a_name_are_passed_over(stand: Stand, case: str) -> None:
    """Each is judged by itself, as `localhost` of two families shows; no other is connected to."""
    with names({"mixed.test": NAMES[case]}):
        engine = stand.engine(policy=V4)
        outcome = await stand.outcome(engine, at(f"http://mixed.test:{stand.origin.port}"))
        assert (outcome, len(stand.origin.wires)) == ("200 b'hello'", 1)


async def test_name_without_a_permitted_address_is_not_connected_to(stand: Stand) -> None:
    with names({"inside.test": ["127.0.0.2", "127.0.0.1", "10.0.0.1"]}):
        engine = stand.engine(policy=CLOSED)
        outcome = await stand.outcome(engine, at(f"http://inside.test:{stand.origin.port}"))
        assert (outcome, len(stand.origin.wires)) == (DENIED, 0)


async def test_address_that_was_checked_is_the_one_connected_to(stand: Stand) -> None:
    """A name that resolves to something else a moment later gains nothing by it."""
    table: dict[str, list[str] | None] = {"rebinding.test": ["127.0.0.1"]}
    with names(table) as asked:
        engine = stand.engine(policy=V4)
        outbound = at(f"http://rebinding.test:{stand.origin.port}")
        task = asyncio.ensure_future(stand.outcome(engine, outbound))
        await soon(lambda: bool(asked))
        table["rebinding.test"] = ["127.0.0.2"]
        assert await task == "200 b'hello'"
        assert asked == ["rebinding.test"]


async def test_kept_connection_needs_no_resolving(stand: Stand) -> None:
    with names({"here.test": ["127.0.0.1"]}) as asked:
        engine = stand.engine()
        for _ in range(3):
            outbound = at(f"http://here.test:{stand.origin.port}")
            assert await stand.outcome(engine, outbound) == "200 b'hello'"
        assert asked == ["here.test"]
    host = f"here.test:{stand.origin.port}".encode()
    assert {request.value(b"host") for request in stand.origin.requests} == {host}


async def test_names_of_one_address_do_not_share_connections(stand: Stand) -> None:
    with names({"one.test": ["127.0.0.1"], "two.test": ["127.0.0.1"]}):
        engine = stand.engine()
        for name in ("one", "two", "one", "two"):
            outbound = at(f"http://{name}.test:{stand.origin.port}")
            assert await stand.outcome(engine, outbound) == "200 b'hello'"
    assert [len(wire.requests) for wire in stand.origin.wires] == [2, 2]


async def test_unknown_name_fails_before_anything_is_sent(stand: Stand) -> None:
    with names({}):
        engine = stand.engine()
        assert await stand.outcome(engine, at("http://unknown.test:80")) == UNREACHED
    await stand.empty(engine)


async def test_resolving_takes_no_longer_than_connecting_may(stand: Stand) -> None:
    with names({"slow.test": None}):
        engine = stand.engine(connect=0.1)
        outcome = await stand.outcome(engine, at("http://slow.test:80"))
    assert outcome == "UpstreamTimeout upstream_timeout unsent"


async def test_port_nobody_listens_on_fails_before_anything_is_sent(stand: Stand) -> None:
    engine = stand.engine(most=1)
    for _ in range(3):
        assert await stand.outcome(engine, at(f"http://127.0.0.1:{dead_port()}")) == UNREACHED
    await stand.empty(engine)


@pytest.mark.parametrize("dead", ["::1", "127.0.0.2", "127.0.0.2 twice"])
async def test_next_address_is_tried_when_nobody_listens_on_one(stand: Stand, dead: str) -> None:
    first = [dead.split()[0]] * (2 if dead.endswith("twice") else 1)
    with names({"localhost": [*first, "127.0.0.1"]}):
        engine = stand.engine()
        outbound = at(f"http://localhost:{stand.origin.port}")
        assert await stand.outcome(engine, outbound) == "200 b'hello'"
    assert len(stand.origin.requests) == 1


async def test_next_address_is_tried_when_one_does_not_answer(stand: Stand) -> None:
    """Long before connecting has taken too long."""
    with full_listener() as port:
        origin = Origin(answering(HELLO), "127.0.0.2")
        origin.port = port
        async with origin:
            with names({"half.test": ["127.0.0.1", "127.0.0.2"]}):
                engine = stand.engine(connect=3.0)
                outbound = at(f"http://half.test:{port}")
                assert await stand.outcome(engine, outbound) == "200 b'hello'"
            assert len(origin.requests) == 1
            await engine.aclose()


async def test_all_addresses_dead_is_one_failure(stand: Stand) -> None:
    with names({"dead.test": ["::1", "127.0.0.1", "127.0.0.2"]}):
        engine = stand.engine()
        assert await stand.outcome(engine, at(f"http://dead.test:{dead_port()}")) == UNREACHED
    await stand.empty(engine)


async def test_ipv6_is_connected_to(stand: Stand) -> None:
    async with Origin(answering(HELLO), "::1") as origin:
        engine = stand.engine()
        assert await stand.outcome(engine, at(origin.url)) == "200 b'hello'"
        await engine.aclose()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(stand: Stand, status: int) -> None:
    async with Origin() as elsewhere:
        head = b"HTTP/1.1 %d X\r\nlocation: %s/x\r\n" % (status, elsewhere.url.encode())
        stand.origin.script = answering(head + b"content-length: 0\r\n\r\n")
        engine = stand.engine()
        assert await stand.get(engine) == f"{status} b''"
        assert (len(stand.origin.requests), elsewhere.wires) == (1, [])


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"])
async def test_proxies_of_the_environment_are_not_used(stand: Stand, variable: str) -> None:
    async with Origin() as proxy:
        os.environ[variable] = proxy.url
        engine = stand.engine()
        assert await stand.get(engine) == "200 b'hello'"
        assert (len(stand.origin.requests), proxy.wires) == (1, [])


async def test_cookies_are_not_kept(stand: Stand) -> None:
    cookie = b"HTTP/1.1 200 OK\r\nset-cookie: a=b; path=/\r\ncontent-length: 0\r\n\r\n"
    stand.origin.script = answering(cookie)
    engine = stand.engine()
    assert [await stand.get(engine) for _ in range(2)] == ["200 b''"] * 2
    assert [request.value(b"cookie") for request in stand.origin.requests] == [None, None]


ORIGINS = [
    "http://user@127.0.0.1:{port}",
    "http://user:secret@127.0.0.1:{port}",
    "http://evil.test@127.0.0.1:{port}",
    "http://127.0.0.1:{port}@evil.test",
    "http://127.0.0.1:{port}/path",
    "http://127.0.0.1:{port}/",
    "http://127.0.0.1:{port}?query",
    "http://127.0.0.1:{port}#fragment",
    "http://127.0.0.1:{port}\r\nx: y",
    "http://127.0.0.1 :{port}",
    "http://127.0.0.1\t:{port}",
    "http://127.0.0.1\\@evil.test:{port}",
    "http://127.0.0.1:99999",
    "http://127.0.0.1:-1",
    "http://127.0.0.1:x",
    "http://:{port}",
    "http://",
    "//127.0.0.1:{port}",
    "127.0.0.1:{port}",
    "ftp://127.0.0.1:{port}",
    "file:///etc/passwd",
    "unix:///tmp/socket",
    "",
]


@pytest.mark.parametrize("origin", ORIGINS)
async def test_what_is_no_origin_is_not_connected_to(stand: Stand, origin: str) -> None:
    engine = stand.engine()
    try:
        outcome = await stand.outcome(engine, at(origin.format(port=stand.origin.port)))
    except ValueError as error:
        outcome = type(error).__name__
    assert (outcome, len(stand.origin.wires)) == stand.expect((DENIED, 0))


async def test_address_is_checked_for_every_connection(stand: Stand) -> None:
    """A name that was good once is judged anew when a new connection is needed."""
    stand.origin.script = answering(HELLO.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
    table: dict[str, list[str] | None] = {"moving.test": ["127.0.0.1"]}
    with names(table):
        engine = stand.engine(policy=V4)
        outbound = at(f"http://moving.test:{stand.origin.port}")
        assert await stand.outcome(engine, outbound) == "200 b'hello'"
        table["moving.test"] = ["127.0.0.2"]
        assert await stand.outcome(engine, outbound) == stand.expect(DENIED)
