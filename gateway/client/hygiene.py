"""Which headers may cross the house, each way: the rules of "no credential, no cookie, no hop".

Pure. Used by inject.py towards the upstream and by stream.py towards the client; the desk asks
`settable` of the headers a config adds.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.credential import stands_in
from gateway.shapes import Headers

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
# Where a request came from, and how it was framed, is between us and the client.
_NOT_UPSTREAM = frozenset(
    {b"host", b"content-length", b"expect", b"accept-encoding", b"forwarded", b"via"}
    # A client's AWS signature was made for us; for the upstream we make one ourselves.
    | {b"x-amz-date", b"x-amz-content-sha256", b"x-amz-security-token"}
)
_NOT_UPSTREAM_PREFIXES = (
    b"x-forwarded-",
    b"x-real-ip",
    b"true-client-ip",
    b"cf-",
    b"wardgate-",
    b"sec-",
    b"amz-sdk-",
)
# What says how the body is to be read is the client's to say.
_ABOUT_THE_BODY = frozenset({b"content-type", b"content-encoding", b"content-range"})
# alt-svc would send the client past us to the provider itself.
_NOT_BACK = frozenset({b"alt-svc", b"clear-site-data", b"server-timing-allow-origin"})
# Whatever a header is called: if its name says credential, it does not cross.
_CREDENTIAL = re.compile(
    rb"auth|cookie|(?:api|access|subscription|functions)[-_]?key|secret|credential|passw"
    rb"|(?:^|[-_])(?:token|jwt)$"
)
_BAD_NAME = re.compile(rb"[^!#$%&'*+\-.^_`|~0-9a-z]")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def towards_upstream(headers: Headers, replaced: set[bytes]) -> Headers:
    """The client's headers that may go on, in their order, without those named in `replaced`."""
    listed = _listed_as_hop(headers)
    return [
        (name, value)
        for name, value in headers
        if _may_go_upstream(name)
        and name not in replaced
        and name not in listed
        and not (b"wg" in value and stands_in(value))
    ]


def towards_client(headers: Headers) -> Headers:
    """The upstream's headers that may come back, in their order."""
    listed = _listed_as_hop(headers)
    return [
        (name, value)
        for name, value in headers
        if _may_come_back(name) and name not in listed and not _BAD_VALUE.search(value)
    ]


def settable(name: bytes) -> bool:
    """Whether a config may add a header of this name, in lower case, to what it sends.

    Never one that frames the message, says what its body is, or is called like a credential.
    """
    return bool(name) and _may_go_upstream(name) and name not in _ABOUT_THE_BODY


@lru_cache(maxsize=2048)
def _may_go_upstream(name: bytes) -> bool:
    return not (
        name in _HOP_BY_HOP
        or name in _NOT_UPSTREAM
        or name.startswith(_NOT_UPSTREAM_PREFIXES)
        or _CREDENTIAL.search(name)
        or _BAD_NAME.search(name)
    )


@lru_cache(maxsize=2048)
def _may_come_back(name: bytes) -> bool:
    return not (
        name in _HOP_BY_HOP
        or name in _NOT_BACK
        or name.startswith(b"wardgate-")
        or _CREDENTIAL.search(name)
        or _BAD_NAME.search(name)
    )


def _listed_as_hop(headers: Headers) -> frozenset[bytes]:
    listed = [value for name, value in headers if name == b"connection"]
    if not listed or listed == [b"keep-alive"]:
        return frozenset()
    return frozenset(part.strip().lower() for value in listed for part in value.split(b","))
