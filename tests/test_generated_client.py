"""A client generated from /openapi.json by openapi-python-client works, typed, on every surface.

Generated once per session; nothing of it is written by hand. Operations without path parameters
are found in the document, so that a new list is called without a line here.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from admin import openapi
from admin.demo.upstream import Upstream
from admin.registry import SURFACES
from tests.admin_serve import CANARY, KEY, Admin, admin
from tests.backends import Backend

PACKAGE = "wardgate_generated"
LISTS = [
    (surface.name, row.name)
    for surface, rows in SURFACES
    for row in rows
    if row.method == "GET" and not openapi.parameters_of(row.path)
]
in_module = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The generated package, imported; a document it only half understands is an error."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(json.dumps(openapi.document(SURFACES)))
    (folder / "config.yml").write_text("post_hooks: []\n")
    program = Path(sys.executable).parent / "openapi-python-client"
    command = [str(program), "generate", "--path", "openapi.json", "--config", "config.yml"]
    command += ["--meta", "none", "--output-path", PACKAGE, "--fail-on-warning"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    where = folder / PACKAGE
    spec = importlib.util.spec_from_file_location(
        PACKAGE, where / "__init__.py", submodule_search_locations=[str(where)]
    )
    assert spec
    assert spec.loader
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    return package


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name.replace(" ", "_")).replace("__", "_").lower()


async def ask(app: Admin, surface: str, operation: str, /, *path: str, **given: Any) -> Any:
    """The parsed answer of an operation; AssertionError with what came for another status."""
    tag = re.sub(r"\W+", "_", surface).lower()
    module = importlib.import_module(f"{PACKAGE}.api.{tag}.{snake(operation)}")
    made = importlib.import_module(PACKAGE).AuthenticatedClient
    async with made(base_url=app.url, token=app.root, raise_on_unexpected_status=True) as client:
        answer = await module.asyncio_detailed(*path, client=client, **given)
    assert 200 <= answer.status_code < 300, answer.content
    assert CANARY.encode() not in answer.content
    return answer.parsed


def model(kind: str, /, **given: Any) -> Any:
    """A generated model from what stands in JSON."""
    return named(kind).from_dict(given)


def named(kind: str) -> Any:
    return getattr(importlib.import_module(f"{PACKAGE}.models"), kind)


@pytest.mark.parametrize(("surface", "name"), LISTS, ids=[name for _, name in LISTS])
@in_module
async def test_every_list_is_read(
    generated: ModuleType, shared: Admin, surface: str, name: str
) -> None:
    parsed = await ask(shared, surface, name)
    assert parsed is not None or name == "getLlmConfig"


@pytest.mark.usefixtures("generated")
async def test_connections_from_one_end_to_the_other(app: Admin) -> None:
    given = {"alias": "one", "name": "One", "providerId": "openai", "settings": {"apiKey": KEY}}
    made = await ask(app, "Connections", "createConnection", body=model("NewConnection", **given))
    assert (made.alias, made.settings["apiKey"]) == ("one", "sk-***")
    change = model("ConnectionChange", name="Another")
    changed = await ask(app, "Connections", "changeConnection", made.id, body=change)
    assert changed.name == "Another"
    listed = await ask(app, "Connections", "listConnections", take=10)
    assert [(item.id, item.provider_id) for item in listed.items] == [(made.id, "openai")]
    await ask(app, "Connections", "deleteConnection", made.id)
    assert (await ask(app, "Connections", "listConnections")).total == 0


@pytest.mark.usefixtures("generated")
async def test_connections_of_umbraco_answer_bare_values(app: Admin) -> None:
    surface = "Umbraco connections"
    given = {"alias": "one", "name": "One", "providerId": "openai", "settings": {"apiKey": KEY}}
    made = await ask(app, surface, "umbracoCreateConnection", body=model("NewConnection", **given))
    assert isinstance(made, str)
    assert await ask(app, surface, "umbracoConnectionExists", "one") is True
    assert "Chat" in await ask(app, surface, "umbracoListCapabilities")


@pytest.mark.usefixtures("generated")
async def test_gateways_and_their_configs(app: Admin) -> None:
    surface, place = "Provider configs", ("acc", "gw")
    given = {"alias": "a", "default_config": True, "provider_slug": "openai", "secret": KEY}
    body = model("NewProviderConfig", **given)
    made = (await ask(app, surface, "createProviderConfig", *place, body=body)).result
    listed = await ask(app, surface, "listProviderConfigs", *place, per_page=5)
    assert ([one.id for one in listed.result], listed.result_info.total_count) == ([made.id], 1)
    gateways = await ask(app, surface, "listGateways", "acc")
    assert [one.id for one in gateways.result] == ["gw"]
    await ask(app, surface, "deleteProviderConfig", *place, made.id)


@pytest.fixture
async def with_openai(backend: Backend, upstream: Upstream) -> AsyncIterator[Admin]:
    """An admin app for which OpenAI is the demo on this machine."""
    elsewhere = {"openai": f"{upstream.origin}/v1"}
    async with admin(backend, provider_base_urls=elsewhere) as running:
        yield running


@pytest.mark.usefixtures("generated")
async def test_providers_are_verified_and_rotated(with_openai: Admin) -> None:
    body = model("NewProvider", vendor="openai", name="main", api_key=KEY)
    made = await ask(with_openai, "Providers", "addProvider", body=body, idempotency_key="once")
    again = await ask(with_openai, "Providers", "addProvider", body=body, idempotency_key="once")
    assert (made.id, made.status) == (again.id, "active")
    change = model("ProviderChange", name="renamed")
    changed = await ask(with_openai, "Providers", "updateProvider", made.id, body=change)
    assert changed.name == "renamed"
    window = named("GetProviderHealthWindow")("1h")
    health = await ask(with_openai, "Providers", "getProviderHealth", made.id, window=window)
    assert [one.window for one in health.windows] == ["1h"]
    await ask(with_openai, "Providers", "deleteProvider", made.id)
    assert (await ask(with_openai, "Providers", "listProviders")).data == []


@pytest.mark.usefixtures("generated")
async def test_the_catalog_as_a_scope_sees_it(with_openai: Admin) -> None:
    surface, body = "AI providers", model("ConfigureBody", apiKey=KEY, scope="global")
    seen = await ask(with_openai, surface, "configureAiProvider", "openai", body=body)
    assert (seen.configured, seen.has_api_key, seen.source) == (True, True, "scope")
    listed = await ask(with_openai, surface, "listAiProviders", configured=True)
    assert [one.id for one in listed] == ["openai"]
    off = model("EnabledBody", enabled=False)
    place = ("openai", "gpt-4o")
    assert not (await ask(with_openai, surface, "setAiProviderModel", *place, body=off)).enabled
    gone = await ask(with_openai, surface, "removeAiProviderConfiguration", "openai")
    assert gone.disabled_agents == []


@pytest.mark.usefixtures("generated")
async def test_scopes_whose_ids_have_slashes(app: Admin) -> None:
    scope = "gateway:acc/gw"
    made = await ask(app, "Administration", "createScope", body=model("NewScopeBody", id=scope))
    assert (await ask(app, "Administration", "getScope", made.id)).kind == "gateway"


@pytest.mark.usefixtures("generated")
async def test_llm_config_of_an_instance(app: Admin) -> None:
    surface, given = "LLM config", {"provider": "openai", "model": "gpt-4o-mini", "api_key": KEY}
    body = model("NewLlmConfig", **given)
    made = await ask(app, surface, "createLlmConfig", body=body, x_instance_id="tenant")
    assert (made.instance_id, made.model) == ("tenant", "gpt-4o-mini")
    assert (await ask(app, surface, "getLlmConfig", x_instance_id="tenant")).id == made.id
    await ask(app, surface, "deleteLlmConfig", x_instance_id="tenant")


@pytest.mark.usefixtures("generated")
async def test_client_keys_and_the_audit_of_them(app: Admin) -> None:
    body = model("NewKeyBody", name="app", rateLimit=5)
    made = await ask(app, "Administration", "createClientKey", body=body)
    assert made.key.startswith("wg_")
    await ask(app, "Administration", "revokeClientKey", made.id)
    audit = await ask(app, "Administration", "listAudit", limit=2)
    assert audit.chain_valid
    assert len(audit.data) == 2
