"""PyPI `cloudflare`, unmodified, against the running admin app: objects, paging, typed errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

import pytest
from cloudflare import (
    AsyncCloudflare,
    AuthenticationError,
    BadRequestError,
    Cloudflare,
    NotFoundError,
    PermissionDeniedError,
)

from tests.admin_serve import ACCOUNT, CONFIGS, KEY, PREVIEW, Admin

T = TypeVar("T")


async def with_client(app: Admin, use: Callable[[Cloudflare], T], token: str = "") -> T:
    """Run `use` in a thread with the synchronous client, which does not retry."""

    def run() -> T:
        base_url = f"{app.url}/client/v4"
        with Cloudflare(api_token=token or app.root, base_url=base_url, max_retries=0) as client:
            return use(client)

    return await asyncio.to_thread(run)


def create(client: Cloudflare, alias: str = "default") -> str:
    made = client.ai_gateway.provider_configs.create(
        "gw",
        account_id=ACCOUNT,
        alias=alias,
        default_config=True,
        provider_slug="openai",
        rate_limit=10,
        rate_limit_period=60,
        secret=KEY,
        secret_id="label",
    )
    assert (made.alias, made.gateway_id, made.secret_preview) == (alias, "gw", PREVIEW)
    assert (made.rate_limit, made.secret_id, made.default_config) == (10, "label", True)
    assert made.modified_at.tzinfo is not None
    return made.id


async def test_create_gives_a_typed_object(app: Admin) -> None:
    assert len(await with_client(app, create)) == 36


async def test_listing_goes_through_every_page_and_ends(app: Admin) -> None:
    def use(client: Cloudflare) -> tuple[list[str], int]:
        for number in range(5):
            create(client, f"a{number}")
        rows = client.ai_gateway.provider_configs.list("gw", account_id=ACCOUNT, per_page=2)
        whole = client.ai_gateway.provider_configs.list("gw", account_id=ACCOUNT)
        return [row.alias for row in rows], len(list(whole))

    assert await with_client(app, use) == ([f"a{n}" for n in range(5)], 5)


async def test_the_async_client_pages_too(app: Admin) -> None:
    base_url = f"{app.url}/client/v4"
    async with AsyncCloudflare(api_token=app.root, base_url=base_url) as client:
        for alias in ("a", "b", "c"):
            await client.ai_gateway.provider_configs.create(
                "gw", account_id=ACCOUNT, alias=alias, default_config=False, provider_slug="openai"
            )
        rows = client.ai_gateway.provider_configs.list("gw", account_id=ACCOUNT, per_page=1)
        assert [row.alias async for row in rows] == ["a", "b", "c"]


async def test_put_and_delete_by_path(app: Admin) -> None:
    def use(client: Cloudflare) -> None:
        path = f"{CONFIGS}/{create(client)}"
        changed = client.put(path, body={"secret": KEY[:-4] + "NEWK"}, cast_to=object)
        assert isinstance(changed, dict)
        assert changed["result"]["secret_preview"] == "sk-...NEWK"
        deleted = client.delete(path, cast_to=object)
        assert isinstance(deleted, dict)
        assert deleted["result"]["alias"] == "default"
        with pytest.raises(NotFoundError) as gone:
            client.delete(path, cast_to=object)
        assert gone.value.errors[0].code == 7002

    await with_client(app, use)


async def test_typed_errors(app: Admin) -> None:
    def duplicate(client: Cloudflare) -> None:
        create(client)
        with pytest.raises(BadRequestError) as taken:
            create(client)
        assert taken.value.errors[0].code == 7001

    def unknown(client: Cloudflare) -> None:
        with pytest.raises(AuthenticationError) as refused:
            create(client)
        assert refused.value.errors[0].code == 10000

    def forbidden(client: Cloudflare) -> None:
        with pytest.raises(PermissionDeniedError):
            create(client)

    await with_client(app, duplicate)
    await with_client(app, unknown, token="wga_nobody")
    await with_client(app, forbidden, token=await app.token(("AIProviders.Read", "global")))


async def test_global_key_and_service_key(app: Admin) -> None:
    def run() -> None:
        base_url = f"{app.url}/client/v4"
        with Cloudflare(api_key=app.root, api_email="a@b.c", base_url=base_url) as client:
            create(client)
        with Cloudflare(user_service_key=app.root, base_url=base_url) as client:
            assert len(list(client.ai_gateway.provider_configs.list("gw", account_id=ACCOUNT))) == 1

    await asyncio.to_thread(run)


async def test_gateways_are_made_listed_changed_and_deleted(app: Admin) -> None:
    def use(client: Cloudflare) -> None:
        resource = client.ai_gateway
        for name in ("one", "two", "three"):
            made = resource.create(
                account_id=ACCOUNT,
                id=name,
                cache_invalidate_on_update=True,
                cache_ttl=0,
                collect_logs=True,
                rate_limiting_interval=0,
                rate_limiting_limit=0,
            )
            assert (made.id, made.created_at) == (name, made.modified_at)
        names = [row.id for row in resource.list(account_id=ACCOUNT, per_page=1)]
        assert sorted(names) == ["one", "three", "two"]
        changed = resource.update(
            "one",
            account_id=ACCOUNT,
            cache_invalidate_on_update=False,
            cache_ttl=None,
            collect_logs=True,
            rate_limiting_interval=60,
            rate_limiting_limit=50,
            rate_limiting_technique="sliding",
        )
        assert (changed.rate_limiting_limit, changed.rate_limiting_technique) == (50, "sliding")
        assert resource.get("one", account_id=ACCOUNT).modified_at == changed.modified_at
        assert resource.delete("one", account_id=ACCOUNT).id == "one"
        with pytest.raises(NotFoundError):
            resource.get("one", account_id=ACCOUNT)

    await with_client(app, use)
