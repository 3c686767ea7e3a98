"""However the bytes of answers are cut into pieces, the answers are the same ones."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.shapes import Headers
from gateway.upstream.seam import headers_of
from tests import engines
from tests.engines import Stand, whole
from tests.test_engine_origin import Origin, Wire

stand = engines.stand
SOAK = os.environ.get("SOAK")
SPLITS = settings(
    max_examples=300 if SOAK else 25,
    derandomize=not SOAK,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

Told = tuple[bytes, int, Headers, bytes]  # the bytes, and what they mean

names = st.sampled_from([b"x", b"Set-Cookie", b"x-long-name", b"ETag"])
values = st.binary(max_size=12).map(lambda raw: bytes(b for b in raw if b > 32 and b != 127))
headers = st.lists(st.tuples(names, values), max_size=4)
interim = st.lists(st.sampled_from([100, 102, 103]), max_size=2)


@st.composite
def answers(draw: st.DrawFn) -> Told:
    """An answer's bytes, and what they mean: status, headers, body."""
    body, given = draw(st.binary(max_size=60)), draw(headers)
    chunked, status = draw(st.booleans()), draw(st.sampled_from([200, 201, 404, 500]))
    counted = (b"Content-Length", b"%d" % len(body))
    framing = (b"Transfer-Encoding", b"chunked") if chunked else counted
    lines = [b"HTTP/1.1 %d Reason" % status, *(b"%s: %s" % row for row in [*given, framing])]
    before = b"".join(b"HTTP/1.1 %d Interim\r\nx: y\r\n\r\n" % code for code in draw(interim))
    head = before + b"\r\n".join(lines) + b"\r\n\r\n"
    wire = head + (draw(chunks(body)) if chunked else body)
    return wire, status, [(name.lower(), value) for name, value in [*given, framing]], body


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> bytes:
    """The body in chunks of any size, with extensions and trailers here and there."""
    wire, at = b"", 0
    while at < len(body):
        size = draw(st.integers(1, len(body) - at))
        extension = draw(st.sampled_from([b"", b";a", b';a="b c"']))
        wire += b"%x%s\r\n%s\r\n" % (size, extension, body[at : at + size])
        at += size
    return wire + b"0\r\n" + draw(st.sampled_from([b"", b"x-trailer: 1\r\n"])) + b"\r\n"


@SPLITS
@given(sent=st.lists(answers(), min_size=1, max_size=3), data=st.data())
async def test_answers_are_the_same_however_their_bytes_are_split(
    stand: Stand,
    sent: list[Told],
    data: st.DataObject,
) -> None:
    """One after the other on one connection, whose state must not leak from one to the next."""
    cuts = [
        sorted(data.draw(st.sets(st.integers(1, len(wire) - 1), max_size=12))) for wire, *_ in sent
    ]

    async def script(at: Wire) -> None:
        for (wire, *_), places in zip(sent, cuts, strict=True):
            await at.request()
            edges = [0, *places, len(wire)]
            await at.send_pieces(*(wire[a:b] for a, b in zip(edges, edges[1:], strict=False)))
        await at.until(lambda: False)

    async with Origin(script) as origin:
        engine = stand.engine()
        outbound = stand.outbound()
        outbound.origin = origin.url
        for _, status, expected, body in sent:
            answer = await engine.send(outbound)
            assert (answer.status, headers_of(answer)) == (status, expected)
            assert await whole(answer) == body
        assert len(origin.wires) == 1
        await engine.aclose()


@SPLITS
@given(answer=answers(), data=st.data())
async def test_answer_that_is_cut_anywhere_is_never_whole(
    stand: Stand, answer: Told, data: st.DataObject
) -> None:
    wire = answer[0]
    at = data.draw(st.integers(0, len(wire) - 1))

    async def script(connection: Wire) -> None:
        await connection.request()
        connection.send(wire[:at])
        connection.fin()

    async with Origin(script) as origin:
        engine = stand.engine()
        outbound = stand.outbound(b"/", "POST", body=b"once")
        outbound.origin = origin.url
        outcome = await stand.outcome(engine, outbound)
        assert outcome.endswith((" upstream_failed", " upstream_incomplete"))
        assert len(origin.requests) == 1
        await engine.aclose()
