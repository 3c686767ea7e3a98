"""A synced catalog: what is taken, what is refused, and that the last good copy stays."""

from __future__ import annotations

import asyncio
import lzma
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import update

from admin.catalog import SyncRefused, details, follow, sync_if_due, sync_regularly
from admin.catalog_source import FetchFailed
from admin.configure import audit, configs
from admin.configure.configs import ConfigChange
from admin.configure.desk import Desk
from admin.demo.upstream import Received, Script, Upstream
from admin.permit import LOCAL
from gateway import catalog
from gateway.errors import SealBroken
from gateway.store.compile import revision
from gateway.store.tables import catalog as table_of_catalogs
from tests.backends import Backend
from tests.catalogs import ACME, TEN, Source, entry, kept, model, synced, url_of
from tests.desks import add, key_of, later, opened, stored, table

OTHER = "https://api.other.example/v1"


async def test_synced_catalog_is_stored_and_served_by_with_its_audit_row(backend: Backend) -> None:
    source = Source(entry("acme"))
    async with opened(backend) as desk, Upstream(source) as up:
        before = await revision(desk.store)
        done = await synced(desk, up, force=True)
        assert (done.providers, done.models) == (1, 10)
        assert done.difference is not None
        assert len(done.difference.added) == 10
        assert len(done.difference.removed) == 5276
        assert list(desk.catalog.providers) == ["acme"]
        assert desk.catalog.age_date == desk.clock()
        row = await kept(desk)
        assert row is not None
        assert lzma.decompress(row.data) == source.body
        assert (row.url, row.etag) == (url_of(up), source.etag.decode())
        assert await revision(desk.store) == before + 1
        [written], intact = await audit.page(desk, 1)
        assert (written.action, written.actor_id, intact) == ("catalog.sync", "local", True)
        assert written.change["added"] == 10
        assert written.change["forced"] == ["it drops 5276 of 5276 models (100.0 %)"]
        [received] = up.received
        assert received.header(b"accept-encoding") == b"identity"
        assert received.header(b"if-none-match") is None


async def test_details_are_those_of_the_catalog_asked_for(backend: Backend) -> None:
    told = model("model-0", limit={"context": 5, "output": 7}, cost={"input": 1, "tiers": [1]})
    async with opened(backend) as desk, Upstream(Source(entry("acme", {"model-0": told}))) as up:
        packaged = details(desk.catalog, "openai")["gpt-4o"]
        assert packaged["limit"] == {"context": 128_000, "output": 16_384}
        assert packaged["modalities"]["output"] == ["text"]
        assert (packaged["reasoning"], packaged["tool_call"]) == (False, True)
        assert details(desk.catalog, "nobody") == {}
        await synced(desk, up, force=True)
        found = details(desk.catalog, "acme")["model-0"]
        assert (found["limit"], found["cost"]) == (told["limit"], told["cost"])
        assert details(desk.catalog, "openai") == {}


async def test_source_without_news_changes_nothing_but_the_age(backend: Backend) -> None:
    source = Source(entry("acme"))
    async with opened(backend) as desk, Upstream(source) as up:
        await synced(desk, up, force=True)
        first, rows = await kept(desk), await audit.page(desk, 10)
        later(desk, 3600)
        assert (await synced(desk, up)).difference is None
        assert up.received[1].header(b"if-none-match") == source.etag
        again = await kept(desk)
        assert first is not None
        assert again is not None
        assert (again.data, again.digest, again.etag) == (first.data, first.digest, first.etag)
        assert again.synced_at == first.synced_at + 3600 == desk.catalog.age_date
        assert await audit.page(desk, 10) == rows


async def test_same_catalog_without_an_etag_is_no_news(backend: Backend) -> None:
    def plain(source: Source) -> Any:
        return lambda received: type(source(received))(body=source.body)

    async with opened(backend) as desk, Upstream(plain(Source(entry("acme")))) as up:
        await synced(desk, up, force=True)
        first = await kept(desk)
        assert (await synced(desk, up)).difference is None
        assert await kept(desk) == first
        assert up.received[1].header(b"if-none-match") is None


async def test_etag_goes_to_the_source_it_came_from_only(backend: Backend) -> None:
    async with opened(backend) as desk, Upstream(Source(entry("acme"))) as one:
        await synced(desk, one, force=True)
        async with Upstream(Source(entry("acme"))) as two:
            done = await synced(desk, two)
            assert two.received[0].header(b"if-none-match") is None
            assert done.difference is not None
            row = await kept(desk)
            assert row is not None
            assert row.url == url_of(two)


@pytest.mark.parametrize(("gone", "taken"), [(2, True), (3, False)])
async def test_up_to_a_fifth_of_the_models_may_go(backend: Backend, gone: int, taken: bool) -> None:
    source = Source(entry("acme", TEN))
    async with opened(backend) as desk, Upstream(source) as up:
        await synced(desk, up, force=True)
        before, catalog_before = await kept(desk), desk.catalog
        source.put(entry("acme", (*TEN[gone:], "new-1", "new-2", "new-3")))
        if taken:
            done = await synced(desk, up)
            assert done.difference is not None
            assert len(done.difference.removed) == gone
            return
        with pytest.raises(SyncRefused) as refused:
            await synced(desk, up)
        assert refused.value.reasons[1:] == ("it drops 3 of 10 models (30.0 %)",)
        assert await kept(desk) == before
        assert desk.catalog is catalog_before
        forced = await synced(desk, up, force=True)
        assert forced.forced == ["it drops 3 of 10 models (30.0 %)"]
        assert set(desk.catalog.providers["acme"].models) == {*TEN[3:], "new-1", "new-2", "new-3"}


async def test_change_of_prices_is_counted(backend: Backend) -> None:
    source = Source(entry("acme"))
    async with opened(backend) as desk, Upstream(source) as up:
        await synced(desk, up, force=True)
        changed = {name: model(name) for name in TEN}
        changed["model-3"]["cost"]["input"] = 0.75
        source.put(entry("acme", models=changed))
        done = await synced(desk, up)
        assert done.difference is not None
        assert done.difference.changed == ["acme/model-3"]
        assert desk.catalog.providers["acme"].models["model-3"].input_price == 750_000


async def test_base_url_in_use_is_moved_by_force_only_and_no_config_is_changed(
    backend: Backend,
) -> None:
    source = Source(entry("acme"), entry("spare"))
    async with opened(backend) as desk, Upstream(source) as up:
        await synced(desk, up, force=True)
        view = await add(desk, "main", "acme")
        before, key = await kept(desk), await key_of(desk, view.id)
        source.put(entry("acme", api=OTHER), entry("spare", api=OTHER))
        with pytest.raises(SyncRefused) as refused:
            await synced(desk, up)
        moved = f"it moves a config in use: acme/main of global: {ACME} → {OTHER}"
        assert refused.value.reasons[1:] == (moved,)
        assert await kept(desk) == before
        assert (await stored(desk, view.id)).base_url == ACME
        await synced(desk, up, force=True)
        assert await configs.get(desk, view.id) == view
        # Its key stays sealed to the old place, so that it is not sent to the new one.
        assert (await stored(desk, view.id)).origin == "https://api.other.example:443"
        with pytest.raises(SealBroken):
            await key_of(desk, view.id)
        # What nobody uses any more may go back to where its key fits.
        source.put(entry("acme"), entry("spare"))
        await synced(desk, up)
        assert await key_of(desk, view.id) == key


async def test_own_base_url_and_unused_providers_are_nobodys_business(backend: Backend) -> None:
    source = Source(entry("acme"), entry("spare"))
    async with opened(backend) as desk, Upstream(source) as up:
        await synced(desk, up, force=True)
        await add(desk, "own", "acme", base_url=f"{up.origin}/v1")
        await add(desk, "local", "custom:lab", base_url=f"{up.origin}/v1", dialect="openai")
        source.put(entry("acme", api=OTHER), entry("spare", api=OTHER))
        done = await synced(desk, up)
        assert done.difference is not None
        assert done.difference.moved == []


@pytest.mark.parametrize(
    ("own", "there"), [(False, "no base URL"), (True, "no such provider")], ids=["catalogs", "own"]
)
async def test_provider_in_use_may_not_vanish(backend: Backend, own: bool, there: str) -> None:
    source = Source(entry("acme", TEN), entry("small", TEN[:1]))
    async with opened(backend) as desk, Upstream(source) as up:
        await synced(desk, up, force=True)
        url = f"{up.origin}/v1" if own else None
        view = await add(desk, "main", "small", base_url=url)
        # Switched off it still has a key that would not fit its new place.
        await configs.change(desk, LOCAL, view.id, view.scope, ConfigChange(active=False))
        source.put(entry("acme", TEN))
        with pytest.raises(SyncRefused) as refused:
            await synced(desk, up)
        assert refused.value.reasons[1].endswith(f"→ {there}")


async def test_template_takes_no_part_in_what_the_source_says(backend: Backend) -> None:
    source = Source(entry("azure", api="https://evil.example/v1"), entry("openai", api=OTHER))
    async with opened(backend) as desk, Upstream(source) as up:
        settings = {"resourceName": "mine"}
        await add(desk, "main", "azure", settings=settings)
        await add(desk, "main", "openai")
        await synced(desk, up, force=True)
        rows = {row.provider: row for row in (await table(desk)).configs["global"]}
        assert rows["azure"].base_url == "https://mine.openai.azure.com/openai/v1"
        assert rows["openai"].base_url == "https://api.openai.com/v1"


async def test_damaged_copy_leaves_the_last_one_and_is_fetched_anew(backend: Backend) -> None:
    async with opened(backend) as desk, Upstream(Source(entry("acme"))) as up:
        await synced(desk, up, force=True)
        before, good = desk.catalog, await kept(desk)
        async with desk.store.write(None) as conn:
            await conn.execute(update(table_of_catalogs).values(data=b"cut", synced_at=1.0))
        await desk.refresh()
        assert desk.catalog is before
        assert "is cut" in desk.catalog_flaw
        async with opened(backend) as cold:
            assert cold.catalog is catalog.load()
        await synced(desk, up)
        assert up.received[1].header(b"if-none-match") is None
        assert await kept(desk) == good
        assert desk.catalog_flaw == ""


async def test_two_syncs_at_once_leave_one_whole_catalog(backend: Backend) -> None:
    one, two = Source(entry("acme", TEN[:8])), Source(entry("acme", TEN[:9]))
    asked, both = list[Received](), asyncio.Event()

    def held(source: Source, received: Received) -> Script:
        """Neither is answered before both have looked at what is kept."""
        asked.append(received)
        if len(asked) == 2:
            both.set()
        return replace(source(received), before_head=both)

    async with (
        opened(backend) as desk,
        opened(backend) as other,
        Upstream(Source(entry("acme"))) as first,
        Upstream(partial(held, one)) as up_one,
        Upstream(partial(held, two)) as up_two,
    ):
        await synced(desk, first, force=True)
        ended = await asyncio.gather(
            synced(desk, up_one), synced(other, up_two), return_exceptions=True
        )
        refused = [result for result in ended if isinstance(result, SyncRefused)]
        assert len(refused) == 1
        assert "came in between" in str(refused[0])
        row = await kept(desk)
        assert row is not None
        assert lzma.decompress(row.data) in (one.body, two.body)
        await asyncio.gather(desk.refresh(), other.refresh())
        assert list(desk.catalog.providers["acme"].models) == list(
            other.catalog.providers["acme"].models
        )


async def test_readers_see_one_catalog_or_the_other_while_it_is_synced(backend: Backend) -> None:
    source = Source(entry("acme", TEN))
    async with opened(backend) as desk, opened(backend) as reader, Upstream(source) as up:
        await synced(desk, up, force=True)
        await add(desk, "main", "acme")
        seen: set[int] = set()
        done = asyncio.Event()

        async def read() -> None:
            while not done.is_set():
                await reader.refresh()
                seen.add(len(reader.catalog.providers["acme"].models))
                [row] = (await table(reader)).configs["global"]
                assert row.active

        reading = asyncio.create_task(read())
        for count in (11, 12, 13):
            source.put(entry("acme", tuple(f"model-{n}" for n in range(count))))
            await synced(desk, up)
        await reader.refresh()
        seen.add(len(reader.catalog.providers["acme"].models))
        done.set()
        await reading
        assert seen <= {10, 11, 12, 13}
        assert 13 in seen


async def test_another_process_notices_within_two_looks(backend: Backend) -> None:
    source = Source(entry("acme"))
    async with opened(backend) as desk, opened(backend) as other, Upstream(source) as up:
        await synced(desk, up, force=True)
        assert "openai" in other.catalog.providers
        following = asyncio.create_task(follow(other))
        await until_it_has(other, "acme")
        following.cancel()


async def until_it_has(desk: Desk, provider: str) -> None:
    async with asyncio.timeout(5):
        while provider not in desk.catalog.providers:  # noqa: ASYNC110 # nobody tells
            await asyncio.sleep(0.005)


async def test_regular_sync_goes_on_after_a_failure(backend: Backend) -> None:
    source = Source(entry("acme"))
    bad = iter([b"this is no catalog"])
    async with Upstream(source) as up:

        def respond(received: Any) -> Any:
            script = source(received)
            script.body = next(bad, source.body)
            return script

        up.respond = respond
        given = {"catalog_url": url_of(up), "catalog_sync_interval": 0.02}
        async with opened(backend, **given) as desk:
            regular = asyncio.create_task(sync_regularly(desk))
            await up.wait_received(3)
            regular.cancel()
            # Refused: it would drop every packaged model, and nobody is there to force it.
            assert await kept(desk) is None
            assert desk.catalog is catalog.load()


async def test_regular_sync_is_off_unless_asked_for(backend: Backend) -> None:
    async with opened(backend) as desk:
        async with asyncio.timeout(5):
            await sync_regularly(desk)


async def test_what_another_admin_app_just_synced_is_not_fetched_again(backend: Backend) -> None:
    source = Source(entry("acme"))
    async with Upstream(source) as up:
        given = {"catalog_url": url_of(up), "catalog_sync_interval": 3600.0}
        async with opened(backend, **given) as desk:
            await synced(desk, up, force=True)
            later(desk, 1790)
            assert await sync_if_due(desk) is None
            assert len(up.received) == 1
            later(desk, 20)
            source.put(entry("acme", (*TEN, "new")))
            assert await sync_if_due(desk) is not None
            [written], _ = await audit.page(desk, 1)
            assert (written.actor_id, written.change["added"]) == ("schedule", 1)


async def test_source_that_is_away_is_said_without_a_traceback(backend: Backend) -> None:
    async with opened(backend) as desk:
        async with Upstream() as up:
            url = up
        with pytest.raises(FetchFailed, match="could not be reached"):
            await synced(desk, url)
