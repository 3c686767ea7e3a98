"""A key is proved, then swapped: a refused one changes nothing, whoever else writes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from admin import verify
from admin.configure import configs
from admin.configure.configs import ConfigChange, ConfigView, NewConfig
from admin.configure.desk import Desk
from admin.configure.refusals import Refusal
from admin.demo.upstream import Received, Script, Upstream
from admin.permit import LOCAL
from admin.probe import Prober
from gateway.shapes import GLOBAL
from gateway.store import proofs
from gateway.store.compile import revision
from tests import desks
from tests.backends import Backend
from tests.desks import GROUP, GROUP_ADMIN, KEY, add, key_of, refused, secret
from tests.ports import dead_port

GOOD = "sk-proj-canary-good-zyxwvutsrqponmlk"
BAD = "sk-refuse-canary-0123456789abcdefghi"  # the demo refuses it
LISTED = Script(body=b'{"data": [{"id": "gpt-a"}]}')


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with desks.opened(backend) as opened:
        yield opened
    content = backend.disk()
    assert not [key for key in (KEY, GOOD, BAD) if key.encode() in content]


@pytest.fixture
async def prober() -> AsyncIterator[Prober]:
    made = Prober()
    yield made
    await made.aclose()


async def change(
    desk: Desk, prober: Prober, view: ConfigView, *, guard: Any = None, **changed: Any
) -> ConfigView:
    asked = ConfigChange(**changed)
    return await verify.changed(desk, prober, LOCAL, view.id, view.scope, asked, guard=guard)


async def live(desk: Desk, config_id: str) -> tuple[Any, ...]:
    """Everything stored of a config, its sealed key included, and the store's revision."""
    async with desk.store.read() as conn:
        return await configs.found(conn, config_id, None), await revision(desk.store)


async def outcome_of(desk: Desk, config_id: str) -> tuple[int, str] | None:
    async with desk.store.read() as conn:
        found = await proofs.find(conn, config_id)
    return (found.secret_version, found.outcome) if found else None


def keys_seen(upstream: Upstream) -> list[str]:
    return [(r.header(b"authorization") or b"").decode()[7:] for r in upstream.received]


async def test_good_key_is_proved_and_swapped(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    view = await add(desk, base_url=upstream.url)
    swapped = await change(desk, prober, view, secret=secret(GOOD), name="renamed")
    assert (swapped.secret_version, swapped.name) == (2, "renamed")
    assert await key_of(desk, view.id) == GOOD
    assert keys_seen(upstream) == [GOOD]
    assert await outcome_of(desk, view.id) == (2, "ok")


async def test_refused_key_changes_nothing(desk: Desk, prober: Prober, upstream: Upstream) -> None:
    view = await add(desk, base_url=upstream.url)
    before = await live(desk, view.id)
    with pytest.raises(Refusal) as caught:
        await change(desk, prober, view, secret=secret(BAD), name="renamed")
    assert (caught.value.kind, caught.value.field) == ("key_refused", "secret")
    assert "openai refused the key (status 401)" in caught.value.message
    assert BAD not in caught.value.message
    assert await live(desk, view.id) == before
    assert await key_of(desk, view.id) == KEY
    assert await outcome_of(desk, view.id) is None


@pytest.mark.parametrize("script", [Script(status=500), Script(status=429), Script(body=b"x")])
async def test_key_that_cannot_be_proved_changes_nothing(
    desk: Desk, prober: Prober, script: Script
) -> None:
    async with Upstream(script) as upstream:
        view = await add(desk, base_url=upstream.url)
        before = await live(desk, view.id)
        work = change(desk, prober, view, secret=secret(GOOD))
        assert await refused(work) == ("not_verified", "secret")
        assert await live(desk, view.id) == before


async def test_provider_that_is_away_changes_nothing(desk: Desk, prober: Prober) -> None:
    view = await add(desk, base_url=f"http://127.0.0.1:{dead_port()}/v1")
    assert await refused(change(desk, prober, view, secret=secret(GOOD))) == (
        "not_verified",
        "secret",
    )
    assert await key_of(desk, view.id) == KEY


async def test_provider_without_a_list_is_given_the_benefit(desk: Desk, prober: Prober) -> None:
    view = await add(desk, provider="perplexity")
    assert (await change(desk, prober, view, secret=secret(GOOD))).secret_version == 2
    assert await outcome_of(desk, view.id) == (2, "unlisted")


async def test_key_is_proved_where_it_will_be_sent(desk: Desk, prober: Prober) -> None:
    async with Upstream(LISTED) as old, Upstream(LISTED) as new:
        view = await add(desk, base_url=old.url)
        moved = await change(desk, prober, view, secret=secret(GOOD), base_url=new.url)
        assert moved.base_url == new.url
        assert (keys_seen(old), keys_seen(new)) == ([], [GOOD])


async def test_change_without_a_key_asks_nobody(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    view = await add(desk, base_url=upstream.url)
    for changed in ({"name": "renamed"}, {"secret": secret("sk-proj-...ghij")}, {"secret": None}):
        await change(desk, prober, view, **changed)
    assert upstream.received == []


async def test_moving_the_origin_needs_the_key_again(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    view = await add(desk, base_url="https://elsewhere.example/v1")
    assert (await refused(change(desk, prober, view, base_url=upstream.url)))[0] == "rebind"
    assert upstream.received == []


async def test_reference_is_proved_and_stored_as_it_is(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    view = await add(desk, base_url=upstream.url)
    reference = secret("$env:UPSTREAM_NOT_THERE")
    with pytest.raises(Refusal, match=r"\$env:UPSTREAM_NOT_THERE leads to no key") as caught:
        await change(desk, prober, view, secret=reference)
    assert caught.value.kind == "not_verified"
    assert await key_of(desk, view.id) == KEY


async def test_nobody_is_asked_for_what_may_not_be_written(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    kept = await add(desk, base_url=upstream.url, managed_by="configs.yaml")
    assert await refused(change(desk, prober, kept, secret=secret(GOOD))) == ("managed", None)

    def stale(_: ConfigView) -> None:
        raise Refusal("stale", "changed meanwhile")

    view = await add(desk, "other", base_url=upstream.url)
    work = change(desk, prober, view, secret=secret(GOOD), guard=stale)
    assert await refused(work) == ("stale", None)
    theirs = ConfigChange(secret=secret(GOOD), base_url=upstream.url)
    mine = await add(desk, "mine", scope=GROUP)
    moved = verify.changed(desk, prober, GROUP_ADMIN, mine.id, GROUP, theirs)
    assert await refused(moved) == ("forbidden", "base_url")
    assert upstream.received == []


class Meddling(Prober):
    """A prober during whose probes somebody else writes: once for each of `steps`."""

    def __init__(self, *steps: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self.steps = list(steps)
        self.probes = 0

    async def offered(self, desk: Desk, target: Any) -> Any:
        self.probes += 1
        probed = await super().offered(desk, target)
        if self.steps:
            await self.steps.pop(0)()
        return probed


async def test_config_that_moves_while_it_is_probed_is_probed_again(desk: Desk) -> None:
    async with Upstream(LISTED) as old, Upstream(LISTED) as new:
        view = await add(desk, base_url=old.url)

        async def moved() -> None:
            theirs = ConfigChange(secret=secret("sk-theirs-0123456789"), base_url=new.url)
            await configs.change(desk, LOCAL, view.id, GLOBAL, theirs)

        meddling = Meddling(moved)
        swapped = await change(desk, meddling, view, secret=secret(GOOD))
        await meddling.aclose()
        assert meddling.probes == 2
        assert (keys_seen(old), keys_seen(new)) == ([GOOD], [GOOD])
        assert (swapped.base_url, swapped.secret_version) == (new.url, 3)
        assert await key_of(desk, view.id) == GOOD


async def test_config_that_never_rests_is_left_as_it_is(desk: Desk) -> None:
    async with Upstream(LISTED) as upstream:
        view = await add(desk, base_url=upstream.url)

        async def renamed() -> None:
            await configs.change(desk, LOCAL, view.id, GLOBAL, ConfigChange(name="theirs"))

        meddling = Meddling(renamed, renamed)
        assert await refused(change(desk, meddling, view, secret=secret(GOOD))) == ("stale", None)
        await meddling.aclose()
        assert await key_of(desk, view.id) == KEY


async def test_config_deleted_while_it_is_probed_stays_deleted(desk: Desk) -> None:
    async with Upstream(LISTED) as upstream:
        view = await add(desk, base_url=upstream.url)
        meddling = Meddling(lambda: configs.delete(desk, LOCAL, view.id, GLOBAL))
        work = change(desk, meddling, view, secret=secret(GOOD))
        assert await refused(work) == ("not_found", None)
        await meddling.aclose()


async def test_callers_own_guard_is_asked_again_when_it_is_written(desk: Desk) -> None:
    async with Upstream(LISTED) as upstream:
        view = await add(desk, base_url=upstream.url)

        async def renamed() -> None:
            await configs.change(desk, LOCAL, view.id, GLOBAL, ConfigChange(name="theirs"))

        def same(now: ConfigView) -> None:
            if now.revision != view.revision:
                raise Refusal("stale", "If-Match names another state")

        meddling = Meddling(renamed)
        work = change(desk, meddling, view, secret=secret(GOOD), guard=same)
        assert await refused(work) == ("stale", None)
        await meddling.aclose()
        assert meddling.probes == 1


def new(url: str, key: str = GOOD, **more: Any) -> NewConfig:
    given: dict[str, Any] = {"scope": GLOBAL, "provider": "openai", "alias": "main"}
    return NewConfig(**{**given, "base_url": url, "secret": secret(key), **more})


async def count(desk: Desk) -> int:
    return len(await configs.every(desk, None))


@pytest.mark.parametrize("strict", [True, False])
async def test_new_config_is_proved(
    desk: Desk, prober: Prober, upstream: Upstream, strict: bool
) -> None:
    view = await verify.created(desk, prober, LOCAL, new(upstream.url), strict=strict)
    assert await outcome_of(desk, view.id) == (1, "ok")
    assert await key_of(desk, view.id) == GOOD


@pytest.mark.parametrize("strict", [True, False])
async def test_refused_key_makes_no_config(
    desk: Desk, prober: Prober, upstream: Upstream, strict: bool
) -> None:
    work = verify.created(desk, prober, LOCAL, new(upstream.url, BAD), strict=strict)
    assert await refused(work) == ("key_refused", "secret")
    assert await count(desk) == 0


async def test_only_a_strict_caller_insists_on_a_provider_that_answers(
    desk: Desk, prober: Prober
) -> None:
    away = new(f"http://127.0.0.1:{dead_port()}/v1")
    strict = verify.created(desk, prober, LOCAL, away, strict=True)
    assert await refused(strict) == ("not_verified", "secret")
    view = await verify.created(desk, prober, LOCAL, away, strict=False)
    assert await outcome_of(desk, view.id) == (1, "unreachable")


async def test_new_config_without_a_key_asks_nobody(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    await verify.created(desk, prober, LOCAL, new(upstream.url, secret=None), strict=True)
    assert upstream.received == []


async def configure(
    desk: Desk, prober: Prober | None, alias: str | None = None, **changed: Any
) -> tuple[ConfigView, bool]:
    asked = ConfigChange(**changed)
    return await verify.configured(desk, prober, LOCAL, GLOBAL, "openai", alias, asked)


async def test_configuring_proves_what_it_makes_and_what_it_changes(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    view, made = await configure(desk, prober, secret=secret(), base_url=upstream.url)
    assert (made, view.alias, await outcome_of(desk, view.id)) == (True, "default", (1, "ok"))
    again, made = await configure(desk, prober, secret=secret(GOOD))
    assert (made, again.id, again.secret_version) == (False, view.id, 2)
    assert keys_seen(upstream) == [KEY, GOOD]
    assert (await refused(configure(desk, prober, secret=secret(BAD))))[0] == "key_refused"
    other = configure(desk, prober, "other", secret=secret(BAD), base_url=upstream.url)
    assert (await refused(other))[0] == "key_refused"
    assert await count(desk) == 1


async def test_configuring_proves_the_stored_key_when_none_is_sent(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    view = await add(desk, "default", base_url=upstream.url, secret=secret(BAD))
    assert await refused(configure(desk, prober, name="new")) == ("key_refused", "secret")
    assert (await configs.get(desk, view.id)).name == view.name
    assert await outcome_of(desk, view.id) == (1, "key_refused")
    await configure(desk, prober, secret=secret(GOOD))
    renamed, _ = await configure(desk, prober, name="new")
    assert renamed.name == "new"
    assert keys_seen(upstream) == [BAD, GOOD, GOOD]


async def test_configuring_picks_what_the_desk_would_pick(
    desk: Desk, prober: Prober, upstream: Upstream
) -> None:
    for alias in ("oldest", "default", "flagged"):
        view = await add(desk, alias, base_url=upstream.url, default=False)
    for named, expected in ((None, "default"), ("Oldest", "oldest"), (None, "flagged")):
        if expected == "flagged":
            await configs.change(desk, LOCAL, view.id, GLOBAL, ConfigChange(default=True))
        proved, _ = await configure(desk, prober, named, secret=secret(GOOD))
        plain, _ = await configure(desk, None, named, name="the same")
        assert (proved.id, proved.alias) == (plain.id, expected)


async def test_configuring_without_a_prober_asks_nobody(desk: Desk, upstream: Upstream) -> None:
    _, made = await configure(desk, None, secret=secret(BAD), base_url=upstream.url)
    assert made
    assert upstream.received == []


async def test_config_made_while_its_key_is_probed_is_probed_as_it_is(desk: Desk) -> None:
    async with Upstream(LISTED) as theirs, Upstream(LISTED) as ours:
        meddling = Meddling(lambda: add(desk, "default", base_url=theirs.url))
        work = configure(desk, meddling, secret=secret(GOOD), base_url=ours.url)
        view, made = await work
        await meddling.aclose()
        assert (made, meddling.probes, view.base_url) == (False, 2, ours.url)


def decide(received: Received) -> Script:
    return (
        LISTED
        if received.header(b"authorization") == f"Bearer {GOOD}".encode()
        else Script(status=401)
    )


async def test_many_rotations_at_once_end_with_a_key_that_was_proved(
    desk: Desk, prober: Prober
) -> None:
    async with Upstream(decide) as upstream:
        view = await add(desk, base_url=upstream.url)
        asked = [secret(BAD), secret(GOOD), secret(BAD), secret(GOOD)]
        ended = await asyncio.gather(
            *(change(desk, prober, view, secret=key) for key in asked), return_exceptions=True
        )
    kinds = [end.kind if isinstance(end, Refusal) else "ok" for end in ended]
    assert set(kinds) <= {"ok", "key_refused", "stale"}
    assert "ok" in kinds
    assert await key_of(desk, view.id) == GOOD
