"""The keys of an identity provider: when it is asked for them, and what is taken for an answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from admin.jwks import FRESH, LARGEST, PAUSE, SOON, STALE
from admin.permit import Actor
from gateway.errors import Unauthorized, Unavailable
from tests.desks import Clock
from tests.issuer import (
    DISCOVERY,
    ROOT,
    Issuer,
    issuing,
    jwk,
    new_key,
    read,
    reader,
    sign,
)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as running:
        yield running


async def test_a_set_address_of_the_keys_is_asked_without_discovery(issuer: Issuer) -> None:
    await read(issuer, issuer.token(), url=f"{issuer.url}/keys")
    assert issuer.asked == ["/keys"]


async def test_a_rotated_key_is_found_and_a_withdrawn_one_refused(issuer: Issuer) -> None:
    clock, other = Clock(), new_key()
    old, fresh = issuer.token(), sign(other, issuer.claims(), kid="two")
    async with reader(issuer, clock=clock) as reading:
        await reading.actor(old)
        issuer.keys[:] = [jwk(other, "two")]
        clock.now += PAUSE
        assert (await reading.actor(fresh)).id == "oidc:alice"
        with pytest.raises(Unauthorized):
            await reading.actor(old)
    assert issuer.asked.count("/keys") == 2


async def test_a_withdrawn_key_ends_within_the_hour_though_no_new_one_is_seen(
    issuer: Issuer,
) -> None:
    clock, token = Clock(), issuer.token()
    async with reader(issuer, clock=clock) as reading:
        await reading.actor(token)
        issuer.keys.clear()
        clock.now += FRESH - 1
        await reading.actor(token)
        clock.now += 2
        with pytest.raises(Unauthorized, match="not publish"):
            await reading.actor(token)


async def test_a_storm_of_unknown_keys_asks_once_a_minute(issuer: Issuer) -> None:
    clock, known = Clock(), issuer.token()
    async with reader(issuer, clock=clock) as reading:
        for minute in range(1, 4):
            storm = [issuer.token(head={"kid": f"k{minute}-{n}"}) for n in range(50)]
            answers = [reading.actor(token) for token in [*storm, known]]
            *unknown, last = await asyncio.gather(*answers, return_exceptions=True)
            assert {type(error) for error in unknown} == {Unauthorized}
            assert isinstance(last, Actor)
            assert issuer.asked.count("/keys") == minute
            clock.now += PAUSE


async def test_an_issuer_that_is_away_is_unavailable_then_bounded_then_back() -> None:
    clock = Clock()
    async with issuing() as issuer:
        token = issuer.token()
        issuer.instead["/keys"] = Response("no", 500)
        async with reader(issuer, clock=clock) as reading:
            for _ in range(20):
                with pytest.raises(Unavailable, match="cannot be reached"):
                    await reading.actor(token)
            assert issuer.asked.count("/keys") == 1
            issuer.instead.clear()
            clock.now += SOON
            assert (await reading.actor(token)).grants == ROOT


async def test_known_keys_hold_for_a_day_while_the_issuer_is_away() -> None:
    clock = Clock()
    async with contextlib.AsyncExitStack() as running:
        issuer = await running.enter_async_context(issuing())
        token = issuer.token(exp=time.time() + STALE)
        async with reader(issuer, clock=clock) as reading:
            await reading.actor(token)
            await running.aclose()
            for _ in range(23):
                clock.now += FRESH
                assert (await reading.actor(token)).grants == ROOT
            clock.now += FRESH + 1
            with pytest.raises(Unavailable):
                await reading.actor(token)


async def test_nobody_waits_for_a_slow_issuer_who_need_not(issuer: Issuer) -> None:
    stuck, clock, known = _Stuck(), Clock(), issuer.token()
    async with reader(issuer, clock=clock) as reading:
        await reading.actor(known)
        issuer.instead["/keys"] = stuck
        clock.now += PAUSE
        waiting = asyncio.create_task(reading.actor(issuer.token(head={"kid": "two"})))
        async with asyncio.timeout(5):
            await stuck.reached.wait()
            clock.now += FRESH
            assert (await reading.actor(known)).grants == ROOT
        stuck.held.set()
        with pytest.raises(Unauthorized):
            await waiting


class _Stuck(Response):
    """Comes when it is let go: a key set without keys."""

    def __init__(self) -> None:
        super().__init__(b'{"keys": []}', media_type="application/json")
        self.reached, self.held = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.reached.set()
        await self.held.wait()
        await super().__call__(scope, receive, send)


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        (DISCOVERY, Response("gone", 404)),
        (DISCOVERY, HTMLResponse("<h1>Sign in</h1>")),
        (DISCOVERY, JSONResponse([])),
        (DISCOVERY, JSONResponse({"issuer": "https://x.example", "jwks_uri": "/keys"})),
        (DISCOVERY, RedirectResponse("/elsewhere", 302)),
        ("/keys", RedirectResponse("/elsewhere", 307)),
        ("/keys", JSONResponse({"keys": "none"})),
        ("/keys", JSONResponse({})),
        ("/keys", Response(b" " * (LARGEST + 1) + b'{"keys": []}', media_type="application/json")),
        ("/keys", Response(b"[" * 200_000, media_type="application/json")),
        ("/keys", Response(b"\xff\xfe", media_type="application/json")),
    ],
)
async def test_what_is_no_key_set_is_not_taken_for_one(
    issuer: Issuer, path: str, instead: Response
) -> None:
    issuer.instead[path] = instead
    with pytest.raises(Unavailable):
        await read(issuer, issuer.token())
    assert "/elsewhere" not in issuer.asked


async def test_a_discovery_document_of_another_issuer_is_not_followed(issuer: Issuer) -> None:
    keys = f"{issuer.url}/keys"
    for other in (f"{issuer.url}/", "https://x.example", None):
        issuer.instead[DISCOVERY] = JSONResponse({"issuer": other, "jwks_uri": keys})
        with pytest.raises(Unavailable):
            await read(issuer, issuer.token())
    assert "/keys" not in issuer.asked


async def test_an_issuer_that_does_not_answer_is_not_waited_for(issuer: Issuer) -> None:
    stuck = _Stuck()
    issuer.instead["/keys"] = stuck
    with pytest.raises(Unavailable):
        await read(issuer, issuer.token(), patience=0.05)
    stuck.held.set()


async def test_keys_are_fetched_from_no_address_that_settings_do_not_name(issuer: Issuer) -> None:
    async with issuing() as inside:
        for url in (f"{inside.url}/keys", "http://169.254.169.254/keys", "file:///etc/passwd", 7):
            issuer.instead[DISCOVERY] = JSONResponse({"issuer": issuer.url, "jwks_uri": url})
            with pytest.raises(Unavailable):
                await read(issuer, issuer.token())
        assert inside.asked == []
