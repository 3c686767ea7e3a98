"""Surface 2's settings: every provider's own, keys as masks, what clears, keeps and moves a key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.admin_serve import CANARY, KEY, Admin, admin
from tests.backends import Backend
from tests.connecting import (
    ACCESS_KEY,
    ANOTHER,
    AWS,
    GROUP,
    LIST,
    SECRET_KEY,
    TOKEN,
    connection,
    made,
    problem,
)
from tests.desks import key_of, stored
from tests.world import LOOPBACK

INVALID = "Invalid settings"
in_module = pytest.mark.asyncio(loop_scope="module")


async def settings(app: Admin, provider: str, **given: Any) -> dict[str, Any]:
    """The settings of a new connection as they are shown."""
    shown: dict[str, Any] = (await made(app, providerId=provider, settings=given))["settings"]
    return shown


async def put(app: Admin, shown: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The settings after a change of these."""
    answer = await app.call("PUT", f"{LIST}/{shown['id']}", {"settings": given})
    assert answer.status_code == 200, answer.text
    assert CANARY not in answer.text
    after: dict[str, Any] = answer.json()["settings"]
    return after


async def wrong(app: Admin, shown: dict[str, Any], **given: Any) -> str:
    """Where such a change is refused, as a pointer."""
    answer = await app.call("PUT", f"{LIST}/{shown['id']}", {"settings": given})
    [error] = problem(answer, 400, "Bad Request", INVALID)
    return str(error["pointer"])


async def parts_of(app: Admin, config_id: str) -> dict[str, Any]:
    parts: dict[str, Any] = json.loads(await key_of(app.desk, config_id))
    return parts


async def test_openai_has_an_organization(app: Admin) -> None:
    assert await settings(app, "openai", apiKey=KEY, organization="org-1") == {
        "apiKey": "sk-***",
        "organization": "org-1",
        "endpoint": None,
    }


async def test_others_have_a_key_and_an_endpoint(app: Admin) -> None:
    shown = await settings(app, "anthropic", apiKey=KEY, endpoint="https://claude.example/v1")
    assert shown == {"apiKey": "sk-***", "endpoint": "https://claude.example/v1"}


@pytest.mark.parametrize(
    "deployments", [{"gpt-4o": "prod", "gpt-4.1": "gpt-4.1"}, ["gpt-4o", "gpt-4.1"]]
)
async def test_azure_has_a_version_and_deployments(app: Admin, deployments: Any) -> None:
    given = {"endpoint": "https://house.openai.azure.com", "apiVersion": "2024-10-21"}
    made_so = await made(
        app, providerId="azure", settings={"apiKey": KEY, **given, "deployments": deployments}
    )
    table = deployments if isinstance(deployments, dict) else {name: name for name in deployments}
    assert made_so["settings"] == {"apiKey": "sk-***", **given, "deployments": table}
    assert (await stored(app.desk, made_so["id"])).settings["deployments"] == table
    after = await put(app, made_so, deployments={"gpt-5": "five"})
    assert after == {**made_so["settings"], "deployments": {"gpt-5": "five"}}
    assert (await put(app, made_so, deployments=None))["deployments"] is None


async def test_a_custom_provider_brings_dialect_and_endpoint(app: Admin) -> None:
    given = {"endpoint": "https://llm.example/v1", "dialect": "openai", "authType": "none"}
    shown = await settings(app, "custom:house", **given)
    assert shown == {"apiKey": None, **given}


async def test_a_provider_that_needs_a_setting_shows_it(app: Admin) -> None:
    shown = await settings(app, "cloudflare-workers-ai", apiKey=KEY, accountId="a" * 32)
    assert shown == {"apiKey": "sk-***", "accountId": "a" * 32, "endpoint": None}
    body = connection("b", providerId="cloudflare-workers-ai", settings={"apiKey": KEY})
    [error] = problem(await app.call("POST", LIST, body), 400, "Bad Request", INVALID)
    assert error["pointer"] == "/settings"


@pytest.mark.parametrize(
    ("provider", "change", "pointer"),
    [
        ("openai", {"apiKey": ""}, "/settings/apiKey"),
        ("openai", {"apiKey": 5}, "/settings/apiKey"),
        ("openai", {"apiKey": "two words"}, "/settings/apiKey"),
        ("openai", {"apiKey": "sk-***"}, "/settings/apiKey"),
        ("openai", {"apiKey": "***"}, "/settings/apiKey"),
        ("openai", {"apiKey": "sk-...WXYZ"}, "/settings/apiKey"),
        ("openai", {"apiKey": "$OpenAI:ApiKey"}, "/settings/apiKey"),
        ("openai", {"apiKey": "$env:HOME"}, "/settings/apiKey"),
        ("openai", {"apiKey": "x" * 65537}, "/settings/apiKey"),
        ("openai", {"organization": "$env:UPSTREAM_X"}, "/settings"),
        ("openai", {"organization": 7}, "/settings/organization"),
        ("openai", {"endpoint": "ftp://example.com"}, "/settings/endpoint"),
        ("openai", {"endpoint": "http://10.0.0.1/v1"}, "/settings/endpoint"),
        ("openai", {"endpoint": "https://u:p@example.com"}, "/settings/endpoint"),
        ("openai", {"authType": "magic"}, "/settings/authType"),
        ("openai", {"authType": "azure_ad"}, "/settings/authType"),
        ("openai", {"authType": "none", "apiKey": KEY}, "/settings/apiKey"),
        ("openai", {"dialect": "anthropic"}, "/settings/dialect"),
        ("openai", {"headers": {"authorization": "x"}}, "/settings"),
        ("openai", {"headers": {"x-team": 1}}, "/settings/headers/x-team"),
        ("openai", {"headers": ["x-team"]}, "/settings/headers"),
        ("openai", {"deployments": 5}, "/settings/deployments"),
        ("openai", {"deployments": ["a", 5]}, "/settings/deployments"),
        ("openai", {"deployments": {"a": 5}}, "/settings/deployments/a"),
        ("openai", {"deployments": {"a": "no spaces"}}, "/settings"),
        ("openai", {"accessKeyId": ACCESS_KEY, "secretAccessKey": SECRET_KEY}, "/settings/apiKey"),
        ("custom:house", {"apiKey": KEY}, "/settings/endpoint"),
        ("azure", {"apiKey": KEY}, "/settings"),
        ("amazon-bedrock", {**AWS, "apiKey": KEY}, "/settings/apiKey"),
        ("amazon-bedrock", {**AWS, "accessKeyId": "AKIA***"}, "/settings/apiKey"),
        ("amazon-bedrock", {"accessKeyId": ACCESS_KEY, "region": "eu-west-1"}, "/settings/apiKey"),
        ("amazon-bedrock", {**AWS, "sessionToken": "***"}, "/settings/apiKey"),
        ("amazon-bedrock", {**AWS, "secretAccessKey": "$env:X"}, "/settings/apiKey"),
        ("amazon-bedrock", {**AWS, "region": "eu west"}, "/settings"),
        ("amazon-bedrock", {**AWS, "region": None}, "/settings"),
        ("amazon-bedrock", {"apiKey": KEY}, "/settings"),
    ],
)
@in_module
async def test_settings_that_will_not_do_are_pointed_at(
    shared: Admin, provider: str, change: dict[str, Any], pointer: str
) -> None:
    body = connection(providerId=provider, settings=change)
    [error] = problem(await shared.call("POST", LIST, body), 400, "Bad Request", INVALID)
    assert error["pointer"] == pointer


@pytest.mark.parametrize(
    ("key", "mask"),
    [
        ("sk-...", "***"),
        ("sk-your-api-key", "***"),
        (f"sk-ant-{CANARY}-0123456789abcdef", "sk-ant-***"),
        (f"no-vendor-{CANARY}-0123456789", "***"),
    ],
)
async def test_a_key_is_shown_as_a_mask_and_may_be_sent_back_as_one(
    app: Admin, key: str, mask: str
) -> None:
    shown = await made(app, settings={"apiKey": key})
    assert shown["settings"]["apiKey"] == mask
    for sent in ("***", "sk-***", "sk-...WXYZ", mask):
        assert (await put(app, shown, apiKey=sent))["apiKey"] == mask
    assert await key_of(app.desk, shown["id"]) == key


async def test_a_new_key_replaces_and_null_clears_it(app: Admin) -> None:
    shown = await made(app)
    await put(app, shown, apiKey=ANOTHER)
    assert await key_of(app.desk, shown["id"]) == ANOTHER
    assert (await put(app, shown, apiKey=None))["apiKey"] is None
    assert (await stored(app.desk, shown["id"])).sealed is None
    assert await wrong(app, shown, apiKey="sk-***") == "/settings/apiKey"


async def test_what_is_shown_may_be_sent_back_whole(app: Admin) -> None:
    bearer = {"apiKey": ANOTHER, "region": "eu-west-1"}
    azure = {"apiKey": KEY, "endpoint": "https://a.example", "deployments": {"gpt-4o": "prod"}}
    house = {"endpoint": "https://b.example/v1", "dialect": "openai", "headers": {"x-team": "a"}}
    for alias, provider, given in (
        ("openai-1", "openai", {"apiKey": KEY, "organization": "org-1", "authType": "bearer"}),
        ("azure-1", "azure", azure),
        ("aws-1", "amazon-bedrock", AWS),
        ("aws-2", "amazon-bedrock", {**AWS, "sessionToken": TOKEN}),
        ("aws-3", "amazon-bedrock", bearer),
        ("house-1", "custom:house", {**house, "apiKey": KEY}),
        ("house-2", "custom:house", {**house, "authType": "none"}),
        ("bare-1", "amazon-bedrock", {"region": "eu-west-1"}),
    ):
        shown = await made(app, alias, providerId=provider, settings=given)
        before = await stored(app.desk, shown["id"])
        assert await put(app, shown, **shown["settings"]) == shown["settings"]
        assert (await stored(app.desk, shown["id"])).secret_version == before.secret_version


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"endpoint": "https://elsewhere.example/v1"}, "/settings/apiKey"),
        ({"authType": "bearer"}, "/settings/apiKey"),
        ({"endpoint": "https://elsewhere.example/v1", "apiKey": "sk-***"}, "/settings/apiKey"),
        ({"region": "eu-west-1"}, "/settings/apiKey"),
    ],
)
async def test_moving_a_key_needs_the_key_again(
    app: Admin, change: dict[str, Any], pointer: str
) -> None:
    shown = await made(app)
    assert await wrong(app, shown, **change) == pointer
    assert (await app.call("GET", f"{LIST}/{shown['id']}")).json() == shown
    after = await put(app, shown, **{**change, "apiKey": ANOTHER})
    assert after["apiKey"] == "sk-***"
    assert await key_of(app.desk, shown["id"]) == ANOTHER


async def test_bedrock_keeps_its_credentials_in_parts(app: Admin) -> None:
    shown = await made(app, providerId="bedrock", settings={**AWS, "sessionToken": TOKEN})
    assert (shown["providerId"], shown["settings"]) == (
        "amazon-bedrock",
        {
            "region": "eu-west-1",
            "accessKeyId": "AKIA***",
            "secretAccessKey": "***",
            "sessionToken": "***",
            "endpoint": None,
        },
    )
    assert await parts_of(app, shown["id"]) == {
        "access_key_id": ACCESS_KEY,
        "secret_access_key": SECRET_KEY,
        "session_token": TOKEN,
    }
    assert (await stored(app.desk, shown["id"])).auth_type == "aws_sigv4"


async def test_bedrocks_credentials_change_together(app: Admin) -> None:
    shown = await made(app, providerId="amazon-bedrock", settings={**AWS, "sessionToken": TOKEN})
    before = await parts_of(app, shown["id"])
    masked = {"accessKeyId": "AKIA***", "secretAccessKey": "***"}
    assert await wrong(app, shown, accessKeyId="AKIAANOTHER0123456789") == "/settings/apiKey"
    assert await wrong(app, shown, secretAccessKey="another") == "/settings/apiKey"
    assert await wrong(app, shown, accessKeyId=None) == "/settings/accessKeyId"
    assert await wrong(app, shown, sessionToken=None) == "/settings/sessionToken"
    assert await wrong(app, shown, **masked, sessionToken=None) == "/settings/sessionToken"
    assert await wrong(app, shown, **masked, sessionToken="new") == "/settings/apiKey"
    assert await wrong(app, shown, region="us-east-1") == "/settings/apiKey"
    assert await wrong(app, shown, **masked, region="us-east-1") == "/settings/apiKey"
    assert await parts_of(app, shown["id"]) == before
    given = {"accessKeyId": "ASIAANOTHER0123456789", "secretAccessKey": SECRET_KEY}
    after = await put(app, shown, **given, sessionToken=None, region="us-east-1")
    assert (after["accessKeyId"], after["sessionToken"]) == ("ASIA***", None)
    assert (await parts_of(app, shown["id"]))["session_token"] is None


@pytest.mark.parametrize(
    "nulls",
    [
        {"accessKeyId": None, "secretAccessKey": None},
        {"accessKeyId": None, "secretAccessKey": None, "sessionToken": None},
    ],
)
async def test_nulls_clear_bedrocks_credentials(app: Admin, nulls: dict[str, None]) -> None:
    shown = await made(app, providerId="amazon-bedrock", settings={**AWS, "sessionToken": TOKEN})
    after = await put(app, shown, **nulls)
    assert [after[name] for name in ("accessKeyId", "secretAccessKey")] == [None, None]
    assert (after["region"], (await stored(app.desk, shown["id"])).sealed) == ("eu-west-1", None)


async def test_null_of_what_is_not_stored_clears_nothing(app: Admin) -> None:
    signed = await made(app, "a", providerId="amazon-bedrock", settings=AWS)
    bearer = {"apiKey": ANOTHER, "region": "eu-west-1"}
    plain = await made(app, "b", providerId="amazon-bedrock", settings=bearer)
    assert (await put(app, signed, apiKey=None))["accessKeyId"] == "AKIA***"
    nulls = dict.fromkeys(("accessKeyId", "secretAccessKey", "sessionToken"))
    assert (await put(app, plain, **nulls))["apiKey"] == "sk-***"


async def test_bedrock_goes_from_one_kind_of_key_to_the_other(app: Admin) -> None:
    shown = await made(app, providerId="amazon-bedrock", settings=AWS)
    nulls = dict.fromkeys(("accessKeyId", "secretAccessKey", "sessionToken"))
    after = await put(app, shown, apiKey=ANOTHER, **nulls)
    assert (after["apiKey"], after["accessKeyId"], after["authType"]) == ("sk-***", None, "bearer")
    after = await put(app, shown, apiKey=None, **AWS)
    assert (after["accessKeyId"], "authType" in after) == ("AKIA***", False)
    assert (await parts_of(app, shown["id"]))["secret_access_key"] == SECRET_KEY


async def test_only_a_superadmin_may_store_a_reference(app: Admin) -> None:
    reference = {"apiKey": "$env:UPSTREAM_OPENAI"}
    shown = await made(app, settings=reference)
    assert shown["settings"]["apiKey"] == reference["apiKey"]
    assert (await put(app, shown, **reference))["apiKey"] == reference["apiKey"]
    token = await app.token(("AIProviders.Manage", "global"))
    answer = await app.call("POST", LIST, connection("b", settings=reference), token=token)
    assert problem(answer, 403, "Forbidden", "only a superadmin may store a reference") == []


async def test_an_endpoint_off_the_catalog_needs_a_global_permission(app: Admin) -> None:
    body = connection(scope=GROUP, settings={"apiKey": KEY, "endpoint": "https://a.example/v1"})
    token = await app.token(("GroupAIProviders.Manage", GROUP))
    answer = await app.call("POST", LIST, body, token=token)
    assert (answer.status_code, answer.json()["title"]) == (403, "Forbidden")
    token = await app.token(("AIProviders.Manage", "global"))
    assert (await app.call("POST", LIST, body, token=token)).status_code == 201


async def test_no_part_of_a_credential_is_in_an_answer_a_log_or_a_file(
    backend: Backend, capfd: pytest.CaptureFixture[str]
) -> None:
    async with admin(backend, allowed_upstream_cidrs=LOOPBACK) as app:
        body = connection(providerId="amazon-bedrock", settings={**AWS, "sessionToken": TOKEN})
        answers = [await app.call("POST", LIST, body)]
        path = f"{LIST}/{answers[0].json()['id']}"
        for given in ({"secretAccessKey": SECRET_KEY}, {**AWS, "region": SECRET_KEY}, AWS):
            answers.append(await app.call("PUT", path, {"settings": given}))
        answers += [await app.call("GET", path), await app.call("GET", "/api/v1/audit")]
        assert [answer.status_code for answer in answers] == [201, 400, 400, 200, 200, 200]
    captured = capfd.readouterr()
    files = backend.disk().decode("latin-1")
    for text in (*(answer.text for answer in answers), captured.out, captured.err, files):
        assert CANARY not in text
        assert ACCESS_KEY not in text
