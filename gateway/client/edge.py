"""The strict check of a request's head, before anything else looks at it.

Refused here: odd methods, paths that could climb or hide (`//`, dot segments, encoded slashes),
two or no Hosts, both framings, too many headers. Pure; called by receive.py, first of all.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.client.asgi import AsgiScope
from gateway.errors import GatewayError, HeadTooLarge, Malformed, WrongMethod
from gateway.shapes import Headers

MAX_HEADERS = 64
MAX_HEADER_BYTES = 32 * 1024
ABSOLUTE_FORM = "wardgate.absolute_form"  # set in scope["extensions"] by the listener
UPGRADE = "wardgate.upgrade"  # likewise
METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})

# Unreserved, sub-delims, `:`, `@` and percent escapes: RFC 3986's path characters. Hosts of the
# escapes that decode to a slash, a backslash, a dot or a control character are refused below.
_PATH = re.compile(rb"/(?:[A-Za-z0-9\-._~!$&'()*+,;=:@|]|%[0-9A-Fa-f]{2}|/(?!/))*")
_HIDDEN = re.compile(rb"%(?:2[eEfF]|5[cC]|[01][0-9A-Fa-f]|7[fF])")
_DOTS = re.compile(rb"/\.{1,2}(?:/|$)")
# An ARN in a Bedrock model id carries its slash encoded: the one place where that is right.
_ARN_PATH = re.compile(
    rb"(?:/v1/[^/%]+/[^/%]+/(?:aws-|amazon-)?bedrock(?:/bedrock-runtime/[a-z0-9-]+)?)?"
    rb"/model/[^/]+/[a-z-]+"
)


def check(scope: AsgiScope) -> None:
    """Raise Malformed, HeadTooLarge or WrongMethod unless the head can be read one way only."""
    if scope["method"] not in METHODS:
        raise WrongMethod(f"method {scope['method'][:20]} is not served here")
    if ABSOLUTE_FORM in scope.get("extensions", ()):
        raise Malformed("the request target must be a path")
    if UPGRADE in scope.get("extensions", ()) and _has_body(scope["headers"]):
        # The parser takes such a body for another protocol, and then for the next request.
        raise Malformed("a request that asks for an upgrade must not have a body")
    path_problem = _path_problem(scope["raw_path"])
    if path_problem is not None:
        raise Malformed(path_problem)
    problem = _head_problem(scope["headers"])
    if problem is not None:
        raise problem


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


def _has_body(headers: Headers) -> bool:
    return any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)


def _head_problem(headers: Headers) -> GatewayError | None:
    hosts = lengths = encodings = size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            lengths += 1
        elif name == b"transfer-encoding":
            encodings += 1
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        return HeadTooLarge(f"at most {MAX_HEADERS} headers and {MAX_HEADER_BYTES // 1024} KiB")
    if hosts != 1:
        return Malformed("exactly one Host header is needed")
    if lengths + encodings > 1:
        return Malformed("the body's length is given twice")
    return None
