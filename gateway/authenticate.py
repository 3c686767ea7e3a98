"""Step: the client key in the request -> the Client it stands for.

A key may stand in five headers or in `?key=`; ours are recognised by their form, anything else is a
placeholder SDKs insist on. Never touches a store. Called by receive.py.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from gateway import credential
from gateway.errors import Forbidden, Malformed, Unauthorized
from gateway.shapes import Agent, Client
from gateway.snapshot import Snapshot

_DUMMY = bytes(32)
_HOW = "send a Wardgate key (wg_…) as Authorization: Bearer, x-api-key, api-key or x-goog-api-key"
# Only a hash of a key is kept here: a signature made with one proves nothing to us.
_HOW_AWS = "an AWS signature cannot be checked; set AWS_BEARER_TOKEN_BEDROCK to one (wg_…) instead"


def authenticate(
    snapshot: Snapshot, credentials: Sequence[bytes], query: bytes, now: float
) -> Client:
    """`credentials` are the values of all headers that may hold one.

    Raise Unauthorized (no key, unknown, expired), Malformed (two keys), Forbidden (agent).
    """
    presented = _presented(credentials, query)
    if presented is None:
        how = _HOW_AWS if _is_signed(credentials) else _HOW
        raise Unauthorized(f"no Wardgate key in the request: {how}", code="missing_api_key")
    client = _known(snapshot, presented)
    if client.expires_at is not None and client.expires_at <= now:
        raise Unauthorized("the Wardgate key has expired", code="expired_api_key")
    if client.agent is not None and not _enabled(snapshot.agents.get(client.agent)):
        raise Forbidden("the agent that owns this key is disabled", code="agent_disabled")
    return client


def _presented(credentials: Sequence[bytes], query: bytes) -> str | None:
    found: str | None = None
    for value in credentials:
        found = _merge(found, _token(value))
    if query and b"key=" in query:
        for part in query.split(b"&"):
            if part.startswith(b"key="):
                found = _merge(found, unquote_to_bytes(part[4:]).decode("latin-1"))
    return found


def _merge(found: str | None, text: str) -> str | None:
    if not credential.looks_ours(text):
        return found
    if found is not None and found != text:
        raise Malformed(
            "two different Wardgate keys in one request", code="conflicting_credentials"
        )
    return text


def _token(value: bytes) -> str:
    if value[:7] == b"Bearer ":
        return value[7:].decode("latin-1").strip()
    text = value.decode("latin-1").strip()
    return text[7:].lstrip() if text[:7].lower() == "bearer " else text


def _is_signed(credentials: Sequence[bytes]) -> bool:
    return any(value[:16] == b"AWS4-HMAC-SHA256" for value in credentials)


def _known(snapshot: Snapshot, text: str) -> Client:
    # The digest covers every character, so what is stored under this id settles the form, too.
    public_id = credential.id_in(text)
    client = snapshot.clients.get(public_id) if text[:3] == "wg_" else None
    digest = snapshot.digest(text)
    # Compared on a miss too, so that time does not tell a known id from an unknown one.
    matches = hmac.compare_digest(digest, client.digest if client else _DUMMY)
    if client is None or not matches:
        raise Unauthorized("the Wardgate key is unknown or revoked")
    return client


def _enabled(agent: Agent | None) -> bool:
    return agent is not None and agent.enabled
