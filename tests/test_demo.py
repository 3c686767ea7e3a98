"""The demo upstream against raw sockets: what it records, every fault, the orders of x-demo."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import cast

import pytest

from admin.demo.orders import HELP, BadOrder, read_orders
from admin.demo.script import GARBAGE, Cut, Framing
from admin.demo.upstream import Received, Script, Upstream, serve
from tests.serve import RawClient, request_bytes

KEY = {"authorization": "Bearer sk-demo"}
CHUNKS = [b"data: one\n\n", b"data: two\n\n", b"data: three\n\n"]
WHOLE = b"".join(CHUNKS)
ENDINGS = {"fin": "cut", "rst": "reset"}


def chat(**fields: object) -> bytes:
    return json.dumps({"model": "demo-chat", "messages": [], **fields}).encode()


async def ask(up: Upstream, orders: str, body: bytes | None = None) -> RawClient:
    """A client that sent a chat request with these orders, and read nothing yet."""
    client = await RawClient(up.port).__aenter__()
    headers = {**KEY, "x-demo": orders, "content-type": "application/json"}
    await client.send(request_bytes("POST", "/v1/chat/completions", headers, body or chat()))
    return client


async def test_received_has_every_byte_of_the_request_when_it_is_complete() -> None:
    wire = request_bytes("POST", "/v1/a%2Fb?x=%31&y", {"X-Odd-Case": "v"}, b"\x00\xff body")
    async with Upstream(Script(body=b"fine")) as up, RawClient(up.port) as client:
        await client.send(wire)
        assert (await client.answer()).body == b"fine"
        got = up.received[0]
    assert (got.method, got.target, got.body) == ("POST", b"/v1/a%2Fb?x=%31&y", b"\x00\xff body")
    assert (b"X-Odd-Case", b"v") in got.headers
    assert got.answered
    assert bytes(up.wire[0]) == wire


async def test_received_is_there_before_the_body_when_the_upload_is_slow() -> None:
    async with Upstream() as up, RawClient(up.port) as client:
        await client.send(b"POST /v1/files HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nabc")
        got = await up.wait_received()
        assert (got.body, got.complete, up.active) == (b"abc", False, 1)
        client.reset()
        async with asyncio.timeout(1):
            await got.closed.wait()
            await up.wait_idle()
        assert got.closed_at is not None
        assert not got.answered


async def test_trailers_are_kept_apart_when_a_chunked_body_has_them() -> None:
    async with Upstream(Script()) as up, RawClient(up.port) as client:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        await client.send(head + b"3\r\nabc\r\n0\r\nx-late: 1\r\n\r\n")
        await client.answer()
        assert up.received[0].body == b"abc"
        assert up.received[0].trailers == [(b"x-late", b"1")]
        assert up.received[0].header(b"x-late") is None


async def test_requests_are_answered_in_order_when_they_share_a_connection() -> None:
    async with Upstream(lambda got: Script(body=got.target)) as up, RawClient(up.port) as client:
        await client.send(request_bytes("GET", "/1") + request_bytes("POST", "/2", body=b"x"))
        assert [(await client.answer()).body for _ in range(2)] == [b"/1", b"/2"]
        assert {got.connection for got in up.received} == {0}
        assert up.connections == up.open_connections == 1
    assert up.open_connections == 0


async def test_answer_comes_before_the_body_when_it_is_not_to_be_read() -> None:
    async with Upstream(Script(status=413, read_body=False)) as up, RawClient(up.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n")
        assert (await client.answer()).status == 413
        await client.send(b"abc" + request_bytes("GET", "/next"))
        assert (await client.answer()).status == 413
        assert [got.body for got in up.received] == [b"abc", b""]


async def test_upload_stays_in_the_socket_when_the_gate_is_shut() -> None:
    gate = asyncio.Event()
    async with Upstream(Script(read_gate=gate)) as up, RawClient(up.port, timeout=0.1) as client:
        with pytest.raises(TimeoutError):
            await client.send(request_bytes("POST", "/", body=bytes(20_000_000)))
        assert len(up.received[0].data) < 1_000_000
        gate.set()
        client.timeout = 10.0
        assert (await client.answer()).status == 200
        assert len(up.received[0].data) == 20_000_000


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_body_is_whole_when_nothing_is_cut(framing: str) -> None:
    script = Script(chunks=CHUNKS, framing=cast(Framing, framing))
    async with Upstream(script) as up, RawClient(up.port) as client:
        answer = await client.request("GET", "/")
        assert (answer.body, answer.ending) == (WHOLE, "clean")
        assert answer.close_delimited == (framing == "close")


@pytest.mark.parametrize("cut", ["fin", "rst"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_body_ends_at_the_offset_when_it_is_cut(framing: str, cut: str) -> None:
    script = Script(chunks=CHUNKS, framing=cast(Framing, framing), cut=cast(Cut, cut))
    async with Upstream(lambda _: script) as up:
        for offset in range(len(WHOLE)):
            script.cut_at = offset
            async with RawClient(up.port) as client:
                answer = await client.request("GET", "/")
                assert (answer.body, answer.ending) == (WHOLE[:offset], ENDINGS[cut])
        assert not any(got.answered for got in up.received)


async def test_answer_ends_inside_the_head_when_the_wire_is_cut() -> None:
    script = Script(body=b"0123456789")
    async with Upstream(script) as up, RawClient(up.port) as client:
        whole = (await client.request("GET", "/")).wire
    for offset in range(0, len(whole), 7):
        script.cut_wire_at = offset
        async with Upstream(script) as up, RawClient(up.port) as client:
            answer = await client.request("GET", "/")
            assert (answer.wire, answer.ending) == (whole[:offset], "cut")


async def test_garbage_stands_where_a_chunk_size_belongs_when_the_cut_is_garbage() -> None:
    script = Script(chunks=CHUNKS, framing="chunked", cut_at=15, cut="garbage")
    async with Upstream(script) as up, RawClient(up.port) as client:
        answer = await client.request("GET", "/")
        assert (answer.body, answer.ending) == (WHOLE[:15], "broken")
        assert GARBAGE[:20] in answer.wire


@pytest.mark.parametrize(
    "script",
    [
        lambda: Script(before_head=asyncio.Event()),
        lambda: Script(body=b"abc", after_head=asyncio.Event()),
        lambda: Script(chunks=CHUNKS, gates=[None, asyncio.Event()]),
        lambda: Script(body=b"abc", cut_at=1, cut="stall"),
        lambda: Script(chunks=CHUNKS, delay=60.0),
        lambda: Script(head_delay=60.0),
        lambda: Script(body=bytes(50_000_000)),
    ],
    ids=["before_head", "after_head", "gate", "stall", "delay", "head_delay", "full_socket"],
)
@pytest.mark.parametrize("leave", ["fin", "rst"])
async def test_close_is_seen_at_once_when_the_client_leaves(
    script: Callable[[], Script], leave: str
) -> None:
    async with Upstream(script()) as up:
        async with RawClient(up.port) as client:
            await client.send(request_bytes("GET", "/"))
            got = await up.wait_received()
            if leave == "rst":
                client.reset()
        async with asyncio.timeout(1):
            await got.closed.wait()
            await up.wait_idle()
        assert not got.answered


async def test_close_is_seen_at_once_when_a_client_that_reads_nothing_sends_a_fin() -> None:
    async with Upstream(Script(body=bytes(50_000_000))) as up, RawClient(up.port) as client:
        await client.send(request_bytes("GET", "/"))
        await client.head()
        client.finish()
        async with asyncio.timeout(1):
            await up.received[0].closed.wait()
            await up.wait_idle()


async def test_every_byte_before_a_reset_arrives_when_the_body_is_large() -> None:
    body = bytes(range(256)) * 40_000
    script = Script(body=body, cut_at=len(body) - 1, cut="rst")
    async with Upstream(script) as up, RawClient(up.port) as client:
        answer = await client.request("GET", "/")
        assert len(answer.body) == len(body) - 1
        assert (answer.body == body[:-1], answer.ending) == (True, "reset")


async def test_upload_is_invited_when_the_client_expects_it() -> None:
    async with Upstream(Script()) as up, RawClient(up.port) as client:
        head = {"expect": "100-continue", "content-length": "3"}
        await client.send(request_bytes("POST", "/", head))
        assert await client.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"abc")
        assert (await client.answer()).status == 200
        assert up.received[0].body == b"abc"


async def test_answer_waits_when_a_gate_is_shut() -> None:
    head, first = asyncio.Event(), asyncio.Event()
    script = Script(chunks=CHUNKS, before_head=head, gates=[first], framing="chunked")
    async with Upstream(script) as up, RawClient(up.port, timeout=0.02) as client:
        await client.send(request_bytes("GET", "/"))
        with pytest.raises(TimeoutError):
            await client.read_some()
        head.set()
        client.timeout = 5.0
        answer = await client.head()
        assert (answer.status, up.active) == (200, 1)
        first.set()
        assert (await client.body_of(answer)).body == WHOLE


async def test_bytes_are_sent_as_they_are_when_the_script_is_raw() -> None:
    raw = b"HTTP/1.1 200 OK\r\nx: a\rb\ncontent-length: 1\r\n\r\nzzzz"
    async with Upstream(Script(raw=raw)) as up, RawClient(up.port) as client:
        await client.send(request_bytes("GET", "/"))
        got = bytearray()
        while piece := await client.read_some():
            got += piece
        assert bytes(got) == raw


async def test_request_is_counted_as_broken_when_it_is_not_http() -> None:
    async with Upstream() as up, RawClient(up.port) as client:
        await client.send(b"this is not HTTP\r\n\r\n")
        assert (await client.answer()).status == 400
        assert len(up.broken) == 1
        assert up.received == []


async def test_block_raises_when_the_script_failed() -> None:
    def fail(received: Received) -> Script:
        raise ValueError(received.path)

    async def run() -> None:
        async with Upstream(fail) as up, RawClient(up.port) as client:
            assert (await client.request("GET", "/oops")).ending in ("cut", "reset")

    with pytest.raises(ExceptionGroup) as caught:
        await run()
    assert "/oops" in str(caught.value.exceptions[0])


@pytest.mark.parametrize(
    ("orders", "status", "ending"),
    [
        ("status=503", 503, "clean"),
        ("status=429; retry_after=2", 429, "clean"),
        ("redirect=http://127.0.0.1:1/x", 307, "clean"),
        ("cut_at=10", 200, "cut"),
        ("cut_at=10; cut=rst", 200, "reset"),
        ("cut=rst", 200, "reset"),
        ("cut_wire_at=7", 0, "cut"),
        ("framing=close", 200, "clean"),
        ("chunks=3; chunk_delay=0.001; delay=0.001; hold=0.001", 200, "clean"),
    ],
)
async def test_fault_happens_when_a_header_orders_it(
    upstream: Upstream, orders: str, status: int, ending: str
) -> None:
    client = await ask(upstream, orders)
    answer = await client.answer()
    await client.__aexit__()
    assert (answer.status, answer.ending) == (status, ending)


async def test_answer_stalls_when_a_header_orders_it(upstream: Upstream) -> None:
    client = await ask(upstream, "stall; cut_at=5")
    assert (await client.head()).status == 200
    assert await client.read_some() == b'{\n  "'
    got = await upstream.wait_received()
    assert not got.done.is_set()
    await client.__aexit__()
    async with asyncio.timeout(1):
        await got.closed.wait()


async def test_stream_has_so_many_words_when_chunks_are_ordered(upstream: Upstream) -> None:
    client = await ask(upstream, "chunks=40", chat(stream=True))
    answer = await client.answer()
    await client.__aexit__()
    assert answer.body.count(b'"content":"') == 41
    assert answer.body.endswith(b"data: [DONE]\n\n")


async def test_request_comes_back_when_echo_is_ordered(upstream: Upstream) -> None:
    client = await ask(upstream, "echo")
    seen = json.loads((await client.answer()).body)
    await client.__aexit__()
    assert seen["target"] == "/v1/chat/completions"
    assert ["authorization", "Bearer sk-demo"] in seen["headers"]
    assert seen["body_length"] == len(chat())


async def test_answer_comes_before_the_body_when_early_is_ordered(upstream: Upstream) -> None:
    async with RawClient(upstream.port) as client:
        head = {**KEY, "x-demo": "early; status=500", "content-length": "5"}
        await client.send(request_bytes("POST", "/v1/files", head))
        assert (await client.answer()).status == 500


async def test_forged_header_is_sent_when_inject_is_ordered(upstream: Upstream) -> None:
    client = await ask(upstream, "inject")
    answer = await client.answer()
    await client.__aexit__()
    assert b"forged=1" in answer.values(b"set-cookie")


@pytest.mark.parametrize(
    "orders",
    [
        "status=99",
        "status=600",
        "status=abc",
        "status",
        "delay=-1",
        "delay=nan",
        "delay=1e3",
        "chunks=0",
        "cut=sideways",
        "stall=1",
        "stall; stall",
        "unknown=1",
        "redirect=",
        "early",
        "framing=none",
    ],
)
def test_order_is_refused_when_it_cannot_be_obeyed(orders: str) -> None:
    with pytest.raises(BadOrder):
        read_orders(orders)


async def test_client_is_told_the_orders_when_it_gave_a_bad_one(upstream: Upstream) -> None:
    client = await ask(upstream, "stattus=500")
    answer = await client.answer()
    await client.__aexit__()
    message = json.loads(answer.body)["error"]["message"]
    assert answer.status == 400
    assert "unknown order 'stattus'" in message
    assert HELP in message


async def test_help_names_every_order() -> None:
    from admin.demo.orders import _ORDERS

    assert all(f"\n  {name}" in HELP for name in _ORDERS)


async def test_serve_answers_until_it_is_cancelled() -> None:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(port=0, on_ready=ready.set_result))
    async with RawClient.to(await ready) as client:
        answer = await client.request("GET", "/v1/models", KEY)
        assert b"demo-chat" in answer.body
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
