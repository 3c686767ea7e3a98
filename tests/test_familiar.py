"""A head that came before is known by its bytes: what is read without the parser is what the parser
would have read, for any bytes; who may ask is asked each time; and nothing secret is kept."""

from __future__ import annotations

import gc
import json
import re
from typing import Any, cast

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from admin.demo.upstream import Received, Upstream
from gateway import credential
from gateway.client import edge
from gateway.client import familiar as module
from gateway.client.familiar import Familiar, familiar
from gateway.client.head import Head
from gateway.client.listener import Listener
from gateway.client.target import target_of
from gateway.client.turn import Turn
from gateway.errors import GatewayError, Malformed
from gateway.shapes import Headers
from tests.rig import OK, good
from tests.serve import RawClient, request_bytes
from tests.world import Served, World, served

KEYS = [credential.mint("wg").text.encode() for _ in range(2)]
BEARER = b"Bearer " + KEYS[0]


class Parsed:
    """What the parser makes of some bytes; `whole`: they were one request and no more."""

    def __init__(self, data: bytes) -> None:
        self.headers: Headers = []
        self.url, self.body, self.whole, self.begun = b"", b"", False, 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        try:
            self.parser.feed_data(data)
            self.valid = True
        except httptools.HttpParserUpgrade:
            self.valid = True
        except httptools.HttpParserError:
            self.valid = False

    def on_message_begin(self) -> None:
        self.begun += 1
        self.whole = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole = self.begun == 1

    def on_headers_complete(self) -> None:
        """As the listener has it."""
        if self.begun > 1:
            return
        method, version = self.parser.get_method().decode(), self.parser.get_http_version()
        target = target_of(self.url)
        self.turn = Turn(cast(Listener, None), method, target, self.headers, version)
        self.turn.keep_alive = self.parser.should_keep_alive() and version == "1.1"
        self.turn.upgrade = self.parser.should_upgrade()


def learned(data: bytes) -> Familiar | None:
    """What is made of a request that came to a listener."""
    seen = Parsed(data)
    if not (seen.valid and seen.whole):
        return None
    turn, head = seen.turn, Head(seen.headers)
    try:
        edge.check(turn, head)
    except GatewayError:
        return None
    return familiar(data, turn, head)


def request(value: bytes = BEARER, body: bytes = b"{}", *more: bytes, length: bytes = b"") -> bytes:
    lines = [
        b"POST /v1/chat/completions HTTP/1.1",
        b"Host: here",
        b"Authorization: " + value,
        *more,
    ]
    lines += [b"Content-Length: " + (length or b"%d" % len(body)), b"Accept: */*"]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def same(known: Familiar, cut: tuple[bytes, bytes], data: bytes) -> None:
    """What was cut out of `data` is what the parser reads in it."""
    given, body = cut
    seen = Parsed(data)
    turn = Turn(cast(Listener, None), *known.turn_of, known.headers, "1.1")
    turn.recognise(known.head, given, body)
    try:
        edge.check_credential(turn)
    except Malformed:  # so does a line more where the credential was
        assert not seen.valid or b"\r\n" in given
        assert not turn.keep_alive
        return
    assert seen.valid
    assert seen.whole
    assert seen.body == body
    head = Head(seen.headers)
    assert (seen.turn.method, target_of(seen.url)) == known.turn_of
    assert [value.strip() for value in head.credentials] == [given.strip()]
    assert head.passing == known.head.passing
    assert [name for name, _ in seen.headers] == [name for name, _ in known.headers]
    for field in ("hosts", "lengths", "encodings", "encoded", "expects", "narrow", "count"):
        assert getattr(head, field) == getattr(known.head, field)


NAMES = [b"Authorization", b"x-api-key", b"api-key", b"X-Goog-Api-Key", b"Cookie", b"X-Note"]
NAMES += [b"Content-Length", b"X-Content-Length", b"Connection", b"Transfer-Encoding", b"Expect"]
NAMES += [b"Upgrade", b"wardgate-config", b"Content-Encoding", b"content-length"]
VALUES = [BEARER, KEYS[0], KEYS[1], b"x", b"2", b"10", b"close", b"chunked", b"100-continue", b""]
LINES = st.lists(
    st.tuples(
        st.sampled_from(NAMES), st.sampled_from([b": ", b":", b":  "]), st.sampled_from(VALUES)
    ),
    max_size=4,
).map(lambda rows: [b"".join(row) for row in rows])
PIECES = [b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"0", b"12", b"Bearer ", *VALUES, b"\r\nX: 1"]
PIECES += [b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: 2", b"GET / HTTP/1.1\r\n\r\n"]
# (place, bytes taken away there, piece put in their place)
CUTS = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 20), st.sampled_from(PIECES)), max_size=3
)


@given(LINES, st.binary(min_size=1, max_size=30), CUTS, st.sampled_from(VALUES))
@example(
    [], b"ab", [(49, 73, b"Bearer x\r\nTransfer-Encoding: chunked\r\nX: aaaaaaaaaaaaaaa")], BEARER
)
@example([b"X-Content-Length: 2"], b"ab", [(0, 0, b"")], BEARER)
@example([b"X-Note: " + BEARER], b"ab", [], BEARER)
def test_what_is_known_is_what_the_parser_would_have_read(
    lines: list[bytes], body: bytes, cuts: list[tuple[int, int, bytes]], value: bytes
) -> None:
    known = learned(request(value, b"{}", *lines))
    if known is None:
        return
    data = request(value, body, *lines)
    for place, gone, piece in cuts:
        data = data[:place] + piece + data[place + gone :]
    cut = known.read(data)
    if cut is not None:
        same(known, cut, data)


@pytest.mark.parametrize("size", [1, 8, 10, 96, 100, 2_000, 10_000, 70_000, 200_000])
def test_another_key_and_another_body_are_known(size: int) -> None:
    known = learned(request())
    assert known is not None
    body = b"x" * size
    value = b"Bearer " + KEYS[1]
    assert known.read(request(value, body)) == (value, body)


@pytest.mark.parametrize(
    "other",
    [
        request(body=b"{}")[:-1],
        request(body=b"{}") + b"G",
        request(BEARER + b"x"),
        request(body=b"x" * 9),  # just below a power of ten
        request(body=b"x" * 997),
        request(length=b"02"),
        request(length=b"+2"),
        request(body=b"", length=b"0"),
        request().replace(b"/chat/", b"/chit/"),
        request().replace(b"*/*", b"*/+"),
        request(BEARER, b"{}", b"X-Note: 1"),
        request()[:60],
        b"",
        b"\r\n" + request(),
    ],
)
def test_anything_else_is_the_parsers(other: bytes) -> None:
    known = learned(request())
    assert known is not None
    assert known.read(other) is None


@pytest.mark.parametrize(
    "more",
    [
        [b"x-api-key: " + KEYS[1]],
        [b"x-copy: " + KEYS[0] + b" " + BEARER],
        [b"Expect: 100-continue"],
        [b"Connection: close"],
        [b"Connection: upgrade", b"Upgrade: websocket"],
        [b"x-note: " + b"n" * 4_096],
        [b"x-note: " + KEYS[1]],
        [b"Cookie: session=1"],
        [b"Proxy-Authorization: Basic eDp5"],
    ],
)
def test_what_is_more_than_a_key_and_a_length_is_not_learned(more: list[bytes]) -> None:
    assert learned(request(BEARER, b"{}", *more)) is None
    assert learned(request(BEARER, b"{}", b"x-note: n")) is not None


@pytest.mark.parametrize(
    "line", [b"POST /v1/chat/completions?key=%b HTTP/1.1", b"POST /x HTTP/1.0"]
)
def test_a_key_in_the_query_and_an_old_version_are_not_learned(line: bytes) -> None:
    line = line.replace(b"%b", KEYS[0])
    assert learned(request().replace(b"POST /v1/chat/completions HTTP/1.1", line)) is None


def test_connections_share_what_is_the_same_and_keep_no_key() -> None:
    module._known.clear()
    one = learned(request(b"Bearer " + KEYS[0]))
    other = learned(request(b"Bearer " + KEYS[1], b"[1, 2]"))
    assert one is not None
    assert one is other
    kept = [module._known, *gc.get_referents(one)]
    assert one.head.credentials == []
    for key in KEYS:
        assert key.decode() not in repr([*kept, one.headers, one.head.passing, one._parts])


def test_what_is_known_has_an_end() -> None:
    for number in range(2 * module._MOST_KNOWN):
        assert learned(request(BEARER, b"{}", b"x-note: %d" % number)) is not None
        assert len(module._known) <= module._MOST_KNOWN


def strangers(house: Served) -> int:
    """Of the one connection: how many requests in a row had to be read by the parser."""
    for one in gc.get_objects():
        if isinstance(one, Listener) and not one._gone:
            here = one.transport.get_extra_info("sockname")
            if here is not None and here[1] == house.port:
                return one._strange
    raise AssertionError("nobody is connected")


def asked(key: str, text: str = "hi", **headers: str) -> bytes:
    body = json.dumps({"model": "gpt-4o", "messages": [{"role": "user", "content": text}]})
    given = {"authorization": f"Bearer {key}", "content-type": "application/json", **headers}
    return request_bytes("POST", "/v1/chat/completions", given, body.encode())


def shape(received: Received) -> tuple[Any, ...]:
    return received.method, received.path, sorted(received.headers), received.body


async def test_a_familiar_request_arrives_as_the_first_one_did() -> None:
    async with Upstream(good()) as upstream:
        world = World()
        world.config("openai", f"{upstream.origin}/v1")
        key = world.key()
        async with served(world) as house, RawClient(house.port) as client:
            for strange in (1, 0, 0, 0):
                await client.send(asked(key, accept="*/*"))
                answer = await client.answer("POST")
                assert (answer.status, answer.body, strangers(house)) == (200, OK, strange)
            await client.send(asked(key, "a longer one" * 99, accept="*/*"))
            assert ((await client.answer("POST")).status, strangers(house)) == (200, 0)
        first, *others = map(shape, upstream.received)
        assert others[:3] == [first] * 3
        assert b"a longer one" * 99 in upstream.received[-1].body


async def test_a_body_that_is_a_familiar_request_is_a_body() -> None:
    async with Upstream(good()) as upstream:
        world = World()
        world.config("openai", f"{upstream.origin}/v1")
        key = world.key()
        async with served(world) as house, RawClient(house.port) as client:
            for strange in (1, 0):
                await client.send(asked(key))
                assert ((await client.answer("POST")).status, strangers(house)) == (200, strange)
            inner = asked(key)
            outer = asked(key, accept="*/*", expect="100-continue").partition(b"\r\n\r\n")[0]
            length = rb"\g<1>%d" % len(inner)
            await client.send(re.sub(rb"(?i)(\ncontent-length: )\d+", length, outer) + b"\r\n\r\n")
            assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await client.send(inner)
            answer = await client.answer("POST")
            assert (answer.status, b"JSON" in answer.body) == (400, True)
        assert len(upstream.received) == 2


async def test_whose_key_it_is_is_asked_each_time() -> None:
    async with Upstream(good()) as upstream:
        world = World()
        world.config("openai", f"{upstream.origin}/v1")
        keys = [world.key(), world.key()]
        unknown = credential.mint("wg").text
        async with served(world) as house, RawClient(house.port) as client:

            async def status(key: str) -> int:
                await client.send(asked(key))
                return (await client.answer("POST")).status

            assert [await status(key) for key in (*keys, unknown, keys[0])] == [200, 200, 401, 200]
            assert strangers(house) == 0
            used = house.gateway.take_used()
            assert set(used) == {credential.id_in(key) for key in keys}
            del world.clients[credential.id_in(keys[0])]
            house.gateway.swap(world.snapshot())
            assert [await status(key) for key in keys] == [401, 200]
            assert strangers(house) == 0


async def test_a_credential_no_header_may_have_ends_the_connection() -> None:
    async with Upstream(good()) as upstream:
        world = World()
        world.config("openai", f"{upstream.origin}/v1")
        key = world.key()
        odd = asked(key).replace(key[-20:].encode(), b"\r\nTransfer-Enc: \0edd")
        assert len(odd) == len(asked(key))
        async with served(world) as house:
            for before in (0, 2):  # the parser's answer, and the one without it
                async with RawClient(house.port) as client:
                    for _ in range(before):
                        await client.send(asked(key))
                        assert (await client.answer("POST")).status == 200
                    await client.send(odd)
                    answer = await client.answer("POST")
                    assert (answer.status, answer.header(b"connection")) == (400, b"close")
                    assert b"not valid HTTP/1.1" in answer.body
        assert len(upstream.received) == 2


async def test_who_never_says_the_same_twice_is_not_listened_to() -> None:
    async with Upstream(good()) as upstream:
        world = World()
        world.config("openai", f"{upstream.origin}/v1")
        key = world.key()
        async with served(world) as house, RawClient(house.port) as client:
            for number in range(9):
                await client.send(asked(key, traceparent=f"00-{number}"))
                assert (await client.answer("POST")).status == 200
                assert strangers(house) == min(number + 1, 4)
        traces = [received.values(b"traceparent")[0] for received in upstream.received]
        assert traces == [b"00-%d" % number for number in range(9)]
