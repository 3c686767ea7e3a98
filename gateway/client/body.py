"""A request's body, read as far as its endpoint needs: JSON whole, uploads only their beginning.

What is not read here is streamed on as it comes. Bytes change only where the model's name or
`include_usage` is spliced in. Used by receive.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from gateway import peek
from gateway.client.presence import Presence
from gateway.errors import Malformed, TooLarge
from gateway.paths import Match
from gateway.shapes import Headers

_FORM_HEAD = 64 * 1024  # SDKs put the form's fields before its files


@dataclass(slots=True)
class Body:
    """`head` is what has been read; `length` the length the client announced, if it did."""

    head: bytes = b""
    absent: bool = False
    json: bool = False
    length: int | None = None
    model: str | None = None
    stream: bool = False
    usage_asked: bool = False
    form: peek.FormModel | None = None


async def read_body(presence: Presence, match: Match, headers: Headers, limit: int) -> Body:
    """Raise Malformed (not JSON where JSON is needed) or TooLarge."""
    length, framed = _framing(headers)
    if not framed and match.endpoint.model_in != "body":
        return Body(absent=True)
    if match.endpoint.body == "json":
        return await _read_json(presence, match, headers, length, limit)
    if match.endpoint.body == "multipart":
        return await _read_form(presence, headers, length)
    return Body(length=length)


def outgoing(
    body: Body, presence: Presence, model: str | None, *, ask_usage: bool
) -> tuple[bytes | AsyncIterator[bytes] | None, int | None]:
    """What goes upstream, and its length where the client's own no longer says it."""
    if body.absent:
        return None, None
    head = _renamed(body, model)
    if presence.complete:
        return (peek.add_include_usage(head) if ask_usage else head), None
    grown = len(head) - len(body.head)
    return presence.rest(head), None if body.length is None else body.length + grown


async def _read_json(
    presence: Presence, match: Match, headers: Headers, length: int | None, limit: int
) -> Body:
    if any(name == b"content-encoding" and value != b"identity" for name, value in headers):
        raise Malformed("a compressed request body cannot be routed; send it uncompressed")
    if length is not None and length > limit:
        raise TooLarge(f"the body is larger than {limit} bytes")
    head = await presence.read(limit)
    if not head and match.endpoint.model_in != "body":
        return Body(length=0)
    seen = peek.peek(head)
    return Body(
        head,
        json=True,
        length=length,
        model=seen.model,
        stream=seen.stream,
        usage_asked=seen.include_usage is True,
    )


async def _read_form(presence: Presence, headers: Headers, length: int | None) -> Body:
    kind = next((value for name, value in headers if name == b"content-type"), b"")
    head = await presence.read_some(_FORM_HEAD)
    form = peek.form_model(head, kind)
    return Body(head, length=length, model=form.value if form else None, form=form)


def _renamed(body: Body, model: str | None) -> bytes:
    if model is None or model == body.model:
        return body.head
    if body.json:
        return peek.replace_model(body.head, model)
    if body.form is None:
        return body.head
    return body.head[: body.form.start] + model.encode() + body.head[body.form.end :]


def _framing(headers: Headers) -> tuple[int | None, bool]:
    for name, value in headers:
        if name == b"content-length":
            if not value.isdigit():
                raise Malformed("content-length is not a number")
            return int(value), value.strip(b"0") != b""
        if name == b"transfer-encoding":
            return None, True
    return None, False
