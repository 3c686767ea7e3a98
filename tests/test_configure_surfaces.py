"""What the other surfaces ask of the desk: configure, detach, made-up aliases, AWS credentials."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from admin.configure import configs
from admin.configure.configs import ConfigChange, ConfigView, KeyParts, NewConfig
from admin.configure.desk import Desk
from admin.configure.refusals import Refusal
from admin.permit import LOCAL
from gateway.shapes import GLOBAL, Secret, Target
from gateway.store import enablement, routes
from tests.backends import Backend
from tests.desks import GROUP, KEY, add, key_of, later, opened, refused, secret, stored, table

AWS = ("AKIACANARY0123456789", "wJalrXUtnFEMI/K7MDENG+canary", "us-west-2", "session-canary-token")


@pytest.fixture
async def desk(backend: Backend) -> AsyncIterator[Desk]:
    async with opened(backend) as desk:
        yield desk


async def configure(
    desk: Desk, alias: str | None = None, provider: str = "openai", scope: str = GLOBAL, **more: Any
) -> tuple[ConfigView, bool]:
    change = ConfigChange(**more)
    return await configs.configure(desk, LOCAL, scope, provider, alias, change)


async def test_configure_makes_then_changes_the_same_config(desk: Desk) -> None:
    made, new = await configure(desk, secret=secret(), settings={"project": "p"})
    assert new
    assert (made.alias, made.name, made.default) == ("default", "OpenAI default", True)
    after, new = await configure(desk, active=False)
    assert not new
    assert (after.id, after.active, after.settings) == (made.id, False, {"project": "p"})


async def test_configure_edits_the_one_a_request_would_get(desk: Desk) -> None:
    first = await add(desk, "first", default=False)
    later(desk)
    second = await add(desk, "second", default=False)
    assert (await configure(desk, active=False))[0].id == first.id, "the oldest, inactive or not"
    later(desk)
    named = await add(desk, "Default", default=False)
    assert (await configure(desk, active=True))[0].id == named.id
    await configs.change(desk, LOCAL, second.id, GLOBAL, ConfigChange(default=True))
    assert (await configure(desk, active=True))[0].id == second.id
    assert (await configure(desk, "FIRST", active=True))[0].id == first.id
    assert (await configure(desk, "fourth", secret=secret()))[1]


async def test_settings_are_merged_by_name(desk: Desk) -> None:
    made, _ = await configure(desk, merged={"project": "p", "organization": None})
    assert made.settings == {"project": "p"}
    after, _ = await configure(desk, merged={"organization": "o"})
    assert after.settings == {"project": "p", "organization": "o"}
    after, _ = await configure(desk, merged={"project": None})
    assert after.settings == {"organization": "o"}


async def test_detach_takes_the_records_and_disables_the_agents(desk: Desk) -> None:
    await add(desk, scope=GROUP)
    async with desk.store.write(GROUP) as conn:
        await enablement.put(conn, GROUP, "openai", "gpt-4.1", enabled=False, now=1.0)
        await enablement.put(conn, GROUP, "groq", "llama", enabled=False, now=1.0)
        await enablement.put(conn, GLOBAL, "openai", "gpt-4.1", enabled=False, now=1.0)
    ours = await agent(desk, "a1", GROUP, "openai")
    await agent(desk, "a2", GROUP, "groq")
    await agent(desk, "a3", GLOBAL, "openai")
    gone = await configs.detach(desk, LOCAL, GROUP, "openai")
    assert (gone.disabled_agents, gone.removed_models) == ((ours,), 1)
    served = await table(desk)
    assert not served.agents[ours].enabled
    assert all(served.agents[name].enabled for name in ("a2", "a3"))
    assert served.disabled == {
        GROUP: frozenset({("groq", "llama")}),
        GLOBAL: frozenset({("openai", "gpt-4.1")}),
    }
    for alias in (None, "*"):
        again = configs.detach(desk, LOCAL, GROUP, "openai", alias)
        assert (await refused(again))[0] == "not_found"


async def test_detach_names_what_it_could_mean(desk: Desk) -> None:
    await add(desk, "one")
    await add(desk, "two")
    with pytest.raises(Refusal) as caught:
        await configs.detach(desk, LOCAL, GLOBAL, "openai")
    assert (caught.value.kind, caught.value.names) == ("several_configs", ("one", "two"))
    await agent(desk, "a1", GLOBAL, "openai")
    gone = await configs.detach(desk, LOCAL, GLOBAL, "openai", "TWO")
    assert (len(gone.configs), gone.disabled_agents) == (1, ()), "one is left: nobody is disabled"
    assert len((await configs.detach(desk, LOCAL, GLOBAL, "openai", "*")).configs) == 1


async def test_a_route_keeps_its_configs_and_detach_is_all_or_nothing(desk: Desk) -> None:
    await add(desk, "one")
    used = await add(desk, "two")
    async with desk.store.write(GLOBAL) as conn:
        values = {"id": "r", "scope_id": GLOBAL, "name": "fast", "created_at": 1, "updated_at": 1}
        await routes.add(conn, values, [Target(used.id, "gpt-4.1")])
    for work in (
        configs.delete(desk, LOCAL, used.id, GLOBAL),
        configs.detach(desk, LOCAL, GLOBAL, "openai", "*"),
    ):
        with pytest.raises(Refusal) as caught:
            await work
        assert (caught.value.kind, caught.value.names) == ("in_use", ("fast",))
    assert (await configs.page(desk, GLOBAL, 0, 9))[1] == 2


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("OpenAI Production", "openai-production"),
        ("OpenAI", "openai-2"),
        ("  Größe & Co. ", "gr-e-co"),
        ("日本", "config"),
        ("Models", "models-2"),
        ("x" * 200, "x" * 56),
    ],
)
async def test_any_name_becomes_an_alias(desk: Desk, name: str, alias: str) -> None:
    assert (await add(desk, name, free_alias=True)).alias == alias


async def test_made_up_aliases_are_numbered_across_providers(desk: Desk) -> None:
    await add(desk, "prod", provider="groq")
    assert (await add(desk, "Prod", free_alias=True)).alias == "prod-2"
    assert (await add(desk, "Prod", free_alias=True)).alias == "prod-3"


async def test_names_and_aliases_may_have_to_be_distinct(desk: Desk) -> None:
    first = await add(desk, "one", provider="groq", name="Fast")
    assert await refused(add(desk, "two", name="Fast", distinct="name")) == ("name_taken", "name")
    assert await refused(add(desk, "ONE", distinct="alias")) == ("alias_taken", "alias")
    other = await add(desk, "two", name="Slow", distinct="name")
    renamed = ConfigChange(name="Fast", distinct_name=True)
    work = configs.change(desk, LOCAL, other.id, GLOBAL, renamed)
    assert await refused(work) == ("name_taken", "name")
    same = ConfigChange(name="Fast", distinct_name=True)
    assert (await configs.change(desk, LOCAL, first.id, GLOBAL, same)).name == "Fast"


async def test_a_lookup_by_alias_may_be_ambiguous(desk: Desk) -> None:
    one = await add(desk, "default")
    await add(desk, "default", provider="anthropic")
    with pytest.raises(Refusal) as caught:
        await configs.named(desk, "Default", GLOBAL)
    assert caught.value.kind == "ambiguous_alias"
    assert caught.value.names == ("openai:default", "anthropic:default")
    assert (await configs.named(desk, "openai:default", GLOBAL)).id == one.id
    for nothing in ("none", "groq:default", "nobody:default", "openai:none"):
        assert (await refused(configs.named(desk, nothing, GLOBAL)))[0] == "not_found"


async def test_a_guard_sees_the_present_state_and_may_refuse(desk: Desk) -> None:
    made = await add(desk)

    def stale(view: ConfigView | None) -> None:
        assert view == made
        raise Refusal("stale", "changed since")

    change = ConfigChange(active=False)
    for work in (
        configs.change(desk, LOCAL, made.id, GLOBAL, change, guard=stale),
        configs.delete(desk, LOCAL, made.id, GLOBAL, guard=stale),
        configs.configure(desk, LOCAL, GLOBAL, "openai", None, change, guard=stale),
        configs.detach(desk, LOCAL, GLOBAL, "openai", guard=stale),
        configs.detach(desk, LOCAL, GLOBAL, "openai", "*", guard=stale),
    ):
        assert (await refused(work))[0] == "stale"
    assert await configs.get(desk, made.id) == made


async def test_what_a_file_keeps_is_changed_by_the_file(desk: Desk) -> None:
    made = await add(desk, managed_by="fleet.yaml")
    change = ConfigChange(active=False)
    for work in (
        configs.change(desk, LOCAL, made.id, GLOBAL, change),
        configs.delete(desk, LOCAL, made.id, GLOBAL),
        configs.configure(desk, LOCAL, GLOBAL, "openai", None, change),
        configs.detach(desk, LOCAL, GLOBAL, "openai"),
        configs.change(desk, LOCAL, made.id, GLOBAL, change, owner="other.yaml"),
    ):
        assert (await refused(work))[0] == "managed"
    after = await configs.change(desk, LOCAL, made.id, GLOBAL, change, owner="fleet.yaml")
    assert not after.active


async def test_planning_writes_nothing(desk: Desk) -> None:
    made = await add(desk)
    before = (await table(desk)).revision
    change = ConfigChange(secret=secret("sk-other-0123456789abcdefgh"))
    plan = await configs.plan_change(desk, LOCAL, made.id, GLOBAL, change)
    assert (plan.provider, plan.base_url) == ("openai", "https://api.openai.com/v1")
    assert plan.revision == made.revision
    new = NewConfig(scope=GLOBAL, provider="groq", alias="x", secret=secret())
    assert (await configs.plan_new(desk, LOCAL, new)).origin == "https://api.groq.com:443"
    assert KEY not in repr(plan)
    assert (await table(desk)).revision == before


async def test_aws_credentials_in_one_text(desk: Desk) -> None:
    made = await bedrock(desk, "::".join(AWS[:3]))
    assert (made.auth_type, made.settings) == ("aws_sigv4", {"region": "us-west-2"})
    assert made.secret_preview == "AKIA...6789"
    assert made.part_masks == {"accessKeyId": "AKIA...6789", "secretAccessKey": "***"}
    assert json.loads(await key_of(desk, made.id)) == {
        "access_key_id": AWS[0],
        "secret_access_key": AWS[1],
        "session_token": None,
    }
    place = (await stored(desk, made.id)).base_url
    assert place == "https://bedrock-runtime.us-west-2.amazonaws.com"


async def test_a_session_token_is_a_fourth_part(desk: Desk) -> None:
    made = await bedrock(desk, "::".join(AWS))
    assert json.loads(await key_of(desk, made.id))["session_token"] == AWS[3]
    assert made.part_masks["sessionToken"] == "***"


@pytest.mark.parametrize("text", ["AKIA::s", "::s::us-east-1", "a::b::c::d::e", "a::b::", "a::::c"])
async def test_malformed_aws_credentials(desk: Desk, text: str) -> None:
    assert await refused(bedrock(desk, text)) == ("bad_key", "secret")


async def test_a_bedrock_api_key_needs_a_region_or_a_base_url(desk: Desk) -> None:
    assert (await refused(bedrock(desk, KEY)))[0] == "bad_settings"
    made = await bedrock(desk, KEY, settings={"region": "eu-west-1"})
    assert (made.auth_type, made.settings["region"]) == ("bearer", "eu-west-1")


async def test_a_region_is_a_region(desk: Desk) -> None:
    for region in ("us-west-2.evil.example", "US", "a/b", "@", "-"):
        assert (await refused(bedrock(desk, f"{AWS[0]}::{AWS[1]}::{region}")))[0] == "bad_key"


async def test_parts_are_sent_together_or_not_at_all(desk: Desk) -> None:
    made = await bedrock(desk, "::".join(AWS[:3]))

    async def send(access: str | None, key: str | None, session: str | None = None) -> ConfigView:
        parts = KeyParts(*(Secret(t.encode()) if t else None for t in (access, key, session)))
        change = ConfigChange(secret=parts)
        return await configs.change(desk, LOCAL, made.id, GLOBAL, change)

    before = await key_of(desk, made.id)
    for masks in ((None, None), ("AKIA***", "***"), (made.secret_preview, "***", "***")):
        await send(*masks)
        assert await key_of(desk, made.id) == before
    for some in (("AKIANEW", None), (None, "new"), ("AKIA***", "new"), (None, None, "token")):
        assert await refused(send(*some)) == ("bad_key", "secret")
    assert await refused(send("AKIANEW", "new", "***")) == ("bad_key", "secret")
    await send("AKIANEW", "new")
    assert json.loads(await key_of(desk, made.id))["access_key_id"] == "AKIANEW"


async def test_moving_the_region_needs_the_key_again(desk: Desk) -> None:
    own = "https://127.0.0.1:9443"
    made = await bedrock(desk, "::".join(AWS[:3]), base_url=own)
    change = ConfigChange(merged={"region": "us-east-1"})
    work = configs.change(desk, LOCAL, made.id, GLOBAL, change)
    assert await refused(work) == ("rebind", "secret")
    moved = secret("::".join((*AWS[:2], "us-east-1")))
    change = ConfigChange(secret=moved)
    after = await configs.change(desk, LOCAL, made.id, GLOBAL, change)
    assert after.settings == {"region": "us-east-1"}


async def test_aws_signatures_are_bedrocks_alone(desk: Desk) -> None:
    work = add(desk, auth_type="aws_sigv4")
    assert await refused(work) == ("bad_auth_type", "auth_type")
    assert (await add(desk, "colons", secret=secret("sk-a::b::c-0123456789abcdef"))).auth_type == (
        "api_key"
    )


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"headers": {"authorization": "x"}}, "settings"),
        ({"headers": {"Host": "x"}}, "settings"),
        ({"headers": {"x-a": "$env:UPSTREAM_X"}}, "settings"),
        ({"headers": {"x-a": "a\r\nb: c"}}, "settings"),
        ({"headers": {"x a": "b"}}, "settings"),
        ({"headers": "text"}, "settings"),
        ({"project": {"a": "b"}}, "settings"),
        ({"deployments": {"gpt-4.1": "../x"}}, "settings"),
        ({"headers": {"x-key": KEY}}, None),
    ],
)
async def test_tables_among_the_settings_are_checked(
    desk: Desk, settings: dict[str, Any], field: str | None
) -> None:
    kind, where = await refused(add(desk, settings=settings))
    assert (kind, where) == ("bad_settings" if field else "bad_key", field)


async def test_tables_among_the_settings_reach_the_workers(desk: Desk) -> None:
    settings: dict[str, Any] = {"headers": {"X-Team": "blue"}, "deployments": {"gpt-4.1": "prod"}}
    made = await add(desk, settings=settings)
    assert (await stored(desk, made.id)).settings == {
        "headers": {"x-team": "blue"},
        "deployments": {"gpt-4.1": "prod"},
    }


async def bedrock(desk: Desk, key: str, **more: Any) -> ConfigView:
    return await add(desk, provider="bedrock", secret=secret(key), **more)


async def agent(desk: Desk, name: str, scope: str, provider: str) -> str:
    """A stored agent, bound to a model of the provider."""
    from sqlalchemy import insert

    from gateway.store import tables

    values = {"id": name, "scope_id": scope, "name": name, "enabled": True}
    values |= {"provider_id": provider, "model_id": "m", "created_at": 1.0, "updated_at": 1.0}
    async with desk.store.write(scope) as conn:
        await conn.execute(insert(tables.agent).values(**values))
    return name
