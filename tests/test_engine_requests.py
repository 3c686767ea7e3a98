"""A request on the wire: exactly what was given, one Host, one framing, nothing invented; and
nothing at all where a byte could make two requests of one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.shapes import Headers
from tests import engines
from tests.engines import Sent, Stand, soon
from tests.test_engine_origin import HELLO, Origin, Wire, answering

stand = engines.stand
UNSENT = "UpstreamError upstream_failed unsent"
FAILED = "UpstreamError upstream_failed"
SMUGGLED = b"\r\n\r\nGET /evil HTTP/1.1\r\nhost: evil\r\n\r\n"

METHODS = {
    "line end": "GET\r\n",
    "a request": "GET / HTTP/1.1\r\nx: y\r\n\r\nGET",
    "line feed": "GE\nT",
    "NUL": "GET\0",
    "blank": "GET /evil HTTP/1.1",
    "empty": "",
    "colon": "GET:",
    "not ASCII": "GÉT",
    "a surrogate": "G\udc80T",
}


@pytest.mark.parametrize("case", METHODS)
async def test_method_that_is_no_token_is_not_sent(stand: Stand, case: str) -> None:
    await refused(stand, method=METHODS[case])


TARGETS = {
    "line end": b"/a\r\nx: y",
    "a request": b"/a HTTP/1.1" + SMUGGLED,
    "line feed": b"/a\nb",
    "carriage return": b"/a\rb",
    "NUL": b"/a\0b",
    "blank": b"/a b",
    "blank at the end": b"/a ",
    "tab": b"/a\tb",
    "escape": b"/a\x1bb",
    "DEL": b"/a\x7fb",
    "not ASCII": b"/caf\xc3\xa9",
    "empty": b"",
    "not absolute": b"a",
    "query alone": b"?a=b",
    "another host": b"@evil.test/",
    "a longer host": b".evil.test/",
    "another port": b"1/",
    "absolute form": b"http://evil.test/",
    "authority form": b"evil.test:443",
}


@pytest.mark.parametrize("case", TARGETS)
async def test_target_that_is_no_path_is_not_sent(stand: Stand, case: str) -> None:
    await refused(stand, target=TARGETS[case])


HEADERS: dict[str, tuple[bytes, bytes]] = {
    "line end in a value": (b"x", b"a\r\ny: z"),
    "a request in a value": (b"x", b"a" + SMUGGLED),
    "line feed in a value": (b"x", b"a\nb"),
    "carriage return in a value": (b"x", b"a\rb"),
    "line end before a value": (b"x", b"\r\na"),
    "line end behind a value": (b"x", b"a\r\n"),
    "fold in a value": (b"x", b"a\r\n b"),
    "carriage return behind a value": (b"x", b"a\r"),
    "NUL in a value": (b"x", b"a\0b"),
    "line end in a name": (b"x: y\r\nz", b"a"),
    "line feed in a name": (b"x\ny", b"a"),
    "carriage return in a name": (b"x\ry", b"a"),
    "NUL in a name": (b"x\0y", b"a"),
    "colon in a name": (b"host: evil\t", b"a"),
    "blank in a name": (b"x y", b"a"),
    "blank behind a name": (b"x ", b"a"),
    "empty name": (b"", b"a"),
    "name not ASCII": (b"caf\xc3\xa9", b"a"),
}


@pytest.mark.parametrize("case", HEADERS)
async def test_header_that_could_be_two_is_not_sent(stand: Stand, case: str) -> None:
    await refused(stand, headers=[(b"a", b"b"), HEADERS[case], (b"c", b"d")])


FRAMINGS: dict[str, tuple[Headers, bool]] = {
    "no number": ([(b"content-length", b"x")], False),
    "signed": ([(b"content-length", b"+4")], False),
    "negative": ([(b"content-length", b"-4")], False),
    "underscored": ([(b"content-length", b"0_4")], False),
    "too long": ([(b"content-length", b"5")], False),
    "too short": ([(b"content-length", b"3")], False),
    "two lengths": ([(b"content-length", b"4"), (b"content-length", b"5")], False),
    "two framings": ([(b"content-length", b"4"), (b"transfer-encoding", b"chunked")], False),
    "a coding of its own": ([(b"transfer-encoding", b"gzip")], False),
    "signed, arriving": ([(b"content-length", b"+4")], True),
    "no number, arriving": ([(b"content-length", b"x")], True),
    "two lengths, arriving": ([(b"content-length", b"4"), (b"content-length", b"5")], True),
    "two framings, arriving": (
        [(b"content-length", b"4"), (b"transfer-encoding", b"chunked")],
        True,
    ),
}


@pytest.mark.parametrize("case", FRAMINGS)
async def test_body_that_could_end_in_two_places_is_not_sent(stand: Stand, case: str) -> None:
    headers, arriving = FRAMINGS[case]
    body = Sent(b"bo", b"dy").stream() if arriving else b"body"
    await refused(stand, method="POST", headers=headers, body=body)


async def refused(
    stand: Stand,
    *,
    method: str = "GET",
    target: bytes = b"/",
    headers: Headers | None = None,
    body: bytes | AsyncIterator[bytes] | None = None,
) -> None:
    """Refused before anything is sent; the engine goes on, and a kept connection is not lost."""
    engine = stand.engine(first_byte=0.2)
    assert await stand.get(engine, b"/before") == "200 b'hello'"
    outbound = stand.outbound(target, method, headers, body)
    try:
        outcome = await stand.outcome(engine, outbound)
    except ValueError as error:
        outcome = type(error).__name__
    strict = outcome if outcome == "UpstreamError upstream_denied unsent" else UNSENT
    assert outcome == stand.expect(strict)
    if stand.differs:
        return
    assert await stand.get(engine, b"/after") == "200 b'hello'"
    assert stand.origin.targets == [b"/before", b"/after"]
    assert len(stand.origin.wires) == 1


GIVEN: Headers = [
    (b"authorization", b"Bearer x"),
    (b"x-b", b"2"),
    (b"x-a", b"1"),
    (b"x-b", b"3"),
    (b"empty", b""),
    (b"x-utf", "☃".encode()),
]


def rows_of(head: bytes) -> tuple[bytes, Headers]:
    """A head's first line and its headers; how their names are written means nothing."""
    line, *rows, last, end = head.split(b"\r\n")
    assert (last, end) == (b"", b"")
    parts = [row.partition(b": ") for row in rows]
    return line, [(name.lower(), value) for name, _, value in parts]


FRAMED: dict[str, tuple[str, Headers, bytes | list[bytes] | None, Headers, bytes]] = {
    "get": ("GET", [], None, [], b""),
    "delete": ("DELETE", [], None, [], b""),
    "a method of its own": ("PURGE", [], None, [], b""),
    "bytes": ("POST", [], b"body", [(b"content-length", b"4")], b"body"),
    "no bytes": ("POST", [], b"", [(b"content-length", b"0")], b""),
    "get with a body": ("GET", [], b"body", [(b"content-length", b"4")], b"body"),
    "large bytes": ("PUT", [], b"x" * 99_999, [(b"content-length", b"99999")], b"x" * 99_999),
    "counted": ("POST", [(b"content-length", b"4")], b"body", [], b"body"),
    "counted, arriving": ("POST", [(b"content-length", b"4")], [b"bo", b"", b"dy"], [], b"body"),
    "arriving": (
        "POST",
        [],
        [b"bo", b"dy"],
        [(b"transfer-encoding", b"chunked")],
        b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
    ),
    "empty pieces": (
        "POST",
        [],
        [b"", b"bo", b"", b"", b"dy", b""],
        [(b"transfer-encoding", b"chunked")],
        b"2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n",
    ),
    "arriving empty": ("POST", [], [], [(b"transfer-encoding", b"chunked")], b"0\r\n\r\n"),
    "arriving in sixteens": (
        "POST",
        [],
        [b"x" * 16, b"y" * 26],
        [(b"transfer-encoding", b"chunked")],
        b"10\r\n" + b"x" * 16 + b"\r\n1a\r\n" + b"y" * 26 + b"\r\n0\r\n\r\n",
    ),
}


@pytest.mark.parametrize("case", FRAMED)
async def test_request_is_on_the_wire_as_it_was_given(stand: Stand, case: str) -> None:
    """Line, Host, headers in their order, the framing where none was given; and not a byte more."""
    method, headers, given, added, body = FRAMED[case]
    body_given: bytes | AsyncIterator[bytes] | None
    body_given = Sent(*given).stream() if isinstance(given, list) else given
    engine = stand.engine()
    target = b"/a/b%20c/../d?q=%2F&r=[]{}|\\^\"<>'"
    outbound = stand.outbound(target, method, GIVEN + headers, body_given)
    assert await stand.outcome(engine, outbound) == "200 b'hello'"
    wire = bytes(stand.origin.wires[0].received)
    line, rows = rows_of(wire[: len(wire) - len(body)])
    assert line == method.encode() + b" " + target + b" HTTP/1.1"
    count = 1 + len(GIVEN + headers)
    host = (b"host", b"127.0.0.1:%d" % stand.origin.port)
    assert rows[:count] == [host, *GIVEN, *((name.lower(), value) for name, value in headers)]
    assert rows[count:] == stand.expect(added)
    assert wire.endswith(body)


async def test_value_that_is_not_utf_8_is_on_the_wire_as_it_was_given(stand: Stand) -> None:
    engine = stand.engine()
    outbound = stand.outbound(headers=[(b"x", b"caf\xe9")])
    assert await stand.outcome(engine, outbound) == "200 b'hello'"
    assert stand.origin.requests[0].value(b"x") == stand.expect(b"caf\xe9")


async def test_second_request_is_as_exact_as_the_first(stand: Stand) -> None:
    engine = stand.engine()
    bodies: list[bytes | AsyncIterator[bytes]] = [b"one", b"two", Sent(b"three").stream()]
    for body in bodies:
        outbound = stand.outbound(b"/", "POST", body=body)
        assert await stand.outcome(engine, outbound) == "200 b'hello'"
    [wire] = stand.origin.wires
    assert wire.received == b"".join(
        request.head + (request.body if number < 2 else b"5\r\nthree\r\n0\r\n\r\n")
        for number, request in enumerate(wire.requests)
    )


HOSTS = {"127.0.0.1": "127.0.0.1", "::1": "[::1]"}


@pytest.mark.parametrize("address", HOSTS)
async def test_host_is_the_origin_as_it_was_written(stand: Stand, address: str) -> None:
    async with Origin(answering(HELLO), address) as origin:
        engine = stand.engine()
        outbound = stand.outbound()
        outbound.origin = origin.url
        assert await stand.outcome(engine, outbound) == "200 b'hello'"
        [request] = origin.requests
        assert request.headers == [(b"host", f"{HOSTS[address]}:{origin.port}".encode())]
        await engine.aclose()


LENGTHS = {
    "shorter": (b"9", [b"bo", b"dy"]),
    "longer": (b"3", [b"bo", b"dy"]),
    "longer than nothing": (b"0", [b"x"]),
    "nothing": (b"1", []),
}


@pytest.mark.parametrize("case", LENGTHS)
async def test_body_of_another_length_than_announced_fails(stand: Stand, case: str) -> None:
    """What the upstream has of it is never a whole request with something behind it."""
    length, pieces = LENGTHS[case]

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.until(lambda: False)

    stand.origin.script = script
    sent = Sent(*pieces)
    engine = stand.engine(first_byte=0.15)
    headers = [(b"content-length", length)]
    outbound = stand.outbound(b"/", "POST", headers, sent.stream())
    assert await stand.outcome(engine, outbound) == stand.expect(FAILED)
    await stand.empty(engine)
    await soon(lambda: sent.closed)
    after = stand.origin.wires[0].received.partition(b"\r\n\r\n")[2]
    assert len(after) <= int(length)


async def test_failure_of_the_sender_is_the_requests_own(stand: Stand) -> None:
    async def fails() -> AsyncIterator[bytes]:
        yield b"begun"
        raise Broken

    async def script(wire: Wire) -> None:
        await wire.head()
        await wire.until(lambda: False)

    stand.origin.script = script
    engine = stand.engine(first_byte=1.0)
    try:
        outcome = await stand.outcome(engine, stand.outbound(b"/", "POST", body=fails()))
    except Broken:
        outcome = "Broken"
    assert outcome == stand.expect("Broken")
    await stand.empty(engine)
    assert not stand.origin.wires[0].received.endswith(b"0\r\n\r\n")


async def test_sender_that_was_cancelled_does_not_leave_a_request_hanging(stand: Stand) -> None:
    async def leaves() -> AsyncIterator[bytes]:
        yield b"begun"
        raise asyncio.CancelledError

    engine = stand.engine(first_byte=0.5)
    task = asyncio.ensure_future(
        stand.outcome(engine, stand.outbound(b"/", "POST", body=leaves()), within=1.0)
    )
    await asyncio.wait([task])
    how = "was cancelled" if task.cancelled() else task.result()
    assert how in ("was cancelled", FAILED)
    await stand.empty(engine)


class Broken(Exception):
    """What a client's body may end with."""
