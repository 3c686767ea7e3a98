"""Which headers may cross the house, each way: the rules of "no credential, no cookie, no hop".

Pure: questions about names. Asked by head.py towards the upstream and by back.py towards the
client; the desk asks `settable` of the headers a config adds.
"""

from __future__ import annotations

import re
from functools import lru_cache

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


def settable(name: bytes) -> bool:
    """Whether a config may add a header of this name, in lower case, to what it sends.

    Never one that frames the message, says what its body is, or is called like a credential.
    """
    return bool(name) and may_go_upstream(name) and name not in _ABOUT_THE_BODY


def is_secret(name: bytes) -> bool:
    """Whether a header of this name, in lower case, is called like a credential."""
    return _CREDENTIAL.search(name) is not None


@lru_cache(maxsize=2048)
def may_go_upstream(name: bytes) -> bool:
    """Whether a client's header of this name, in lower case, may go on."""
    return not (
        name in _HOP_BY_HOP
        or name in _NOT_UPSTREAM
        or name.startswith(_NOT_UPSTREAM_PREFIXES)
        or _CREDENTIAL.search(name)
        or _BAD_NAME.search(name)
    )


@lru_cache(maxsize=2048)
def may_come_back(name: bytes) -> bool:
    """Whether an upstream's header of this name, in lower case, may reach the client."""
    return not (
        name in _HOP_BY_HOP
        or name in _NOT_BACK
        or name.startswith(b"wardgate-")
        or _CREDENTIAL.search(name)
        or _BAD_NAME.search(name)
    )
