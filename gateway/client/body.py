"""A request's body, read as far as its endpoint needs: JSON whole, uploads only their beginning.

What is not read here is streamed on as it comes. Bytes change only where the model's name or
`include_usage` is spliced in. Used by receive.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec

from gateway import peek
from gateway.client.head import Head
from gateway.client.turn import Turn
from gateway.errors import Malformed, TooLarge
from gateway.paths import Match

_LARGE = 1024 * 1024
_FORM_HEAD = 64 * 1024  # SDKs put the form's fields before its files


class Body(msgspec.Struct):
    """`head` is what has been read, `whole`: all there is of it, so it can be sent more than once.
    `length` is the length the client announced, if it did.
    """

    head: bytes = b""
    whole: bool = False
    absent: bool = False
    json: bool = False
    length: int | None = None
    model: str | None = None
    stream: bool = False
    usage_asked: bool = False
    form: peek.FormModel | None = None
    scan: peek.Scan | None = None  # of a JSON body that came in several pieces


def body_at_hand(turn: Turn, match: Match, head: Head, limit: int) -> Body | None:
    """A JSON body that came with its head, as nearly all do; None leaves it to `read_body`.

    Raises Malformed for what is not JSON.
    """
    here = turn.whole and 0 < turn.waiting <= min(limit, _LARGE)
    if not here or match.endpoint.body != "json" or head.encoded:
        return None
    content = turn.take()
    return _json(content, peek.peek(content))


async def read_body(turn: Turn, match: Match, head: Head, limit: int) -> Body:
    """Raise Malformed (not JSON where JSON is needed) or TooLarge."""
    turn.expects = head.expects and turn.version != "1.0"
    length = turn.length if turn.head is not None else _length(head)
    empty = length == 0 if head.lengths else not head.encodings
    if empty and match.endpoint.model_in != "body":
        return Body(absent=True, whole=True)
    if match.endpoint.body == "json":
        return await _read_json(turn, match, head, length, limit)
    if match.endpoint.body == "multipart":
        return await _read_form(turn, length)
    return Body(length=length)


def outgoing(
    body: Body, turn: Turn, model: str | None, *, ask_usage: bool
) -> tuple[bytes | AsyncIterator[bytes] | None, int | None]:
    """What goes upstream, and its length where the client's own no longer says it."""
    if body.absent:
        return None, None
    head = _renamed(body, model)
    if body.whole:
        return (peek.add_include_usage(head) if ask_usage else head), None
    grown = len(head) - len(body.head)
    return _rest(turn, head), None if body.length is None else body.length + grown


async def read_whole(turn: Turn, limit: int, scan: peek.Scan | None = None) -> bytes:
    """The whole body. Raises TooLarge past `limit` bytes; leaving or stalling cancels.

    `scan` is fed where the body comes in several pieces.
    """
    body = await turn.piece()
    if turn.exhausted and len(body) <= limit:
        return body
    parts, size = [body], len(body)
    while size <= limit and not turn.exhausted:
        if scan is not None:
            scan.feed(parts[-1])
        parts.append(await turn.piece())
        size += len(parts[-1])
    if size > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    if scan is not None:
        scan.feed(parts[-1])
    whole = b"".join(parts)
    await _let_others_pass(whole)
    return whole


async def _let_others_pass(content: bytes) -> None:
    """Between two steps that take milliseconds each with a body so large."""
    if len(content) > _LARGE:
        await asyncio.sleep(0)


async def _read_some(turn: Turn, wanted: int) -> bytes:
    """At least `wanted` bytes of the body, or all of it when it is shorter."""
    head = b""
    while not turn.exhausted and len(head) < wanted:
        head += await turn.piece()
    return head


async def _rest(turn: Turn, head: bytes) -> AsyncIterator[bytes]:
    """`head`, then what is still to come. Leaving or stalling cancels the request."""
    if head:
        yield head
    while not turn.exhausted:
        if piece := await turn.piece():
            yield piece


async def _read_json(turn: Turn, match: Match, head: Head, length: int | None, limit: int) -> Body:
    if head.encoded:
        raise Malformed("a compressed request body cannot be routed; send it uncompressed")
    if length is not None and length > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    scan = peek.Scan()
    content = await read_whole(turn, limit, scan)
    if not content and match.endpoint.model_in != "body":
        return Body(length=0, whole=True)
    fed = scan if scan.fed else None
    seen = peek.peek(content, fed)
    await _let_others_pass(content)
    return _json(content, seen, fed)


def _json(content: bytes, seen: peek.Peek, scan: peek.Scan | None = None) -> Body:
    return Body(
        content,
        whole=True,
        json=True,
        model=seen.model,
        stream=seen.stream,
        usage_asked=seen.include_usage is True,
        scan=scan,
    )


async def _read_form(turn: Turn, length: int | None) -> Body:
    kind = next((value for name, value in turn.headers if name == b"content-type"), b"")
    head = await _read_some(turn, _FORM_HEAD)
    form = peek.form_model(head, kind)
    model = form.value if form else None
    return Body(head, whole=turn.exhausted, length=length, model=model, form=form)


def _renamed(body: Body, model: str | None) -> bytes:
    if model is None or model == body.model:
        return body.head
    if body.json:
        named = body.model is not None
        return peek.replace_model(body.head, model, body.scan, named=named)
    if body.form is None:
        return body.head
    return body.head[: body.form.start] + model.encode() + body.head[body.form.end :]


def _length(head: Head) -> int | None:
    if head.length is None:
        return None
    if not head.length.isdigit():
        raise Malformed("content-length is not a number")
    return int(head.length)
