"""The head of an answer: what is HTTP/1.1 beyond doubt is passed on as it is, the rest refused."""

from __future__ import annotations

import pytest

from gateway.errors import UpstreamError
from gateway.upstream import seam
from gateway.upstream.seam import Engine
from tests import engines
from tests.engines import Stand, whole, words
from tests.test_engine_origin import HELLO, Wire, answering

stand = engines.stand
OK = b"HTTP/1.1 200 OK\r\n"
FAILED = "UpstreamError upstream_failed"


def with_headers(*lines: bytes) -> bytes:
    return OK + b"".join(line + b"\r\n" for line in lines) + b"content-length: 5\r\n\r\nhello"


REFUSED = {
    "HTTP/0.9": b"hello\r\n",
    "HTTP/0.9, binary": b"\x00\x01\x02\x03",
    "HTTP/0.9 in the status line": HELLO.replace(b"HTTP/1.1", b"HTTP/0.9"),
    "HTTP/2.0": HELLO.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "HTTP/2": HELLO.replace(b"HTTP/1.1", b"HTTP/2"),
    "HTTP/1.2": HELLO.replace(b"HTTP/1.1", b"HTTP/1.2"),
    "HTTP/11.1": HELLO.replace(b"HTTP/1.1", b"HTTP/11.1"),
    "HTTP/2 itself": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18),
    "lower case": HELLO.replace(b"HTTP", b"http"),
    "another protocol": HELLO.replace(b"HTTP/1.1", b"ICY"),
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46\r\n\r\n",
    "a page": b"<html>hello</html>\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
    "status of two digits": HELLO.replace(b"200", b"20"),
    "status of four digits": HELLO.replace(b"200", b"2000"),
    "status no number": HELLO.replace(b"200", b"abc"),
    "status below 100": HELLO.replace(b"200", b"099"),
    "status signed": HELLO.replace(b"200", b"+20"),
    "no status": HELLO.replace(b" 200 OK", b""),
    "blank before the status line": b" " + HELLO,
    "blanks before the status": HELLO.replace(b" 200", b"  200"),
    "tab before the status": HELLO.replace(b" 200", b"\t200"),
    "CR in the reason": HELLO.replace(b"OK", b"O\rK"),
    "bare line feeds": HELLO.replace(b"\r\n", b"\n"),
    "bare line feed in the status line": HELLO.replace(b"\r\n", b"\n", 1),
    "bare line feed in a header": with_headers(b"a: b\nc: d"),
    "bare line feed before the end": with_headers(b"a: b").replace(b"5\r\n\r\n", b"5\n\r\n"),
    "bare line feed at the end": HELLO.replace(b"\r\n\r\n", b"\r\n\n"),
    "bare carriage return": with_headers(b"a: b\rc: d"),
    "carriage return at the end of a value": with_headers(b"a: b\r"),
    "NUL in a value": with_headers(b"a: b\x00c"),
    "NUL in a name": with_headers(b"a\x00b: c"),
    "folded": with_headers(b"a: b", b" c"),
    "folded with a tab": with_headers(b"a: b", b"\tc"),
    "folded at once": with_headers(b" a: b"),
    "folded length": OK + b"content-length: 5\r\n 0\r\n\r\nhello",
    "blank before the colon": with_headers(b"a : b"),
    "blank before the colon of the length": HELLO.replace(b"length:", b"length :"),
    "blank before the colon of the coding": OK
    + b"transfer-encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "blank before the colon of the connection": with_headers(b"connection : close"),
    "tab before the colon": with_headers(b"a\t: b"),
    "blank in a name": with_headers(b"a b: c"),
    "no colon": with_headers(b"ab"),
    "no name": with_headers(b": b"),
    "name not ASCII": with_headers(b"\xe4: b"),
    "name in brackets": with_headers(b"a(b): c"),
    "line of blanks": with_headers(b"a: b", b"  "),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_head_that_is_not_plain_http_is_refused(stand: Stand, case: str) -> None:
    """Not repeated either: the upstream has had its say."""
    stand.origin.script = answering(REFUSED[case])
    engine = stand.engine(first_byte=0.5, pause=0.5)
    assert await stand.get(engine) == stand.expect(FAILED)
    assert len(stand.origin.requests) == 1
    await stand.empty(engine)


PASSED = {
    "no headers but the length": (HELLO, []),
    "no reason": (HELLO.replace(b" OK", b" "), []),
    "no blank and no reason": (HELLO.replace(b" OK", b""), []),
    "reason not ASCII": (HELLO.replace(b"OK", b"\xc3\xa4 ok"), []),
    "names in lower case": (
        with_headers(b"X-Request-ID: Ab", b"SERVER: X"),
        [(b"x-request-id", b"Ab"), (b"server", b"X")],
    ),
    "empty value": (with_headers(b"a:", b"b: "), [(b"a", b""), (b"b", b"")]),
    "no blank before the value": (with_headers(b"a:b"), [(b"a", b"b")]),
    "blanks around a value": (with_headers(b"a: \t b c \t "), [(b"a", b"b c")]),
    "tab inside a value": (with_headers(b"a: b\tc"), [(b"a", b"b\tc")]),
    "colons in a value": (with_headers(b"a: b: c"), [(b"a", b"b: c")]),
    "latin-1": (with_headers(b"a: caf\xe9 \xff\x80"), [(b"a", b"caf\xe9 \xff\x80")]),
    "UTF-8": (with_headers("a: ☃ é".encode()), [(b"a", "☃ é".encode())]),
    "every character of a name": (
        with_headers(b"!#$%&'*+-.^_`|~09az: b"),
        [(b"!#$%&'*+-.^_`|~09az", b"b")],
    ),
    "cookies apart and in order": (
        with_headers(b"Set-Cookie: a=1; path=/", b"x: y", b"set-cookie: a=2", b"Set-Cookie: b=3"),
        [
            (b"set-cookie", b"a=1; path=/"),
            (b"x", b"y"),
            (b"set-cookie", b"a=2"),
            (b"set-cookie", b"b=3"),
        ],
    ),
    "the same line twice": (with_headers(b"a: b", b"a: b"), [(b"a", b"b"), (b"a", b"b")]),
    "a hundred": (
        with_headers(*(b"a-%d: %d" % (n, n) for n in range(100))),
        [(b"a-%d" % n, b"%d" % n) for n in range(100)],
    ),
    "500": (
        with_headers(*(b"a-%d: %d" % (n, n) for n in range(500))),
        [(b"a-%d" % n, b"%d" % n) for n in range(500)],
    ),
    "8 KiB in one": (with_headers(b"a: " + b"b" * 8192), [(b"a", b"b" * 8192)]),
    "40 KiB in one": (with_headers(b"a: " + b"b" * 40960), [(b"a", b"b" * 40960)]),
    "60 KiB in all": (
        with_headers(*(b"a: " + b"b" * 1000 for _ in range(60))),
        [(b"a", b"b" * 1000)] * 60,
    ),
}


@pytest.mark.parametrize("case", PASSED)
async def test_head_is_passed_on_as_it_is(stand: Stand, case: str) -> None:
    sent, headers = PASSED[case]
    stand.origin.script = answering(sent)
    engine = stand.engine()
    assert await headers_of(stand, engine) == stand.expect(
        [*headers, (b"content-length", b"5")],
    )


async def headers_of(stand: Stand, engine: Engine) -> object:
    try:
        answer = await engine.send(stand.outbound())
    except UpstreamError as error:
        return words(error)
    assert await whole(answer) == b"hello"
    return seam.headers_of(answer)


@pytest.mark.parametrize("case", ["cookies apart and in order", "empty value", "latin-1"])
async def test_head_is_the_same_when_split_at_every_byte(stand: Stand, case: str) -> None:
    sent, headers = PASSED[case]
    stand.origin.script = answering(*(sent[at : at + 1] for at in range(len(sent))))
    engine = stand.engine()
    assert await headers_of(stand, engine) == [*headers, (b"content-length", b"5")]


@pytest.mark.parametrize("case", ["cookies apart and in order", "latin-1"])
async def test_head_is_the_same_when_split_in_two_anywhere(stand: Stand, case: str) -> None:
    sent, headers = PASSED[case]
    cuts = iter(range(1, len(sent)))

    async def script(wire: Wire) -> None:
        while True:
            await wire.request()
            at = next(cuts)
            await wire.send_pieces(sent[:at], sent[at:])

    stand.origin.script = script
    engine = stand.engine()
    for _ in range(1, len(sent)):
        assert await headers_of(stand, engine) == [*headers, (b"content-length", b"5")]
    assert len(stand.origin.wires) == 1


TOO_LARGE = {
    "one value": with_headers(b"a: " + b"b" * 65536),
    "one name": with_headers(b"a" * 65536 + b": b"),
    "many": with_headers(*(b"a: " + b"b" * 1000 for _ in range(70))),
    "many small": with_headers(*[b"a: b"] * 11_000),
    "the reason": HELLO.replace(b"OK", b"O" * 65536),
    "behind interim ones": (b"HTTP/1.1 103 Hints\r\na: %s\r\n\r\n" % (b"b" * 9000)) * 8 + HELLO,
}


@pytest.mark.parametrize("pieces", ["at once", "in pieces", "without an end"])
@pytest.mark.parametrize("case", TOO_LARGE)
async def test_head_larger_than_64_kib_is_refused(stand: Stand, case: str, pieces: str) -> None:
    sent = TOO_LARGE[case]
    if pieces == "without an end":
        sent = sent[: sent.rindex(b"\r\n\r\n")]
    step = len(sent) if pieces == "at once" else 1500
    stand.origin.script = answering(*(sent[at : at + step] for at in range(0, len(sent), step)))
    engine = stand.engine()
    outcome = await stand.outcome(engine, stand.outbound(), stand.patience)
    assert outcome == stand.expect(FAILED)
    await stand.empty(engine)
