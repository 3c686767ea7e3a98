"""THE CORRIDOR: reads a request once and calls the steps, top to bottom.

The only file that knows their order. Refusals are answered and recorded too. Called by app.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from urllib.parse import quote

import msgspec

from gateway import paths
from gateway.authenticate import authenticate
from gateway.catalog import Catalog
from gateway.client import edge
from gateway.client.back import wire
from gateway.client.body import Body, body_at_hand, outgoing, read_body, read_whole
from gateway.client.head import Head
from gateway.client.notes import notes_of
from gateway.client.turn import Turn
from gateway.enumerate import enumerate_models
from gateway.errors import GatewayError, Unauthorized
from gateway.exchange import Attempt, Exchange
from gateway.forward import forward
from gateway.health import Samples
from gateway.inject import inject
from gateway.limit import NOBODY, Gateway, Limiter, limit_of_gateway
from gateway.paths import Match
from gateway.providers import NO_STREAM_OPTIONS
from gateway.record import Record, RequestLog
from gateway.refuse import refuse
from gateway.resolve import Ask, resolve
from gateway.settings import Settings
from gateway.shapes import Candidate, Client, Headers
from gateway.snapshot import Snapshot
from gateway.stream import Heartbeats, stream
from gateway.trace import PATH as PATH_OF_TRACE
from gateway.trace import trace
from gateway.upstream.seam import Answer, Engine
from gateway.vault import KeyRing
from gateway.verdict import goes_on

_NOTHING: Headers = []


@dataclass(slots=True)
class Furniture:
    """What the steps stand on. `snapshot` is replaced as a whole when configuration changes."""

    settings: Settings
    ring: KeyRing
    catalog: Catalog
    snapshot: Snapshot
    limiter: Limiter
    engine: Engine
    log: RequestLog
    clock: Callable[[], float]
    used: dict[str, float]  # client key id -> when it was last used, Unix seconds
    seen: Samples  # how attempts at providers ended
    heartbeats: Heartbeats
    record: Record


async def receive(house: Furniture, exchange: Exchange, turn: Turn) -> None:
    """Serve one request; raises nothing but what is not ours to handle."""
    try:
        answer = await _fetch(house, exchange, turn)
        if answer is not None:
            # A stream may stay open for long, and needs nothing of its request any more.
            exchange.headers = turn.headers = _NOTHING
            exchange.answered = perf_counter()
            try:
                await stream(answer, exchange, turn, house.heartbeats)
            finally:
                answer.abort()
    except GatewayError as error:
        turn.unwatch()  # a refusal is not cut off: nothing waits upstream any more
        await refuse(error, exchange, turn, notes_of(exchange))
    except asyncio.CancelledError:
        left = turn.reason()
        if left is None:
            raise
        await refuse(left, exchange, turn, notes_of(exchange))
    finally:
        turn.unwatch()
        record = house.record  # asked for first: Python takes what is called at once for a method
        record(exchange, house.catalog, house.log, perf_counter(), house.seen)


async def _fetch(house: Furniture, exchange: Exchange, turn: Turn) -> Answer | None:
    """The upstream's answer; None where the request was answered from here."""
    snapshot, query, now = house.snapshot, turn.query, house.clock()
    head, credentials = _read(turn)
    if turn.path == PATH_OF_TRACE:
        await _explain(house, exchange, turn, head, now)
        return None
    match = exchange.match = paths.match(turn.method, turn.path)
    if match.endpoint.name == "probe":
        await _answer_probe(exchange, turn)
        return None
    try:
        client = exchange.client = authenticate(snapshot, credentials, query, now)
    except Unauthorized:
        edge.check_credential(turn)
        raise
    if turn.letter:
        turn.make_familiar(head)
    house.used[client.id] = now
    if match.endpoint.local:
        await enumerate_models(
            snapshot, house.catalog, client, exchange, turn, now=now, notes=notes_of(exchange)
        )
        return None
    most = house.settings.max_body_bytes
    body = body_at_hand(turn, match, head, most) or await read_body(turn, match, head, most)
    exchange.model = match.model if match.model is not None else body.model
    exchange.stream = body.stream
    ask = Ask(client, match, exchange.model, head.narrow, now)
    candidates = resolve(snapshot, house.catalog, ask)
    gateway = limit_of_gateway(snapshot, match, client)
    errand = _Errand(exchange, turn, head, match, client, body, gateway)
    return await _reach(house, errand, candidates)


def _read(turn: Turn) -> tuple[Head, Sequence[bytes]]:
    """The head, which has passed the strict check, and what may be a credential in it."""
    if turn.head is not None:  # it came before, and passed
        return turn.head, (turn.credential,)
    head = Head(turn.headers)
    edge.check(turn, head)
    return head, head.credentials


class _Errand(msgspec.Struct):
    """What every attempt to have one request answered needs."""

    exchange: Exchange
    turn: Turn
    head: Head
    match: Match
    client: Client
    body: Body
    gateway: Gateway | None  # the limit of the gateway it came through
    counted: bool = False  # against the limits of its key and gateway


async def _reach(house: Furniture, errand: _Errand, candidates: tuple[Candidate, ...]) -> Answer:
    """The first answer that is to be passed on, of each candidate at most one."""
    exchange, last, whole = errand.exchange, candidates[-1], errand.body.whole
    for candidate in candidates:
        exchange.candidate = candidate
        try:
            answer = await _attempt(house, errand, candidate)
        except GatewayError as error:
            if candidate is last or not goes_on(error, exchange.method, whole=whole):
                raise
            _abandon(exchange, candidate, None, error.code)
            continue
        if candidate is last or not goes_on(answer.status, exchange.method, whole=whole):
            return answer
        answer.abort()
        _abandon(exchange, candidate, answer.status, f"http_{answer.status}")
    raise AssertionError("resolve names at least one candidate")


async def _attempt(house: Furniture, errand: _Errand, candidate: Candidate) -> Answer:
    exchange, turn, match = errand.exchange, errand.turn, errand.match
    config, limiter = candidate.config, house.limiter
    # It counts once against its key and gateway, and once against each config it tries.
    client, gateway = (NOBODY, None) if errand.counted else (errand.client, errand.gateway)
    now = house.clock()
    if not limiter.at_hand(client, gateway, config, now):
        await limiter.admit(client, gateway, config, now)
    errand.counted = True
    turn.watch()
    exchange.hide_usage = _asks_usage(house.settings, match, errand.body, config.provider)
    name = candidate.sent_as
    # A model in the path is renamed there; what the body says of it is the client's own business.
    model = name if match.model is None else None
    content, length = outgoing(errand.body, turn, model, ask_usage=exchange.hide_usage)
    outbound = inject(
        candidate,
        _with_model(match, name),
        turn.method,
        errand.head,
        turn.query,
        content,
        length,
        house.ring,
    )
    exchange.sent = perf_counter()
    return await forward(house.engine, outbound)


def _abandon(exchange: Exchange, candidate: Candidate, status: int | None, code: str) -> None:
    now = perf_counter()
    sent = exchange.sent if exchange.sent is not None else now
    answered = now if status is not None else None
    tried = Attempt(candidate.config, sent, status, code, answered, candidate.model, now)
    exchange.abandoned = (*exchange.abandoned, tried)
    exchange.sent = None


async def _explain(
    house: Furniture, exchange: Exchange, turn: Turn, head: Head, now: float
) -> None:
    snapshot = house.snapshot
    client = exchange.client = authenticate(snapshot, head.credentials, turn.query, now)
    turn.expects = head.expects
    await trace(
        snapshot,
        house.catalog,
        house.limiter,
        client,
        exchange,
        turn,
        body=await read_whole(turn, house.settings.max_body_bytes),
        query=turn.query,
        narrow=head.narrow,
        now=now,
        notes=notes_of(exchange),
    )


def _with_model(match: Match, model: str | None) -> Match:
    """The match with the model in its path renamed, where the name lost its prefix."""
    if match.model_span is None or model is None or model == match.model:
        return match
    start, end = match.model_span
    name = quote(model, safe="/:@").encode()
    return replace(match, rest=match.rest[:start] + name + match.rest[end:], model=model)


def _asks_usage(settings: Settings, match: Match, body: Body, provider: str) -> bool:
    return (
        settings.count_usage
        and body.stream
        and match.endpoint.terminal == "chat"
        and not body.usage_asked
        and provider not in NO_STREAM_OPTIONS
    )


async def _answer_probe(exchange: Exchange, turn: Turn) -> None:
    """Some clients ask the bare address whether anybody is there. Anybody may ask."""
    exchange.answering, exchange.status, exchange.outcome = True, 200, "ok"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"8"), *notes_of(exchange)]
    turn.start(200, wire(headers), counted=True)
    await turn.write(b"wardgate", more=False)
