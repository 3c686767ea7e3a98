"""The five surfaces as five ways to say the same: create, read, rotate and delete one config.

Every scope kind is named the way each surface names it. Called by test_five_tongues.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from admin.configure.identity import as_prov
from admin.configure.scoping import OURS
from tests.admin_serve import ACCOUNT, Admin

GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s33"
OTHER_GROUP = "group:gr_01hz1f0kw36f82k9s4nzpc4s34"
GATEWAY = f"gateway:{ACCOUNT}/gw-1"
INSTANCE = "instance:tenant-1"
SCOPES = ("global", GROUP, GATEWAY, INSTANCE, OTHER_GROUP)


@dataclass(frozen=True)
class Config:
    """What every surface must agree about."""

    id: str
    scope: str
    alias: str


@dataclass(frozen=True)
class Read:
    """What a surface shows of it; `mask` is its own way to hide the key."""

    provider: str
    mask: str
    id: str | None


class Tongue(Protocol):
    """One surface's way to say it; each refuses to go on when an answer is not the documented."""

    async def create(self, admin: Admin, scope: str, key: str) -> None: ...
    async def read(self, admin: Admin, config: Config) -> Read: ...
    async def rotate(self, admin: Admin, config: Config, key: str) -> None: ...
    async def delete(self, admin: Admin, config: Config) -> None: ...


async def said(
    admin: Admin, status: int, method: str, path: str, body: Any = None, **headers: str
) -> Any:
    """The answer's JSON, when it has the status it must have."""
    answer = await admin.call(method, path, body, headers=headers)
    assert answer.status_code == status, (method, path, answer.status_code, answer.text)
    return answer.json() if answer.content else None


class AiProviders:
    def _path(self, config: Config, more: str = "") -> str:
        return (
            f"/api/v1/ai-providers/openai{more}?scope={_typeid(config.scope)}&alias={config.alias}"
        )

    async def create(self, admin: Admin, scope: str, key: str) -> None:
        path = f"/api/v1/ai-providers/openai/configure?scope={_typeid(scope)}"
        await said(admin, 200, "PUT", path, {"apiKey": key})

    async def read(self, admin: Admin, config: Config) -> Read:
        view = await said(admin, 200, "GET", self._path(config))
        assert (view["source"], view["scope"]) == ("scope", _typeid(config.scope))
        return Read(view["id"], view["apiKeyPreview"], None)

    async def rotate(self, admin: Admin, config: Config, key: str) -> None:
        await said(admin, 200, "PUT", self._path(config, "/configure"), {"apiKey": key})

    async def delete(self, admin: Admin, config: Config) -> None:
        await said(admin, 200, "DELETE", self._path(config, "/configure"))


class Connections:
    async def create(self, admin: Admin, scope: str, key: str) -> None:
        body = {"alias": "made-by-two", "name": "Two", "providerId": "openai"}
        body |= {"settings": {"apiKey": key}}  # type: ignore[dict-item]
        await said(admin, 201, "POST", "/connections", body, **{"wardgate-scope": scope})

    async def read(self, admin: Admin, config: Config) -> Read:
        by_id = await said(admin, 200, "GET", f"/connections/{config.id}")
        path = f"/connections/openai:{config.alias}?scope={config.scope}"
        assert by_id == await said(admin, 200, "GET", path)
        return Read(by_id["providerId"], by_id["settings"]["apiKey"], by_id["id"])

    async def rotate(self, admin: Admin, config: Config, key: str) -> None:
        await said(admin, 200, "PUT", f"/connections/{config.id}", {"settings": {"apiKey": key}})

    async def delete(self, admin: Admin, config: Config) -> None:
        await said(admin, 200, "DELETE", f"/connections/{config.id}")


class ProviderConfigs:
    def _path(self, scope: str, more: str = "") -> str:
        account, gateway = OURS, scope
        if scope.startswith("gateway:"):
            account, _, gateway = scope.removeprefix("gateway:").partition("/")
        base = f"/client/v4/accounts/{account}/ai-gateway/gateways/{gateway}"
        return f"{base}/provider_configs{more}"

    async def create(self, admin: Admin, scope: str, key: str) -> None:
        body = {"alias": "made-by-three", "default_config": True, "provider_slug": "openai"}
        await said(admin, 200, "POST", self._path(scope), {**body, "secret": key})

    async def read(self, admin: Admin, config: Config) -> Read:
        rows = (await said(admin, 200, "GET", self._path(config.scope)))["result"]
        row = next(row for row in rows if row["id"] == config.id)
        assert row["alias"] == config.alias
        return Read(row["provider_slug"], row["secret_preview"], row["id"])

    async def rotate(self, admin: Admin, config: Config, key: str) -> None:
        path = self._path(config.scope, f"/{config.id}")
        await said(admin, 200, "PUT", path, {"secret": key})

    async def delete(self, admin: Admin, config: Config) -> None:
        await said(admin, 200, "DELETE", self._path(config.scope, f"/{config.id}"))


class Providers:
    async def create(self, admin: Admin, scope: str, key: str) -> None:
        body = {"vendor": "openai", "name": "Made By Four", "api_key": key, "scope": scope}
        await said(admin, 201, "POST", "/manage/v1/providers", body)

    async def read(self, admin: Admin, config: Config) -> Read:
        path = f"/manage/v1/providers/{as_prov(config.id)}"
        one = await said(admin, 200, "GET", path)
        listed = (await said(admin, 200, "GET", "/manage/v1/providers"))["data"]
        assert one in listed
        assert (one["id"], one["scope"]) == (as_prov(config.id), config.scope)
        return Read(one["vendor"], one["api_key_preview"], config.id)

    async def rotate(self, admin: Admin, config: Config, key: str) -> None:
        path = f"/manage/v1/providers/{as_prov(config.id)}"
        await said(admin, 200, "PATCH", path, {"api_key": key})

    async def delete(self, admin: Admin, config: Config) -> None:
        await said(admin, 204, "DELETE", f"/manage/v1/providers/{as_prov(config.id)}")


class LlmConfig:
    def _named(self, scope: str) -> dict[str, str]:
        if scope.startswith("instance:"):
            return {"x-instance-id": scope.removeprefix("instance:")}
        return {} if scope == "global" else {"wardgate-scope": scope}

    async def create(self, admin: Admin, scope: str, key: str) -> None:
        body = {"provider": "openai", "model": "gpt-4.1", "api_key": key}
        await said(admin, 201, "POST", "/llm-config/", body, **self._named(scope))

    async def read(self, admin: Admin, config: Config) -> Read:
        path = f"/llm-config/?id={config.id}"
        one = await said(admin, 200, "GET", path, **self._named(config.scope))
        return Read(one["provider"], one["api_key_masked"], one["id"])

    async def rotate(self, admin: Admin, config: Config, key: str) -> None:
        path = f"/llm-config/?id={as_prov(config.id)}"
        body = {"api_key": key, "model": "gpt-4.1"}
        await said(admin, 200, "PATCH", path, body, **self._named(config.scope))

    async def delete(self, admin: Admin, config: Config) -> None:
        path = f"/llm-config/?id={config.id}"
        await said(admin, 204, "DELETE", path, **self._named(config.scope))


TONGUES: tuple[Tongue, ...] = (
    AiProviders(),
    Connections(),
    ProviderConfigs(),
    Providers(),
    LlmConfig(),
)


def _typeid(scope: str) -> str:
    return scope.removeprefix("group:")
