"""Takes provider keys found in the environment into the store, as default configs of `global`.

A variable is taken in once: a config deleted later does not come back, and a key exported later
is still found. Values are never shown. Called by `wardgate serve --import-env`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from admin.configure import configs
from admin.configure.configs import NewConfig
from admin.configure.desk import Desk
from admin.configure.refusals import Refusal
from admin.permit import LOCAL
from admin.stored import every_config
from gateway import credential
from gateway.catalog import Catalog, Provider, load
from gateway.process.publish import write_private
from gateway.shapes import GLOBAL, Secret

ALIAS = "default"


@dataclass(frozen=True)
class Parts:
    """What a provider needs beside its key: settings and base URL, as formats over variables.

    `key` is a format, too, where it has several parts; `without` names a variable that says that
    the key will not last.
    """

    settings: Mapping[str, str] = field(default_factory=dict)
    base_url: str = ""
    key: str = ""
    without: str = ""


# Providers whose URL depends on the customer, and variables that are only a part of a key; every
# other provider needs its key alone.
PARTS: Mapping[str, Parts] = {
    "AWS_BEARER_TOKEN_BEDROCK": Parts({"region": "{AWS_REGION}"}),
    "AWS_SECRET_ACCESS_KEY": Parts(
        key="{AWS_ACCESS_KEY_ID}::{AWS_SECRET_ACCESS_KEY}::{AWS_REGION}",
        without="AWS_SESSION_TOKEN",
    ),
    "azure": Parts({"resourceName": "{AZURE_RESOURCE_NAME}"}),
    "azure-cognitive-services": Parts({"resourceName": "{AZURE_COGNITIVE_SERVICES_RESOURCE_NAME}"}),
    "cloudflare-ai-gateway": Parts({"gateway": "{CLOUDFLARE_ACCOUNT_ID}/{CLOUDFLARE_GATEWAY_ID}"}),
    "cloudflare-workers-ai": Parts({"accountId": "{CLOUDFLARE_ACCOUNT_ID}"}),
    "databricks": Parts({"host": "{DATABRICKS_HOST}"}),
    "neon": Parts(base_url="{NEON_AI_GATEWAY_BASE_URL}/ai-gateway/mlflow/v1"),
    "snowflake-cortex": Parts({"account": "{SNOWFLAKE_ACCOUNT}"}),
}
_KEY_ENDINGS = ("_KEY", "_TOKEN", "_PAT", "_TOKEN_BEDROCK")


@dataclass(frozen=True)
class Found:
    """A provider whose key is in the environment. `why_not` is empty when it can be taken in."""

    provider: str
    variables: tuple[str, ...]
    secret: Secret
    settings: Mapping[str, str] = field(default_factory=dict)
    base_url: str | None = None
    why_not: str = ""

    @property
    def config(self) -> NewConfig:
        return NewConfig(
            scope=GLOBAL,
            provider=self.provider,
            alias=ALIAS,
            secret=self.secret,
            base_url=self.base_url,
            settings=self.settings,
            default=True,
        )


@dataclass(frozen=True)
class Taken:
    """What became of a key that was found. `why_not` is empty when its provider can be used.

    `earlier`: there was a config of it already, and that was left as it is.
    """

    provider: str
    variables: tuple[str, ...]
    why_not: str = ""
    earlier: bool = False


def find(catalog: Catalog, env: Mapping[str, str]) -> list[Found]:
    """Providers whose key variables are set, in the catalog's order."""
    values = {name: value.strip() for name, value in env.items() if value.strip()}
    return list(_find(catalog, values))


def key_variables(provider: Provider) -> list[str]:
    """The variables that hold its key: alternatives, the catalog's first choice first."""
    return [name for name in provider.env if name.endswith(_KEY_ENDINGS)]


def owner(catalog: Catalog, variable: str) -> str:
    """Which of the providers that share a variable it means.

    The one whose id the variable's name begins with, then the shortest id (`moonshotai` rather
    than `moonshotai-cn`).
    """
    stem = variable.lower().rpartition("_api_key")[0] or variable.lower().rpartition("_")[0]
    stem = stem.replace("_", "-")
    sharing = [
        p.id
        for p in catalog.providers.values()
        if variable in key_variables(p) and p.unsupported is None
    ] or [p.id for p in catalog.providers.values() if variable in key_variables(p)]
    return min(sharing, key=lambda name: (not name.startswith(stem), len(name), name))


async def take_in(desk: Desk, env: Mapping[str, str]) -> list[Taken]:
    """Store what is found and was not taken in before; says what became of each.

    What was taken in before and is deleted now is passed over in silence.
    """
    memory = desk.settings.data_dir / "taken-in.json"
    before = _remembered(memory)
    there = {view.provider async for view in every_config(desk, GLOBAL)}
    results: list[Taken] = []
    # The packaged catalog: which variables are keys is never learned from what was fetched.
    for found in find(load(), env):
        if found.provider in there:
            results.append(Taken(found.provider, found.variables, earlier=True))
        elif found.variables[0] not in before:
            results.append(await _store(desk, found))
    names = {taken.variables[0] for taken in results if not taken.why_not}
    if names - before:
        write_private(memory, (json.dumps(sorted(before | names)) + "\n").encode())
    return results


def _find(catalog: Catalog, values: Mapping[str, str]) -> Iterator[Found]:
    for provider in catalog.providers.values():
        keys = [name for name in key_variables(provider) if name in values]
        if keys and owner(catalog, keys[0]) == provider.id:
            yield _read(provider, keys[0], values)


def _read(provider: Provider, key: str, values: Mapping[str, str]) -> Found:
    parts = PARTS.get(key) or PARTS.get(provider.id, Parts())
    named = sorted(_named(parts) - {key})
    missing = [name for name in named if name not in values]
    found = Found(provider.id, (key, *named), Secret(values[key].encode()))
    if credential.looks_ours(values[key]):
        # Exported for an SDK that talks to us: sent to the provider, it would be given away.
        return replace(found, why_not=f"{key} holds a Wardgate key, not the provider's")
    if provider.unsupported is not None:
        return replace(found, why_not=provider.unsupported)
    if missing:
        return replace(found, why_not=f"{missing[0]} is not set")
    if parts.without in values:
        return replace(found, why_not=f"{parts.without} is set: these credentials expire")
    if parts.key:
        found = replace(found, secret=Secret(parts.key.format_map(values).encode()))
    settings = {name: _bare(text.format_map(values)) for name, text in parts.settings.items()}
    return replace(found, settings=settings, base_url=parts.base_url.format_map(values) or None)


def _named(parts: Parts) -> set[str]:
    """The variables its formats name."""
    texts = " ".join((*parts.settings.values(), parts.base_url, parts.key))
    return {piece.partition("}")[0] for piece in texts.split("{")[1:]}


def _bare(value: str) -> str:
    # Consoles show hosts as URLs; the setting is the host.
    return value.removeprefix("https://").rstrip("/")


async def _store(desk: Desk, found: Found) -> Taken:
    why_not = found.why_not
    if not why_not:
        try:
            await configs.create(desk, LOCAL, found.config)
        except Refusal as refusal:
            why_not = refusal.message
    return Taken(found.provider, found.variables, why_not)


def _remembered(memory: Path) -> set[str]:
    try:
        return set(json.loads(memory.read_text()))
    except (OSError, ValueError):
        return set()
