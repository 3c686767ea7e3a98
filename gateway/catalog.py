"""Look-ups on the catalog: which provider lists which model, whose model it is, prices, names.

Joins the packaged snapshot of models.dev with our own table (providers). Immutable; nothing is
fetched. Loaded once by whoever starts a process.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from gateway import providers as ours
from gateway.shapes import DialectName

AS_OF: Final = "2026-06-30"  # the newest entry of the packaged snapshot


class Model(NamedTuple):
    """A catalog model. Prices in micro-dollars per million tokens; None is unknown."""

    id: str
    name: str
    family: str | None
    input_price: int | None
    output_price: int | None
    cache_read_price: int | None
    cache_write_price: int | None
    context: int | None
    status: str | None  # alpha, beta, deprecated


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A catalog entry and what we know about reaching it.

    `base_url` None: `template` makes it from a config's settings, or the config carries one.
    `unsupported` says why it cannot be reached yet. `compatible`: other dialects it speaks, and
    what is put behind the base URL for them.
    """

    id: str
    name: str
    env: tuple[str, ...]
    dialect: DialectName | None
    base_url: str | None
    unsupported: str | None
    compatible: Mapping[DialectName, str]
    models: Mapping[str, Model]
    template: ours.Template | None = None
    doc: str | None = None
    npm: str | None = None
    api: str | None = None  # as the catalog has it

    def url(self, settings: Mapping[str, str]) -> str | None:
        """The base URL for a config with these settings; None: it must carry its own."""
        if self.base_url is None and self.template is not None:
            return self.template.fill(settings)
        return self.base_url


@dataclass(frozen=True, slots=True)
class Catalog:
    """All providers by id. `age_date` is the Unix time of the snapshot's newest entry."""

    providers: Mapping[str, Provider]
    age_date: float
    _listing: Mapping[str, tuple[str, ...]] = field(repr=False)

    def lists(self, provider: str, model: str) -> bool:
        entry = self.providers.get(provider)
        return entry is not None and model in entry.models

    def listing(self, model: str) -> tuple[str, ...]:
        """The ids of the providers that list a model, in alphabetical order."""
        return self._listing.get(model, ())

    def maker(self, model: str) -> str | None:
        """The id of the provider that made a model, by the model's name; None: not told by it."""
        maker = _maker(model)
        return maker if maker in self.providers else None

    def canonical(self, slug: str) -> str | None:
        """The id behind any spelling: a catalog id, a foreign slug or `custom:<slug>`."""
        name = ours.known_as(slug)
        return name if name in self.providers or ours.is_custom(name) else None

    def cloudflare_slug(self, provider: str) -> str:
        """Cloudflare's name of a provider, or the id where it has none."""
        return _CLOUDFLARE_NAMES.get(provider, provider)

    def modelux_slug(self, provider: str) -> str:
        """Modelux's name of a provider, or the id where it has none."""
        return _MODELUX_NAMES.get(provider, provider)


_CLOUDFLARE_NAMES: Final = {provider: slug for slug, provider in ours.CLOUDFLARE.items()}
_MODELUX_NAMES: Final = {provider: slug for slug, provider in ours.MODELUX.items()}


class _Cost(msgspec.Struct, gc=False):
    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None


class _Limit(msgspec.Struct, gc=False):
    context: int | None = None


class _RawModel(msgspec.Struct, gc=False):
    id: str
    name: str
    family: str | None = None
    cost: _Cost | None = None
    limit: _Limit | None = None
    status: str | None = None


class _RawProvider(msgspec.Struct):
    id: str
    name: str
    env: tuple[str, ...]
    models: dict[str, _RawModel]
    doc: str | None = None
    npm: str | None = None
    api: str | None = None


@lru_cache(maxsize=1)
def load() -> Catalog:
    """The packaged catalog; read once a process."""
    packed = files("gateway").joinpath("data/catalog.json.xz").read_bytes()
    raw = msgspec.json.decode(lzma.decompress(packed), type=dict[str, _RawProvider])
    known = {name: _provider(entry) for name, entry in sorted(raw.items())}
    listing: dict[str, list[str]] = {}
    for name, provider in known.items():
        for model in provider.models:
            listing.setdefault(model, []).append(name)
    age_date = datetime.fromisoformat(AS_OF).replace(tzinfo=UTC).timestamp()
    listed = {model: tuple(names) for model, names in listing.items()}
    return Catalog(MappingProxyType(known), age_date, MappingProxyType(listed))


def _provider(raw: _RawProvider) -> Provider:
    template = ours.TEMPLATES.get(raw.id)
    unsupported = ours.UNSUPPORTED.get(raw.id)
    return Provider(
        id=raw.id,
        name=raw.name,
        env=raw.env,
        dialect=None if unsupported else ours.DIALECTS.get(raw.id, "openai"),
        base_url=None if template or unsupported else _base_url(raw),
        unsupported=unsupported,
        compatible=ours.COMPATIBLE.get(raw.id, {}),
        models=MappingProxyType({name: _model(name, m) for name, m in raw.models.items()}),
        template=template,
        doc=raw.doc,
        npm=raw.npm,
        api=raw.api,
    )


def _base_url(raw: _RawProvider) -> str | None:
    url = ours.BASE_URLS.get(raw.id) or raw.api
    return url.rstrip("/") if url else None


def _model(name: str, raw: _RawModel) -> Model:
    cost = raw.cost or _Cost()
    return Model(
        name,
        raw.name,
        raw.family,
        _price(cost.input),
        _price(cost.output),
        _price(cost.cache_read),
        _price(cost.cache_write),
        raw.limit.context if raw.limit else None,
        raw.status,
    )


def _price(dollars: float | None) -> int | None:
    return None if dollars is None else round(dollars * 1_000_000)


# How models' names begin, and who makes them. First hit wins.
_MAKERS: Final = tuple(
    (re.compile(pattern), maker)
    for pattern, maker in (
        (r"(?:chat)?gpt-|o[1-9](?:-|$)|codex|text-embedding-(?:3|ada)|whisper|tts-", "openai"),
        (r"dall-e|omni-moderation|text-moderation|davinci|babbage|sora-|computer-use", "openai"),
        (r"claude", "anthropic"),
        (r"gemini|gemma|imagen|veo-|lyria|learnlm|text-embedding-00|text-multilingual", "google"),
        (r"(?:open-)?mi[sx]tral|codestral|ministral|devstral|labs-devstral", "mistral"),
        (r"magistral|pixtral|voxtral|leanstral", "mistral"),
        (r"deepseek", "deepseek"),
        (r"grok", "xai"),
        (r"qwen|qwq|qvq", "alibaba"),
        (r"(?:meta-)?llama", "llama"),
        (r"kimi|moonshot", "moonshotai"),
        (r"glm-|chatglm", "zai"),
        (r"minimax", "minimax"),
        (r"command|c4ai|aya-|embed-(?:v|english|multilingual)|rerank-", "cohere"),
        (r"sonar|r1-1776", "perplexity"),
        (r"nova-|titan-", "amazon-bedrock"),
        (r"nemotron", "nvidia"),
        (r"mercury", "inception"),
        (r"solar-", "upstage"),
        (r"mimo-", "xiaomi"),
        (r"step-", "stepfun"),
        (r"v0-", "v0"),
        (r"morph-", "morph"),
        (r"sarvam", "sarvam"),
    )
)
_VENDOR: Final = re.compile(r"^(?:[a-z]{2,6}\.)?(?:[a-z0-9]+\.)(?=[a-z])")


@lru_cache(maxsize=2048)
def _maker(model: str) -> str | None:
    """By the last part of the id: `openai/gpt-4o` and Bedrock's `us.anthropic.claude-…` too."""
    name = model.rpartition("/")[2].lower()
    for candidate in (name, _VENDOR.sub("", name)):
        for pattern, maker in _MAKERS:
            if pattern.match(candidate):
                return maker
    return None
