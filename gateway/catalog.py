"""Look-ups on the catalog: which provider lists which model, whose model it is, prices, names.

Joins a copy of models.dev, the packaged one or a later one (parse), with our own table (providers).
Immutable; nothing is fetched here. Loaded by whoever starts a process, again when there is news.
"""

from __future__ import annotations

import lzma
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from gateway import providers as ours
from gateway.errors import CatalogBroken
from gateway.shapes import DialectName, Setting

AS_OF: Final = "2026-06-30"  # the newest entry of the packaged snapshot
LARGEST: Final = 32 * 1024 * 1024  # bytes of JSON; the packaged snapshot has 2.4 million
MOST_PROVIDERS: Final = 2_000
MOST_MODELS: Final = 50_000


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

    def url(self, settings: Mapping[str, Setting]) -> str | None:
        """The base URL for a config with these settings; None: it must carry its own."""
        if self.base_url is None and self.template is not None:
            return self.template.fill(settings)
        return self.base_url


@dataclass(frozen=True, slots=True, eq=False)
class Catalog:
    """All providers by id.

    `age_date` is the Unix time it speaks of: of the newest entry, or when it was fetched. `packed`
    is what it was read from, xz, where somebody wants to read more in it; empty: not kept.
    """

    providers: Mapping[str, Provider]
    age_date: float
    _listing: Mapping[str, tuple[str, ...]]
    packed: bytes = b""

    def __repr__(self) -> str:
        # Written out it is a megabyte, and whoever shows a task that came to it would show it all.
        return f"<Catalog: {len(self.providers)} providers>"

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


# What we read of an entry, and what it may be made of: ids go into URLs and metrics, pages into
# links. Whatever else the source says is passed over.
_ProviderId = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,79}\Z")]
_ModelId = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,300}\Z")]
_Words = Annotated[str, Meta(max_length=500)]
_Variable = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_]{1,100}\Z")]
_Page = Annotated[str, Meta(pattern=r"^https?://[\x21-\x7e]{1,500}\Z")]
_Place = Annotated[str, Meta(pattern=r"^[\x21-\x7e]{1,500}\Z")]
_Dollars = Annotated[float, Meta(ge=0, le=1_000_000)]
_Tokens = Annotated[int, Meta(ge=0, le=2**53)]


class _Cost(msgspec.Struct, gc=False):
    input: _Dollars | None = None
    output: _Dollars | None = None
    cache_read: _Dollars | None = None
    cache_write: _Dollars | None = None


class _Limit(msgspec.Struct, gc=False):
    context: _Tokens | None = None


class _RawModel(msgspec.Struct, gc=False):
    id: _Words
    name: _Words
    family: _Words | None = None
    cost: _Cost | None = None
    limit: _Limit | None = None
    status: _Words | None = None


class _RawProvider(msgspec.Struct):
    id: _ProviderId
    name: _Words
    env: tuple[_Variable, ...]
    models: dict[_ModelId, _RawModel]
    doc: _Page | None = None
    npm: _Words | None = None
    api: _Place | None = None


_split: Final = msgspec.json.Decoder(dict[_ProviderId, msgspec.Raw]).decode
_decode: Final = msgspec.json.Decoder(_RawProvider).decode


@lru_cache(maxsize=1)
def load() -> Catalog:
    """The packaged catalog; read once a process."""
    as_of = datetime.fromisoformat(AS_OF).replace(tzinfo=UTC).timestamp()
    return parse(unpack(packaged()), as_of)


def packaged() -> bytes:
    """The snapshot that came with this package: models.dev's JSON, xz."""
    return files("gateway").joinpath("data/catalog.json.xz").read_bytes()


def unpack(packed: bytes) -> bytes:
    """The JSON inside. Raises CatalogBroken for what is no xz, or LARGEST and more."""
    reader = lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=128 * 1024 * 1024)
    try:
        data = reader.decompress(packed, LARGEST)
    except (lzma.LZMAError, EOFError) as error:
        raise CatalogBroken(f"the catalog's file is damaged: {error}") from None
    if not reader.eof:
        raise CatalogBroken("the catalog's file is cut, or too large")
    return data


def parse(data: bytes, dated: float, packed: bytes = b"") -> Catalog:
    """A catalog from models.dev's JSON; `dated` becomes its age_date, `packed` is kept with it.

    Raises CatalogBroken, without quoting anything, for what is none or holds more than we bear.
    """
    raw = _read(data)
    known = {name: _provider(entry) for name, entry in sorted(raw.items())}
    listing: dict[str, list[str]] = {}
    for name, provider in known.items():
        for model in provider.models:
            listing.setdefault(model, []).append(name)
    listed = {model: tuple(names) for model, names in listing.items()}
    return Catalog(MappingProxyType(known), dated, MappingProxyType(listed), packed)


def _read(data: bytes) -> dict[str, _RawProvider]:
    if len(data) > LARGEST:
        raise CatalogBroken(f"the catalog is larger than {LARGEST >> 20} MiB")
    try:
        # One by one: whoever reads in a thread lets requests through in between.
        raw = {name: _decode(entry) for name, entry in _split(data).items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CatalogBroken(f"this is no catalog: {error}") from None
    models = sum(len(entry.models) for entry in raw.values())
    if not 1 <= len(raw) <= MOST_PROVIDERS or models > MOST_MODELS:
        raise CatalogBroken(f"a catalog of {len(raw)} providers and {models} models is none")
    misfiled = [name for name, entry in raw.items() if entry.id != name]
    if misfiled:
        raise CatalogBroken(f"the catalog's entry {misfiled[0]} has another id")
    return raw


def _provider(raw: _RawProvider) -> Provider:
    template = ours.TEMPLATES.get(raw.id)
    unsupported = ours.UNSUPPORTED.get(raw.id)
    return Provider(
        id=raw.id,
        name=_clean(raw.name),
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


# A name ends in a letter's label: resolvers read numbers as addresses in more ways than one.
_ROOT: Final = re.compile(
    r"https?://(?:(?:[a-z0-9-]+\.)*[a-z][a-z0-9-]*|(?P<literal>[0-9]+(?:\.[0-9]+){3}))"
    r"(?::(?P<port>[0-9]{1,5}))?(?:/[A-Za-z0-9._~@:+-]+)*/?",
    re.ASCII,
)


def _base_url(raw: _RawProvider) -> str | None:
    """An address with a hole we know nothing of, or any odd one, is none: configs bring theirs."""
    url = ours.BASE_URLS.get(raw.id) or raw.api
    plain = _ROOT.fullmatch(url) if url else None
    if url is None or plain is None or not 0 < int(plain["port"] or 443) < 65536:
        return None
    if plain["literal"] and not _is_address(plain["literal"]):
        return None
    return url.rstrip("/")


def _is_address(text: str) -> bool:
    try:
        return str(IPv4Address(text)) == text
    except ValueError:
        return False


def _model(name: str, raw: _RawModel) -> Model:
    cost = raw.cost or _Cost()
    return Model(
        name,
        _clean(raw.name),
        _clean(raw.family) if raw.family else None,
        _price(cost.input),
        _price(cost.output),
        _price(cost.cache_read),
        _price(cost.cache_write),
        raw.limit.context if raw.limit else None,
        _clean(raw.status) if raw.status else None,
    )


def _clean(words: str) -> str:
    # Shown on terminals; and some names of the source do end with a tab.
    return words if words.isprintable() else "".join(filter(str.isprintable, words))


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
