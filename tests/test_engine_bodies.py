"""Where a body ends: counted, chunked, by the connection's end, or absent. What is cut is never a
clean end, and what could be framed in two ways is refused."""

from __future__ import annotations

import asyncio

import pytest

from gateway.upstream.seam import headers_of
from tests import engines
from tests.engines import Stand, whole
from tests.test_engine_origin import HELLO, Wire, answering

stand = engines.stand
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"
FAILED = "UpstreamError upstream_failed"
CUT = "UpstreamError upstream_incomplete"

WHOLE = {
    "counted": (HELLO, "200 b'hello'"),
    "nothing": (OK + b"content-length: 0\r\n\r\n", "200 b''"),
    "zeros before": (OK + b"content-length: 0005\r\n\r\nhello", "200 b'hello'"),
    "chunked": (CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "200 b'hello'"),
    "chunked, upper case": (
        CHUNKED.replace(b"chunked", b"Chunked") + b"A\r\n0123456789\r\n00\r\n\r\n",
        "200 b'0123456789'",
    ),
    "extensions": (
        CHUNKED + b'2;a\r\nhe\r\n3;b=c;d="e;f"\r\nllo\r\n0;last\r\n\r\n',
        "200 b'hello'",
    ),
    "blanks behind the coding": (
        CHUNKED.replace(b"chunked", b"chunked  ") + b"5\r\nhello\r\n0\r\n\r\n",
        "200 b'hello'",
    ),
    "blanks behind the length": (OK + b"content-length: 5 \t\r\n\r\nhello", "200 b'hello'"),
    "chunked nothing": (CHUNKED + b"0\r\n\r\n", "200 b''"),
    "line ends inside": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", r"200 b'\r\n\r\n'"),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\n" + HELLO, "200 b'hello'"),
    "several interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
        b"HTTP/1.1 102 Processing\r\ncontent-length: 3\r\n\r\n" + HELLO,
        "200 b'hello'",
    ),
    "an upgrade on offer": (
        OK + b"upgrade: h2,h2c\r\nconnection: Upgrade\r\ncontent-length: 5\r\n\r\nhello",
        "200 b'hello'",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", "204 b''"),
    "reset content": (b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n", "205 b''"),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "304 b''"),
    "not modified, chunked": (
        b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n",
        "304 b''",
    ),
    "a redirect": (
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\ncontent-length: 5\r\n\r\nhello",
        "302 b'hello'",
    ),
    "an error": (b"HTTP/1.1 500 No\r\ncontent-length: 5\r\n\r\nhello", "500 b'hello'"),
    "an unheard-of status": (b"HTTP/1.1 999 X\r\ncontent-length: 5\r\n\r\nhello", "999 b'hello'"),
}


@pytest.mark.parametrize("case", WHOLE)
async def test_whole_body_is_read_and_its_connection_used_again(stand: Stand, case: str) -> None:
    stand.origin.script = answering(WHOLE[case][0])
    engine = stand.engine()
    outcomes = {await stand.get(engine), await stand.get(engine)}
    assert (outcomes, len(stand.origin.wires)) == stand.expect(({WHOLE[case][1]}, 1))


@pytest.mark.parametrize("case", ["counted", "extensions", "several interim", "nothing"])
async def test_body_is_the_same_when_split_at_every_byte(stand: Stand, case: str) -> None:
    sent, outcome = WHOLE[case]
    pieces = [sent[at : at + 1] for at in range(len(sent))]
    stand.origin.script = answering(*pieces)
    engine = stand.engine()
    assert {await stand.get(engine), await stand.get(engine)} == {outcome}
    assert len(stand.origin.wires) == 1


HEADS = {
    "counted": HELLO[:-5],
    "chunked": CHUNKED,
    "neither": OK + b"\r\n",
    "empty": OK + b"content-length: 0\r\n\r\n",
}


@pytest.mark.parametrize("head", HEADS)
async def test_answer_to_head_has_no_body_whatever_it_says(stand: Stand, head: str) -> None:
    stand.origin.script = answering(HEADS[head])
    engine = stand.engine(pause=0.5)
    for _ in range(2):
        assert await stand.outcome(engine, stand.outbound(b"/", "HEAD")) == "200 b''"


CUTS = {
    "counted, nothing": (HELLO[:-5], "200 b'' then "),
    "counted, some": (HELLO[:-1], "200 b'hell' then "),
    "chunked, nothing": (CHUNKED, "200 b'' then "),
    "inside a size": (CHUNKED + b"5", "200 b'' then "),
    "behind a size": (CHUNKED + b"5\r\n", "200 b'' then "),
    "inside a chunk": (CHUNKED + b"5\r\nhell", "200 b'hell' then "),
    "behind a chunk": (CHUNKED + b"5\r\nhello\r\n", "200 b'hello' then "),
    "at the last chunk": (CHUNKED + b"5\r\nhello\r\n0", "200 b'hello' then "),
    "before the last line end": (CHUNKED + b"5\r\nhello\r\n0\r\n", "200 b'hello' then "),
    "inside a trailer": (CHUNKED + b"5\r\nhello\r\n0\r\na: b\r\n", "200 b'hello' then "),
}


@pytest.mark.parametrize("ending", ["fin", "rst"])
@pytest.mark.parametrize("case", CUTS)
async def test_cut_body_is_never_a_clean_end(stand: Stand, case: str, ending: str) -> None:
    sent, got = CUTS[case]

    async def script(wire: Wire) -> None:
        await wire.request()
        await wire.send_pieces(sent)
        await stand.origin.until(headed.is_set)
        wire.fin() if ending == "fin" else wire.rst()

    headed = asyncio.Event()
    stand.origin.script = script
    engine = stand.engine()
    answer = await engine.send(stand.outbound())
    headed.set()
    stand.origin.noticed()
    assert await stand.rest(answer) == got + CUT
    assert await stand.rest(answer) == "200 b'' then " + CUT
    await stand.empty(engine)


async def test_length_is_not_forgotten_for_a_blank_before_its_colon(stand: Stand) -> None:
    """Refused, or cut; what ends too early is never whole."""
    stand.origin.script = answering(OK + b"content-length : 99\r\n\r\nhello", then="fin")
    engine = stand.engine()
    assert await stand.get(engine) in (FAILED, "200 b'hello' then " + CUT)
    await stand.empty(engine)


async def test_reset_is_no_end_of_a_body_that_the_connection_delimits(stand: Stand) -> None:
    stand.origin.script = answering(OK + b"\r\nhello", then="rst")
    engine = stand.engine()
    outcome = await stand.get(engine)
    assert stand.expect(True) == (outcome.endswith(CUT) or outcome == FAILED)
    await stand.empty(engine)


BROKEN = {
    "no number": b"x\r\nhello\r\n0\r\n\r\n",
    "signed": b"+5\r\nhello\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "prefixed": b"0x5\r\nhello\r\n0\r\n\r\n",
    "huge": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "empty size": b"\r\nhello\r\n0\r\n\r\n",
    "blank before": b" 5\r\nhello\r\n0\r\n\r\n",
    "blank behind": b"5 \r\nhello\r\n0\r\n\r\n",
    "bare line feed": b"5\nhello\r\n0\r\n\r\n",
    "bare line feed behind the data": b"5\r\nhello\n0\r\n\r\n",
    "data longer than its size": b"5\r\nhello!\r\n0\r\n\r\n",
    "bare line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("case", BROKEN)
async def test_badly_chunked_body_is_never_a_clean_end(stand: Stand, case: str) -> None:
    """Refused with its head, when it came with it, or broken off."""
    stand.origin.script = answering(CHUNKED + BROKEN[case])
    engine = stand.engine(pause=0.5)
    outcome = await stand.get(engine)
    clean = not outcome.endswith(("upstream_failed", "upstream_incomplete"))
    assert clean == stand.expect(False), outcome
    await stand.empty(engine)


AMBIGUOUS = {
    "both framings": b"content-length: 5\r\ntransfer-encoding: chunked",
    "both framings, the other way round": b"transfer-encoding: chunked\r\ncontent-length: 5",
    "two lengths": b"content-length: 5\r\ncontent-length: 6",
    "two lengths in one line": b"content-length: 5, 6",
    "negative": b"content-length: -5",
    "signed": b"content-length: +5",
    "hexadecimal": b"content-length: 0x5",
    "a fraction": b"content-length: 5.0",
    "blank inside": b"content-length: 5 5",
    "empty": b"content-length: ",
    "huge": b"content-length: 99999999999999999999",
    "blank before the colon": b"content-length : 5",
    "unknown coding": b"transfer-encoding: gzip\r\ncontent-length: 5",
    "chunked twice": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    "chunked not last": b"transfer-encoding: chunked, gzip",
    "nearly chunked": b"transfer-encoding: xchunked\r\ncontent-length: 5",
    "chunked and more": b"transfer-encoding: chunked\x0b",
    "identity": b"transfer-encoding: identity\r\ncontent-length: 5",
    "empty coding": b"transfer-encoding: \r\ncontent-length: 5",
}


@pytest.mark.parametrize("case", AMBIGUOUS)
async def test_body_that_could_end_in_two_places_is_refused(stand: Stand, case: str) -> None:
    stand.origin.script = answering(OK + AMBIGUOUS[case] + b"\r\n\r\nhello")
    engine = stand.engine(first_byte=0.5, pause=0.5)
    assert await stand.get(engine) == stand.expect(FAILED)
    await stand.empty(engine)


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "identity"])
async def test_unknown_coding_is_refused_or_ends_with_the_connection(
    stand: Stand, coding: str
) -> None:
    head = OK + b"transfer-encoding: %s\r\n\r\n" % coding.encode()
    stand.origin.script = answering(head + b"5\r\nhello\r\n0\r\n\r\n", then="fin")
    engine = stand.engine()
    outcomes = (FAILED, r"200 b'5\r\nhello\r\n0\r\n\r\n'")
    assert stand.expect(True) == (await stand.get(engine) in outcomes)
    await stand.empty(engine)


SWITCHED = {
    "with an upgrade": b"upgrade: x\r\nconnection: upgrade\r\n\r\nother words",
    "without one": b"\r\n",
    "and an answer behind it": b"\r\n" + HELLO,
}


@pytest.mark.parametrize("case", SWITCHED)
async def test_other_protocols_are_refused(stand: Stand, case: str) -> None:
    stand.origin.script = answering(b"HTTP/1.1 101 Switching\r\n" + SWITCHED[case])
    engine = stand.engine(first_byte=0.5)
    assert await stand.get(engine) == stand.expect(FAILED)
    await stand.empty(engine)


async def test_trailers_are_not_headers(stand: Stand) -> None:
    trailers = b"x-late: 1\r\nset-cookie: a=b\r\nconnection: close\r\n"
    stand.origin.script = answering(CHUNKED + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")
    engine = stand.engine()
    answer = await engine.send(stand.outbound())
    assert await whole(answer) == b"hello"
    assert headers_of(answer) == [(b"transfer-encoding", b"chunked")]


async def test_trailers_have_an_end(stand: Stand) -> None:
    """Nobody reads them, so nobody would ever stop a flood of them."""

    async def flood(wire: Wire) -> None:
        await wire.request()
        wire.send(CHUNKED + b"5\r\nhello\r\n0\r\n")
        for number in range(1024):
            await wire.flushed()
            wire.send(b"x-%d: %s\r\n" % (number, b"x" * 1024))
        await wire.until(lambda: False)

    stand.origin.script = flood
    engine = stand.engine(pause=0.5)
    assert await stand.get(engine) == stand.expect("200 b'hello' then " + CUT)
    await stand.empty(engine)
