"""A key is heard in any disguise, and no surface repeats what a provider says of one."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote

import pytest

from admin.demo.upstream import Received, Script, Upstream
from admin.echo import Echo
from gateway.masking import mask
from tests.admin_serve import CANARY, KEY, Admin, admin
from tests.backends import Backend

AWS_KEY = "AKIAIOSFODNN7CANARYX"
AWS_SECRET = f"{CANARY}/K7MDENG+bPxRfiCYEXAMPLEKEY"
SESSION = f"IQoJb3JpZ2luX2VjEJr//////////wEaCX{CANARY}VzLWVhc3QtMSJHMEUCIQ"
DISGUISES: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in pieces": lambda key: " ".join(re.findall(".{1,5}", key)),
    "dotted": ".".join,
    "upper case": str.upper,
    "backwards": lambda key: key[::-1],
    "percent signs": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "percent signs twice": lambda key: quote(quote(key.replace("-", "%2D"), safe="%"), safe=""),
    "entities": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "escapes": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "hex": lambda key: key.encode().hex(),
    "base64": lambda key: b64encode(key.encode()).decode(),
    "base64 with its scheme": lambda key: b64encode(f"Bearer {key}".encode()).decode(),
    "base64 in a word": lambda key: b64encode(f"ab{key}z".encode()).decode(),
}


@pytest.mark.parametrize("name", DISGUISES)
def test_a_key_is_heard_in_any_disguise(name: str) -> None:
    for key in (KEY, "sk-proj-qWeRtZuIoPaSdFgHjKlYxCvBnM"):
        assert Echo([key]).heard_in(f"Incorrect key: {DISGUISES[name](key)}, sorry")
    echo = Echo([KEY])
    assert not echo.heard_in("Incorrect API key. See https://platform.example/account/api-keys.")


@pytest.mark.parametrize("name", DISGUISES)
async def test_no_surface_repeats_what_a_provider_says_of_the_key(
    name: str, backend: Backend
) -> None:
    said = DISGUISES[name](KEY)
    script = Script(status=401, body=json.dumps({"error": {"message": f"no: {said}"}}).encode())
    async with Upstream(script) as upstream, _house(backend, openai=upstream.url) as app:
        made = await app.call("POST", "/connections", _connection("main"))
        await app.call("PATCH", f"/llm-config/?id={made.json()['id']}", {"model": "gpt-4.1"})
        key = {"api_key": KEY}
        texts = [
            (await app.call(method, path, body)).text
            for method, path, body in (
                ("PUT", "/api/v1/ai-providers/openai/configure", {"apiKey": KEY, "verify": True}),
                ("POST", "/connections/main/test", None),
                ("GET", "/connections/main/models", None),
                ("POST", "/manage/v1/providers", {"vendor": "openai", "name": "x", **key}),
                ("POST", "/llm-config/test-connection", None),
            )
        ]
        assert all("401" in text for text in texts)
        assert not any(said in text or json.dumps(said)[1:-1] in text for text in texts)
        assert CANARY.encode() not in backend.disk()


async def test_aws_credentials_do_not_come_back_as_words_or_models(backend: Backend) -> None:
    """Only the session token is ever sent; whoever got it may write it into its answers."""

    def echo(received: Received) -> Script:
        token = received.values(b"x-amz-security-token")[0].decode()
        names = ("amazon.nova-pro-v1:0", token, f"m-{token.upper()}", AWS_KEY, token[30:45])
        listed = {"modelSummaries": [{"modelId": name} for name in names]}
        return Script(body=json.dumps(listed).encode())

    parts = {"accessKeyId": AWS_KEY, "secretAccessKey": AWS_SECRET, "sessionToken": SESSION}
    settings = {**parts, "region": "us-east-1"}
    body = {**_connection("aws", "amazon-bedrock"), "settings": settings}
    async with (
        Upstream(echo) as upstream,
        _house(backend, **{"amazon-bedrock": upstream.url}) as app,
    ):
        made = await app.call("POST", "/connections", body)
        listed = await app.call("GET", "/connections/aws/models")
        assert [item["id"] for item in listed.json()["items"]] == ["amazon.nova-pro-v1:0"]
        audit = await app.call("GET", "/api/v1/audit")
        text = made.text + listed.text + audit.text + str(made.headers)
        for secret in (AWS_SECRET, SESSION, CANARY, AWS_KEY):
            assert secret not in text
        assert CANARY.encode() not in backend.disk()


async def test_what_aws_says_of_credentials_in_general_is_repeated(backend: Backend) -> None:
    said = "The secret access key does not fit the access_key_id or session_token."
    script = Script(status=403, body=json.dumps({"message": said}).encode())
    keys = {"accessKeyId": AWS_KEY, "secretAccessKey": AWS_SECRET, "region": "us-east-1"}
    body = {**_connection("aws", "amazon-bedrock"), "settings": keys}
    async with (
        Upstream(script) as upstream,
        _house(backend, **{"amazon-bedrock": upstream.url}) as app,
    ):
        await app.call("POST", "/connections", body)
        tested = await app.call("POST", "/connections/aws/test")
        assert tested.json()["errorMessage"].endswith(f"(status 403): {said}")


def test_a_session_token_is_masked_in_the_canonical_string_that_aws_answers_with() -> None:
    said = f"x-amz-date:20260101T000000Z\\nx-amz-security-token:{SESSION}\\n\\nhost;x-amz-date"
    assert CANARY.encode() not in mask(said.encode())
    assert mask(b"The security token included in the request is invalid.").endswith(b"is invalid.")
    assert mask(b"x ABSKQmVkcm9ja0FQSUtleS0xMjM0NTY3") == b"x ABSK...NTY3"


def _house(backend: Backend, **places: str) -> AbstractAsyncContextManager[Admin]:
    loopback = (ip_network("127.0.0.0/8"),)
    return admin(backend, provider_base_urls=places, allowed_upstream_cidrs=loopback)


def _connection(alias: str, provider: str = "openai") -> dict[str, Any]:
    return {"alias": alias, "name": alias, "providerId": provider, "settings": {"apiKey": KEY}}
