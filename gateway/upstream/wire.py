"""A request's head as bytes on the wire, and the frames of a body whose length is not known.

Pure. What could end a line, or the head, inside a name or a value is never written. Used by
engine.py and connection.py.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.errors import UpstreamError
from gateway.shapes import Headers
from gateway.upstream.seam import Outbound

LAST_FRAME = b"0\r\n\r\n"
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_in_a_line = b": ".join
_FRAMING = frozenset({b"content-length", b"transfer-encoding"})
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_BREAKING = b"\r\n\0"
_TARGET = re.compile(rb"/[!\"$-~]*")
_MOST_NAMES = 4096
# Methods whose requests have a body, if only an empty one: some servers insist on its length.
_BODIED = frozenset({"POST", "PUT", "PATCH"})
_known = set[bytes]()  # names of headers that have been looked at


def head_of(outbound: Outbound, host: bytes) -> bytes:
    """The request line and all headers. `host` is the line of that header.

    Raises UpstreamError (nothing has been sent) for what would be read as something else.
    """
    standing, asked = outbound.standing, (outbound.method, outbound.target, host)
    if standing.opened != asked:
        standing.opening, standing.opened = _opening(standing.headers, *asked), asked
    if len(outbound.headers) == 1 and isinstance(outbound.body, bytes):
        return _keyed(standing.opening, *outbound.headers[0], len(outbound.body))
    lines = [*map(_in_a_line, outbound.headers)]
    names = [name for name, _ in outbound.headers]
    if outbound.body is not None or outbound.method in _BODIED:
        lines += _framing(outbound, names)
    return b"%b%b\r\n" % (standing.opening, _checked(lines, names))


def _keyed(opening: bytes, name: bytes, value: bytes, length: int) -> bytes:
    """The head of nearly every request: one header, the key, is not standing."""
    whole = len(value.translate(None, _BREAKING)) == len(value)
    if not whole or name in _FRAMING or not (name in _known or _are_names([name])):
        raise _impossible()
    return b"%b%b: %b\r\ncontent-length: %d\r\n\r\n" % (opening, name, value, length)


def _opening(standing: Headers, method: str, target: bytes, host: bytes) -> bytes:
    names = [name for name, _ in standing]
    if not _FRAMING.isdisjoint(names):
        raise _impossible()  # it would frame every body alike
    request = b"%b%b HTTP/1.1" % (_method(method), _target(target))
    return _checked([request, host, *map(_in_a_line, standing)], names)


def _checked(lines: list[bytes], names: list[bytes]) -> bytes:
    """The lines with their ends, if they are as many as they look. `names` are the headers'."""
    head = b"\r\n".join(lines) + b"\r\n" if lines else b""
    # As many line ends as were put in, and no NUL: one pass is cheaper than three searches.
    ends = len(head) - len(head.translate(None, _BREAKING))
    if ends != 2 * len(lines) or not (_known.issuperset(names) or _are_names(names)):
        raise _impossible()
    return head


def frame(piece: bytes) -> bytes:
    """A piece as one chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def length_of(outbound: Outbound) -> int | None:
    """How long a body that arrives is said to be; None where it is sent chunked.

    Raises UpstreamError (nothing has been sent) for a length that is no number.
    """
    for name, value in outbound.headers:
        if name == b"content-length":
            if not value.isdigit():
                raise unsent(UpstreamError("the request's length is no number"))
            return int(value)
    return None


def unsent(error: UpstreamError) -> UpstreamError:
    """The same error, saying that nothing of the request has left."""
    error.sent = False
    return error


def _framing(outbound: Outbound, names: list[bytes]) -> tuple[bytes, ...]:
    """The line that says how long the body is, where the headers do not."""
    body = outbound.body
    told: tuple[tuple[bytes, bytes], ...] = ()
    if not _FRAMING.isdisjoint(names):
        told = _told(outbound)
    if isinstance(body, bytes):
        length = b"%d" % len(body)
        if told and told != ((b"content-length", length),):
            raise unsent(UpstreamError("the request says another length than it has"))
        return () if told else (b"content-length: " + length,)
    if told:
        return ()
    if body is not None:
        return (b"transfer-encoding: chunked",)
    return (b"content-length: 0",) if outbound.method in _BODIED else ()


def _told(outbound: Outbound) -> tuple[tuple[bytes, bytes], ...]:
    told = tuple(pair for pair in outbound.headers if pair[0] in _FRAMING)
    if len(told) > 1 or told[0][0] != b"content-length":
        raise unsent(UpstreamError("the request says more than once where its body ends"))
    return told


def _are_names(names: list[bytes]) -> bool:
    if not all(_NAME.fullmatch(name) for name in names):
        return False
    if len(_known) < _MOST_NAMES:
        _known.update(names)
    return True


def _impossible() -> UpstreamError:
    return unsent(UpstreamError("the request has bytes that no request may have"))


@lru_cache(maxsize=1024)
def _target(target: bytes) -> bytes:
    if _TARGET.fullmatch(target) is None:
        raise _impossible()
    return target


@lru_cache(maxsize=64)
def _method(method: str) -> bytes:
    if _TOKEN.fullmatch(method) is None:
        raise unsent(UpstreamError("the request's method is none"))
    return method.encode() + b" "
