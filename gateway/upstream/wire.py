"""A request's head as bytes on the wire, and the frames of a body whose length is not known.

Pure. What could end a line, or the head, inside a name or a value is never written. Used by
engine.py and connection.py.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.errors import UpstreamError
from gateway.upstream.seam import Outbound

LAST_FRAME = b"0\r\n\r\n"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TARGET = re.compile(rb"/[!-~]*")


def head_of(outbound: Outbound, host: bytes) -> bytes:
    """The request line and all headers. `host` is the whole line of that header.

    Raises UpstreamError (nothing has been sent) for what would be read as something else.
    """
    target, headers, body = outbound.target, outbound.headers, outbound.body
    parts = [_method(outbound.method), target, b" HTTP/1.1\r\n", host]
    framed = False
    for name, value in headers:
        parts += name, b": ", value, b"\r\n"
        if name == b"content-length" or name == b"transfer-encoding":
            framed = True
    if not framed and body is not None:
        parts.append(_framing(body))
    parts.append(b"\r\n")
    head = b"".join(parts)
    lines = len(headers) + 3 + (not framed and body is not None)
    # As many line ends as were put in, and no other control character that ends something.
    sound = head.count(b"\n") == head.count(b"\r") == lines and b"\0" not in head
    if not sound or _TARGET.fullmatch(target) is None:
        raise unsent(UpstreamError("the request has bytes that no request may have"))
    return head


def frame(piece: bytes) -> bytes:
    """A piece as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def length_of(outbound: Outbound) -> int | None:
    """How long the body is said to be; None where it is sent chunked."""
    for name, value in outbound.headers:
        if name == b"content-length":
            return int(value)
    return None


def unsent(error: UpstreamError) -> UpstreamError:
    """The same error, saying that nothing of the request has left."""
    error.sent = False
    return error


def _framing(body: object) -> bytes:
    if isinstance(body, bytes):
        return b"content-length: %d\r\n" % len(body)
    return b"transfer-encoding: chunked\r\n"


@lru_cache(maxsize=64)
def _method(method: str) -> bytes:
    if _TOKEN.fullmatch(method) is None:
        raise unsent(UpstreamError("the request's method is none"))
    return method.encode() + b" "
