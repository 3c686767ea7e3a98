"""A request's head as bytes on the wire, and the frames of a body whose length is not known.

Pure. What could end a line, or the head, inside a name or a value is never written. Used by
engine.py and connection.py.
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import itemgetter

from gateway.errors import UpstreamError
from gateway.shapes import Headers
from gateway.upstream.seam import Outbound

LAST_FRAME = b"0\r\n\r\n"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_in_a_line = b": ".join
_name_of = itemgetter(0)
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_TARGET = re.compile(rb"/[!-~]*")


def head_of(outbound: Outbound, host: bytes) -> bytes:
    """The request line and all headers. `host` is the line of that header.

    Raises UpstreamError (nothing has been sent) for what would be read as something else.
    """
    target, headers, body = outbound.target, outbound.headers, outbound.body
    request = b"%b%b HTTP/1.1" % (_method(outbound.method), target)
    lines = [request, host, *map(_in_a_line, headers)]
    if body is not None and not _is_framed(headers):
        lines.append(_framing(body))
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    # As many line ends as were put in, and nothing else that ends something.
    sound = head.count(b"\n") == head.count(b"\r") == len(lines) + 1 and b"\0" not in head
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


def _is_framed(headers: Headers) -> bool:
    return not _FRAMING.isdisjoint(map(_name_of, headers))


def _framing(body: object) -> bytes:
    if isinstance(body, bytes):
        return b"content-length: %d" % len(body)
    return b"transfer-encoding: chunked"


@lru_cache(maxsize=64)
def _method(method: str) -> bytes:
    if _TOKEN.fullmatch(method) is None:
        raise unsent(UpstreamError("the request's method is none"))
    return method.encode() + b" "
