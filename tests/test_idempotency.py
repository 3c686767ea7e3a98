"""Idempotency-Key: one request makes its change once, whatever comes in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from admin.configure import configs, idempotency
from admin.configure.configs import NewConfig
from admin.configure.desk import Desk, open_desk
from admin.configure.idempotency import CLAIM_LASTS, KEPT_FOR, Kept
from admin.configure.refusals import Refusal
from admin.demo.upstream import Received, Script, Upstream
from admin.permit import LOCAL, Actor
from gateway.shapes import GLOBAL, Secret
from gateway.store import tables
from gateway.store.idempotency import Claim
from tests import desks
from tests.admin_serve import CANARY, KEY, PREVIEW, Admin, admin
from tests.backends import Backend
from tests.desks import later, refused, secret

PROVIDERS = "/manage/v1/providers"
NEW = {"vendor": "openai", "name": "main", "api_key": KEY}
REPLAYED = "idempotent-replayed"
LISTED = Script(body=b'{"data": [{"id": "gpt-a"}]}')
REFUSED = Script(status=401, body=b'{"error": {"message": "no"}}')


class Provider:
    """What the upstream says of keys, and how often it was asked."""

    def __init__(self) -> None:
        self.says = LISTED
        self.asked = 0

    def __call__(self, received: Received) -> Script:
        self.asked += received.header(b"authorization") is not None
        return self.says


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
async def app(backend: Backend, provider: Provider) -> AsyncIterator[Admin]:
    async with (
        Upstream(provider) as upstream,
        admin(backend, provider_base_urls={"openai": upstream.url}) as running,
    ):
        yield running
    assert CANARY.encode() not in backend.disk()


async def send(
    app: Admin, method: str = "POST", path: str = PROVIDERS, body: Any = None, **more: Any
) -> httpx2.Response:
    """A request under the key `k`, unless told otherwise."""
    headers = {"idempotency-key": "k", **more.pop("headers", {})}
    return await app.call(method, path, body, headers=headers, **more)


def same(one: httpx2.Response, other: httpx2.Response) -> bool:
    names = ("content-type", "etag", "location")
    heads = [[answer.headers.get(name) for name in names] for answer in (one, other)]
    return (one.status_code, one.content, heads[0]) == (other.status_code, other.content, heads[1])


async def rows(desk: Desk) -> list[Any]:
    async with desk.store.read() as conn:
        return list(await conn.execute(select(tables.idempotency)))


async def made(app: Admin) -> int:
    """How many changes the audit trail tells of."""
    trail = (await app.call("GET", "/api/v1/audit")).json()["data"]
    return len([row for row in trail if row["action"].startswith("config.")])


async def test_the_same_request_gets_the_same_answer_and_acts_once(
    app: Admin, provider: Provider
) -> None:
    first = await send(app, body=NEW)
    assert first.status_code == 201
    assert REPLAYED not in first.headers
    asked = provider.asked
    for _ in range(3):
        again = await send(app, body=NEW)
        assert same(first, again)
        assert again.headers[REPLAYED] == "true"
        assert again.headers["cache-control"] == "no-store"
    assert (await made(app), provider.asked) == (1, asked)


async def test_every_mutation_is_repeated_alike(app: Admin) -> None:
    one = f"{PROVIDERS}/{(await send(app, body=NEW)).json()['id']}"
    change = {"name": "new", "api_key": f"{KEY}x"}
    changed = await send(app, "PATCH", one, change, headers={"idempotency-key": "c"})
    assert changed.status_code == 200
    assert same(changed, await send(app, "PATCH", one, change, headers={"idempotency-key": "c"}))
    gone = await send(app, "DELETE", one, headers={"idempotency-key": "d"})
    assert (gone.status_code, gone.content) == (204, b"")
    assert same(gone, await send(app, "DELETE", one, headers={"idempotency-key": "d"}))
    assert same(changed, await send(app, "PATCH", one, change, headers={"idempotency-key": "c"}))
    assert await made(app) == 3


async def test_without_the_header_nothing_is_kept(app: Admin) -> None:
    await app.call("POST", PROVIDERS, NEW)
    again = await app.call("POST", PROVIDERS, NEW)
    assert again.status_code == 409
    assert await rows(app.desk) == []


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("POST", PROVIDERS, {**NEW, "name": "other"}, {}),
        ("POST", PROVIDERS, {**NEW, "api_key": f"{KEY}x"}, {}),
        ("POST", f"{PROVIDERS}?x=1", NEW, {}),
        ("POST", PROVIDERS, NEW, {"wardgate-scope": GLOBAL}),
        ("PATCH", f"{PROVIDERS}/x", NEW, {}),
        ("DELETE", f"{PROVIDERS}/x", None, {}),
    ],
)
async def test_another_request_under_the_key_is_refused(
    app: Admin, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    await send(app, body=NEW)
    other = await send(app, method, path, body, headers=headers)
    assert other.status_code == 409
    assert other.json()["error"]["code"] == "idempotency_key_reused"
    assert await made(app) == 1


async def test_callers_do_not_share_their_keys(app: Admin) -> None:
    other = await app.token(("superadmin", "global"))
    assert (await send(app, body=NEW)).status_code == 201
    theirs = await send(app, body={**NEW, "name": "theirs"}, token=other)
    assert theirs.status_code == 201
    assert theirs.json()["name"] == "theirs"


@pytest.mark.parametrize(
    "sent", [b"", b"x" * 256, "ä".encode(), b"a\tb", b"\xff"], ids=["empty", "long", *"abc"]
)
async def test_a_key_that_is_none_is_refused(app: Admin, sent: bytes) -> None:
    heads = [(b"authorization", f"Bearer {app.root}".encode()), (b"idempotency-key", sent)]
    answer = await app.http.request("POST", PROVIDERS, headers=heads, json=NEW)
    assert answer.status_code == 400
    assert await made(app) == 0


async def test_two_keys_are_refused_and_the_longest_is_taken(app: Admin) -> None:
    head = (b"authorization", f"Bearer {app.root}".encode())
    key = (b"idempotency-key", b"k")
    twice = await app.http.request("POST", PROVIDERS, headers=[head, key, key], json=NEW)
    assert twice.status_code == 400
    longest = {"idempotency-key": "~ " * 127 + "x"}
    assert (await send(app, body=NEW, headers=longest)).status_code == 201
    assert (await send(app, body=NEW, headers=longest)).status_code == 201


async def test_what_the_desk_refused_stays_refused(app: Admin, provider: Provider) -> None:
    taken = (await app.call("POST", PROVIDERS, NEW)).json()["id"]
    for body, status in ((NEW, 409), ({**NEW, "vendor": "nobody"}, 400), ({"vendor": 1}, 400)):
        key = {"idempotency-key": str(body)[:50]}
        first = await send(app, body=body, headers=key)
        assert first.status_code == status
        await app.call("DELETE", f"{PROVIDERS}/{taken}")
        assert same(first, await send(app, body=body, headers=key))
    provider.says = REFUSED
    first = await send(app, body=NEW)
    assert (first.status_code, first.json()["error"]["code"]) == (422, "key_verification_failed")
    provider.says = LISTED
    assert same(first, await send(app, body=NEW))


async def test_what_may_be_otherwise_next_time_is_not_kept(app: Admin, provider: Provider) -> None:
    one = f"{PROVIDERS}/{(await app.call('POST', PROVIDERS, NEW)).json()['id']}"
    reader = await app.token(("AIProviders.Read", "global"))
    assert (await send(app, body=NEW, token=reader)).status_code == 403
    assert (await send(app, body=NEW, token="wga_none")).status_code == 401
    assert (await send(app, "DELETE", f"{PROVIDERS}/prov_{'0' * 26}")).status_code == 404
    assert await rows(app.desk) == []
    # The provider is away: no fault of the key, nor of the caller.
    provider.says = Script(status=500)
    change = {"api_key": f"{KEY}new"}
    assert (await send(app, "PATCH", one, change)).status_code == 422
    provider.says = LISTED
    assert (await send(app, "PATCH", one, change)).status_code == 200


async def test_at_once_one_acts_and_nobody_gets_another_answer(app: Admin) -> None:
    answers = await asyncio.gather(*(send(app, body=NEW) for _ in range(8)))
    first = next(a for a in answers if a.status_code == 201 and REPLAYED not in a.headers)
    for answer in answers:
        busy = answer.status_code == 409
        assert same(first, answer) or answer.json()["error"]["code"] == "request_in_progress"
        assert busy or answer.status_code == 201
    assert len([a for a in answers if a.status_code == 201 and REPLAYED not in a.headers]) == 1
    assert await made(app) == 1
    assert same(first, await send(app, body=NEW))


async def test_kept_answers_show_previews_and_requests_only_a_keyed_hash(app: Admin) -> None:
    await send(app, body=NEW)
    [row] = await rows(app.desk)
    assert PREVIEW in row.answer
    assert KEY not in row.answer
    assert CANARY not in repr(row)
    assert (len(row.digest), row.status) == (32, 201)


# From here on at the desk, whose clock is the test's: two desks on a store are two processes.


@pytest.fixture
async def two(backend: Backend) -> AsyncIterator[tuple[Desk, Desk]]:
    async with desks.opened(backend) as one:
        other = await open_desk(backend.settings(), desks.RING, one.catalog, one.clock)
        yield one, other
        await other.aclose()


async def claimed(desk: Desk, *parts: bytes, actor: Actor = LOCAL) -> Claim:
    claim = await idempotency.claim(desk, actor, "k", parts or (b"body",))
    assert isinstance(claim, Claim)
    return claim


async def create(desk: Desk, alias: str = "main") -> None:
    await configs.create(
        desk, LOCAL, NewConfig(scope=GLOBAL, provider="openai", alias=alias, secret=secret())
    )


async def count(desk: Desk) -> int:
    return (await configs.page(desk, None, 0, 10))[1]


async def in_the_way(desk: Desk, *parts: bytes) -> str:
    kind, _ = await refused(idempotency.claim(desk, LOCAL, "k", parts or (b"body",)))
    return kind


async def test_processes_share_the_keys(two: tuple[Desk, Desk]) -> None:
    one, other = two
    claim = await claimed(one)
    assert await in_the_way(other) == "request_in_progress"
    assert await in_the_way(other, b"another") == "idempotency_key_reused"
    await create(idempotency.marking(one, claim))
    assert await in_the_way(other) == "request_in_progress"
    await idempotency.keep(one, claim, 201, "text")
    assert await idempotency.claim(other, LOCAL, "k", (b"body",)) == Kept(201, "text")


async def test_of_many_claims_at_once_one_is_granted(two: tuple[Desk, Desk]) -> None:
    asked = [idempotency.claim(two[n % 2], LOCAL, "k", (b"body",)) for n in range(12)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert len([answer for answer in answers if isinstance(answer, Claim)]) == 1
    refusals = [answer for answer in answers if isinstance(answer, Refusal)]
    assert {refusal.kind for refusal in refusals} == {"request_in_progress"}
    assert len(refusals) == 11


async def test_a_claim_whose_process_died_is_taken_over_and_never_acts(
    two: tuple[Desk, Desk],
) -> None:
    one, other = two
    dead = await claimed(one)
    later(one, CLAIM_LASTS)
    assert await in_the_way(other) == "request_in_progress"
    later(one)
    assert await in_the_way(other, b"another") == "idempotency_key_reused"
    heir = await claimed(other)
    # It was not dead, only slow: what it does now is undone.
    assert await refused(create(idempotency.marking(one, dead))) == ("request_in_progress", None)
    assert await count(one) == 0
    await idempotency.release(one, dead)
    await idempotency.keep(one, dead, 201, "wrong")
    assert await in_the_way(one) == "request_in_progress"
    await create(idempotency.marking(other, heir))
    await idempotency.keep(other, heir, 201, "right")
    assert await idempotency.claim(one, LOCAL, "k", (b"body",)) == Kept(201, "right")
    assert await count(one) == 1


async def test_a_change_whose_answer_was_lost_is_not_made_again(two: tuple[Desk, Desk]) -> None:
    one, other = two
    claim = await claimed(one)
    await create(idempotency.marking(one, claim))
    await idempotency.release(one, claim)
    later(one, CLAIM_LASTS + 1)
    assert await in_the_way(other) == "answer_lost"
    assert await count(one) == 1


async def test_a_claim_that_changed_nothing_is_released(two: tuple[Desk, Desk]) -> None:
    one, other = two
    claim = await claimed(one)
    marked = idempotency.marking(one, claim)
    await create(one)
    assert (await refused(create(marked)))[0] == "alias_taken"
    await idempotency.release(one, claim)
    await claimed(other, b"another")


async def test_several_changes_of_one_request_carry_one_mark(two: tuple[Desk, Desk]) -> None:
    one, _ = two
    marked = idempotency.marking(one, await claimed(one))
    await create(marked, "a")
    await create(marked, "b")
    assert await count(one) == 2


async def test_answers_are_forgotten_after_a_day(two: tuple[Desk, Desk]) -> None:
    one, other = two
    claim = await claimed(one)
    await create(idempotency.marking(one, claim))
    await idempotency.keep(one, claim, 201, "text")
    later(one, KEPT_FOR)
    assert isinstance(await idempotency.claim(other, LOCAL, "k", (b"body",)), Kept)
    later(one)
    await claimed(other, b"another")
    assert len(await rows(one)) == 1


async def test_the_stored_hash_is_keyed_and_tells_parts_apart(two: tuple[Desk, Desk]) -> None:
    one, _ = two
    digests = set()
    for number, parts in enumerate(([b"ab", b"c"], [b"a", b"bc"], [b"abc"], [b"abc", b""])):
        claim = await idempotency.claim(one, LOCAL, str(number), parts)
        assert isinstance(claim, Claim)
        digests.add(claim.digest)
    assert len(digests) == 4
    elsewhere = replace(one, hash_key=Secret(bytes(32)))
    claim = await idempotency.claim(elsewhere, LOCAL, "k", [b"abc"])
    assert isinstance(claim, Claim)
    assert claim.digest not in digests
