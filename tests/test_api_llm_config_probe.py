"""Surface 5's test-connection: every way it can end, in its own words."""

from __future__ import annotations

from typing import Any

import pytest

from admin.demo.upstream import Script, Upstream
from tests.admin_serve import KEY, admin
from tests.backends import Backend
from tests.connecting import reaching
from tests.ports import dead_port
from tests.probing import in_json, models
from tests.test_api_llm_config import PATH, TENANT, made
from tests.world import LOOPBACK

REFUSED = in_json({"error": {"message": f"Incorrect API key provided: {KEY}"}}, 401)


@pytest.mark.parametrize(
    ("says", "passed", "message"),
    [
        (models("gpt-4.1", "gpt-4o"), True, "Connection successful"),
        (models("gpt-4.1-2025-04-14"), True, "Connection successful"),
        (models("gpt-4o"), False, "the provider does not list the model gpt-4.1"),
        (REFUSED, False, "openai refused the key (status 401)"),
        (Script(status=500), False, "openai answered with status 500"),
        (Script(body=b"<html>"), False, "openai answered with something else than its models"),
    ],
)
async def test_test_connection_says_what_came_of_it(
    backend: Backend, says: Script, passed: bool, message: str
) -> None:
    async with Upstream(says) as upstream, reaching(backend, upstream) as app:
        await made(app)
        answer = await app.call("POST", f"{PATH}test-connection")
        assert (answer.status_code, answer.json()) == (
            200,
            {"success": passed, "provider": "openai", "model": "gpt-4.1", "message": message},
        )


@pytest.mark.parametrize(
    ("model", "hint"), [("sonar", ""), ("no-such", "; the catalog does not list no-such")]
)
async def test_a_provider_that_lists_nothing_is_let_pass_in_other_words(
    backend: Backend, model: str, hint: str
) -> None:
    async with Upstream(Script(status=500)) as upstream, reaching(backend, upstream) as app:
        await made(app, provider="perplexity", model=model)
        shown = (await app.call("POST", f"{PATH}test-connection")).json()
        said = "Not refused: perplexity has no list of models; the key was not checked"
        assert (shown["success"], shown["message"]) == (True, said + hint)
        assert upstream.received == []


async def test_an_unreachable_provider_fails_the_test(backend: Backend) -> None:
    away = {"openai": f"http://127.0.0.1:{dead_port()}/v1"}
    given: dict[str, Any] = {"provider_base_urls": away, "allowed_upstream_cidrs": LOOPBACK}
    async with admin(backend, **given) as app:
        await made(app, TENANT)
        answer = await app.call("POST", f"{PATH}test-connection", headers=TENANT)
        assert (answer.status_code, answer.json()["success"]) == (200, False)
        assert answer.json()["message"]
