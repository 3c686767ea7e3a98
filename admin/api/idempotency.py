"""`Idempotency-Key` on mutations: the same key and request get the same answer, for a day.

Kept are successes and what the desk itself refused; never a 401, 403, 404 or 5xx, which may be
another one next time. Called by handlers with what they would do; no rule of the desk is here.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from admin import permit
from admin.api import bodies
from admin.api.bodies import BadRequest, Problem
from admin.api.manage import IDEMPOTENCY_KEY, PROVIDERS
from admin.api.operations import Call, Surface
from admin.configure import idempotency
from admin.configure.idempotency import Kept
from admin.configure.refusals import Refusal
from gateway.errors import NotFound, WardgateError
from gateway.store.idempotency import Claim

Act = Callable[[Call], Awaitable[Response]]

_KEY = re.compile(r"[\x20-\x7e]{1,255}", re.ASCII)
_HEADERS = ("content-type", "etag", "location")
_SETTLED = (400, 409, 412, 422)
# Refused for a reason outside the desk, or because of this very mechanism.
_PASSING = ("not_verified", "request_in_progress")
# What tells two requests with the same body apart, besides method and path.
_TELLING = ("wardgate-scope", "if-match")


class _Kept(msgspec.Struct):
    """An answer as it is stored: it shows previews of keys and no key.

    `reach`: the scopes in which the caller could do this then; None: every one.
    """

    headers: dict[str, str]
    body: str
    reach: list[str] | None


async def once(call: Call, act: Act, surface: Surface = PROVIDERS) -> Response:
    """What `act` answers, or answered under this Idempotency-Key; without the header, `act`.

    `act` must use the call it is handed: its desk marks the key in each change's transaction, so
    one request makes its change once, whichever process or crash comes in between. Raises what
    `act` raises, BadRequest for no key, NotFound where the caller may do less than the first time,
    Refusal: idempotency_key_reused, request_in_progress, answer_lost.
    """
    key = _key(call.request)
    if key is None:
        return await act(call)
    claim = await idempotency.claim(call.desk, call.actor, key, await _parts(call))
    if isinstance(claim, Kept):
        return _again(claim, permit.reach(call.actor, call.action))
    try:
        marked = replace(call, desk=idempotency.marking(call.desk, claim))
        return await _acted(marked, act, surface, claim)
    except BaseException:
        # Only where nothing was changed: a repetition may try again.
        await idempotency.release(call.desk, claim)
        raise


async def _acted(call: Call, act: Act, surface: Surface, claim: Claim) -> Response:
    try:
        answer = await act(call)
    except WardgateError as error:
        answer = surface.refuse(error, call.request)
        passing = isinstance(error, Refusal) and error.kind in _PASSING
        if passing or answer.status_code not in _SETTLED:
            raise
    headers = {name: answer.headers[name] for name in _HEADERS if name in answer.headers}
    reach = permit.reach(call.actor, call.action)
    kept = _Kept(headers, bytes(answer.body).decode(), None if reach is None else sorted(reach))
    await idempotency.keep(call.desk, claim, answer.status_code, msgspec.json.encode(kept).decode())
    return answer


def _again(kept: Kept, reach: frozenset[str] | None) -> Response:
    first = msgspec.json.decode(kept.text, type=_Kept)
    if reach is not None and (first.reach is None or not reach.issuperset(first.reach)):
        # Which scope it speaks of is not known here; it may be one that was taken from him.
        raise NotFound("Not Found")
    answer = Response(first.body.encode(), kept.status, {"idempotent-replayed": "true"})
    answer.headers.update(first.headers)
    return answer


def _key(request: Request) -> str | None:
    sent = request.headers.getlist(IDEMPOTENCY_KEY.name)
    if not sent:
        return None
    if len(sent) != 1 or not _KEY.fullmatch(sent[0]):
        where = ("header", IDEMPOTENCY_KEY.name)
        raise BadRequest(Problem(where, "1 to 255 printable ASCII characters, once"))
    return sent[0]


async def _parts(call: Call) -> list[bytes]:
    request = call.request
    said = [",".join(request.headers.getlist(name)) for name in _TELLING]
    texts = (request.method, request.url.path, request.url.query, *said)
    body = await bodies.raw(request, patience=call.desk.settings.body_timeout)
    return [*(text.encode() for text in texts), body]
