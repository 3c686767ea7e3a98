"""The strict check of a request's head, before anything else looks at it.

Refused here: odd methods, paths that could climb or hide (`//`, dot segments, encoded slashes),
two or no Hosts, both framings, too many headers. Pure; called by receive.py, first of all.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.client.head import Head
from gateway.errors import HeadTooLarge, Malformed, WrongMethod
from gateway.shapes import Headers

if TYPE_CHECKING:
    from gateway.client.turn import Turn

MAX_HEADERS = 64
MAX_HEADER_BYTES = 32 * 1024
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

# Unreserved, sub-delims, `:`, `@` and percent escapes: RFC 3986's path characters. Hosts of the
# escapes that decode to a slash, a backslash, a dot or a control character are refused below.
_PATH = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@|]|%[0-9A-Fa-f]{2}|/(?!/))*")
_HIDDEN = re.compile(rb"%(?:2[eEfF]|5[cC]|[01][0-9A-Fa-f]|7[fF])")
_VISIBLE = bytes((*range(0x20, 0x7F), *range(0x80, 0x100), 0x09))
_DOTS = re.compile(rb"/\.{1,2}(?:/|$)")
# An ARN in a Bedrock model id carries its slash encoded: the one place where that is right.
_ARN_PATH = re.compile(
    rb"(?:/v1/[^/%]+/[^/%]+/(?:aws-|amazon-)?bedrock(?:/bedrock-runtime/[a-z0-9-]+)?)?"
    rb"/model/[^/]+/[a-z-]+"
)


def check(turn: Turn, head: Head) -> None:
    """Raise Malformed, HeadTooLarge or WrongMethod unless the head can be read one way only."""
    if turn.method not in METHODS:
        raise WrongMethod(f"method {turn.method[:20]} is not served here")
    if turn.absolute:
        raise Malformed("the request target must be a path")
    if turn.upgrade and head.framed:
        # The parser takes such a body for another protocol, and then for the next request.
        raise Malformed("a request that asks for an upgrade must not have a body")
    path_problem = _path_problem(turn.path)
    if path_problem is not None:
        raise Malformed(path_problem)
    # What came in no more bytes than that needs no adding up.
    large = turn.received > MAX_HEADER_BYTES and _size(turn.headers) > MAX_HEADER_BYTES
    if large or head.count > MAX_HEADERS:
        raise HeadTooLarge(f"at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES // 1024} KiB")
    if head.hosts != 1:
        raise Malformed("exactly one Host header is needed")
    if head.lengths + head.encodings > 1:
        raise Malformed("the body's length is given twice")


def check_credential(turn: Turn) -> None:
    """Raise Malformed for what no header's value may have, where the parser has not seen it.

    Asked only of what is no key of ours: one that is has no such bytes.
    """
    if turn.head is not None and turn.credential.translate(None, _VISIBLE):
        turn.keep_alive = False
        raise Malformed("the request is not valid HTTP/1.1")


@lru_cache(maxsize=1024)
def _path_problem(raw_path: bytes) -> str | None:
    if not _PATH.fullmatch(raw_path) or _DOTS.search(raw_path):
        return "the path has characters or segments that are not accepted"
    if b"%" in raw_path and _HIDDEN.search(raw_path) and not _is_arn(raw_path):
        return "the path has an encoded slash, backslash, dot or control character"
    return None


def _is_arn(raw_path: bytes) -> bool:
    # Read as slashes they must not climb, or hide anything, either.
    plain = raw_path.replace(b"%2F", b"/").replace(b"%2f", b"/")
    climbs = _PATH.fullmatch(plain) is None or _DOTS.search(plain) or _HIDDEN.search(plain)
    return bool(_ARN_PATH.fullmatch(raw_path)) and not climbs


def _size(headers: Headers) -> int:
    return sum(len(name) + len(value) for name, value in headers)
