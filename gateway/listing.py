"""How each provider lists its models: where to ask, how to read the ids, what a refusal looks like.

Pure: the providers' ways as data, and readers of their answers; no request is made here. Ids are
compared as they are written, an alias the provider resolves itself is not in its list. Used by
admin/probe.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal
from urllib.parse import quote, unquote, urlsplit

import msgspec

from gateway.dialects.azure import API_VERSION
from gateway.dialects.dialect import base_path, below
from gateway.shapes import DialectName, ProviderConfig

# `barred`: the provider knows the key, which may call models but not list them.
Verdict = Literal["listed", "refused", "barred", "rate_limited", "absent", "odd"]
ERROR_BYTES: Final = 16 * 1024
_LONGEST_ID: Final = 300
_LONGEST_TOKEN: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A GET that lists models.

    `path` stands behind the base URL, once `instead_of` is taken from its end. `key_path` is asked
    first where anybody gets the list. `more`: the field of an answer that leads to the next page,
    and the parameter it goes into. `whole`: what is not in the list cannot be called.
    """

    path: bytes = b"/models"
    instead_of: bytes = b""
    query: str = ""
    more: tuple[str, str] = ("", "")
    key_path: bytes = b""
    whole: bool = True


_USUAL: Final = Listing()
BY_DIALECT: Final[Mapping[DialectName, Listing]] = MappingProxyType(
    {
        # Base models; what a request names are deployments, which no key of this kind may list.
        "azure": Listing(whole=False),
        "anthropic": Listing(query="limit=1000", more=("last_id", "after_id")),
        "gemini": Listing(query="pageSize=1000", more=("nextPageToken", "pageToken")),
        "bedrock": Listing(path=b"/foundation-models"),
    }
)
BY_PROVIDER: Final[Mapping[str, Listing]] = MappingProxyType(
    {
        # Beside its OpenAI-compatible paths, which have no list.
        "cohere": Listing(
            path=b"/v1/models",
            instead_of=b"/compatibility/v1",
            query="page_size=1000",
            more=("next_page_token", "page_token"),
        ),
        "cloudflare-workers-ai": Listing(
            path=b"/models/search", instead_of=b"/v1", whole=False
        ),  # the first page of a search
        "openrouter": Listing(key_path=b"/key"),
    }
)
NO_LIST: Final = frozenset({"perplexity"})
# Who is known to give the list only for a key. Of others it is asked whether anybody gets it.
KEYED: Final = frozenset(
    {"amazon-bedrock", "anthropic", "azure", "azure-cognitive-services", "cerebras"}
    | {"cloudflare-workers-ai", "cohere", "deepseek", "fireworks-ai", "google", "groq"}
    | {"mistral", "openai", "openrouter", "togetherai", "xai"}
)

# xAI and Google answer 400 to a key that is none; their words, in lower case.
_REFUSED: Final = (
    *("api_key_invalid", "api key not valid", "incorrect api key", "invalid api key"),
    *("invalid_api_key", "invalid format for authorization header"),
)
# The key is good; OpenAI's restricted keys and AWS's policies only keep the list from it.
_BARRED: Final = ("missing scopes", "insufficient permission", "not authorized to perform")
_AWS: Final = re.compile(
    r"https://bedrock-runtime(-fips)?\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?(?::443)?"
)
_REGIONAL: Final = re.compile(r"(?:global|apac|us-gov|[a-z]{2})\.(?=[a-z0-9-]+\.)")
_SAID: Final = (
    ("error", "message"),
    ("error",),
    ("message",),
    ("Message",),
    ("detail",),
    ("errors", 0, "message"),
)


def listing_of(config: ProviderConfig) -> Listing | None:
    """How the config's provider lists its models; None: it does not."""
    if config.provider in NO_LIST:
        return None
    own = BY_PROVIDER.get(config.provider)
    if own is not None and base_path(config.base_url).endswith(own.instead_of):
        return own
    return BY_DIALECT.get(config.dialect, _USUAL)


def place(config: ProviderConfig, path: bytes, instead_of: bytes) -> tuple[str, bytes]:
    """The origin to ask, and the raw path. Only Bedrock's list lies on a host of its own.

    Raises Malformed for a base URL no path can stand behind.
    """
    parts = urlsplit(config.base_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    base = base_path(config.base_url).removesuffix(instead_of)
    if config.dialect == "bedrock":
        return control_plane(origin), below(base, path)
    if config.dialect == "azure" and not base.endswith(b"/v1"):
        return origin, below(base.removesuffix(b"/openai") + b"/openai", path)
    return origin, below(base, path)


def control_plane(origin: str) -> str:
    """Where Bedrock's models are listed: AWS's other host in the same region, else where it is."""
    found = _AWS.fullmatch(origin)
    if found is None:
        return origin
    return f"https://bedrock{found[1] or ''}.{found[2]}.amazonaws.com{found[3] or ''}"


def first_query(config: ProviderConfig, listing: Listing) -> str:
    """The query of the first page. Azure's paths without a version of their own need one."""
    if config.dialect == "azure" and not base_path(config.base_url).endswith(b"/v1"):
        return "api-version=" + quote(str(config.settings.get("apiVersion", API_VERSION)), safe="")
    return listing.query


class _Entry(msgspec.Struct):
    id: Any = None
    name: Any = None
    modelId: Any = None


_Entries = list[_Entry] | None | msgspec.UnsetType


class _Answer(msgspec.Struct):
    data: _Entries = msgspec.UNSET  # OpenAI and most; null where a server has no model yet
    models: _Entries = msgspec.UNSET  # Google, Cohere
    modelSummaries: _Entries = msgspec.UNSET  # Bedrock
    result: _Entries = msgspec.UNSET  # Cloudflare
    has_more: bool | None = None
    last_id: str | None = None
    nextPageToken: str | None = None
    next_page_token: str | None = None


_answer: Final = msgspec.json.Decoder(_Answer | list[_Entry])  # Together: the bare list


@dataclass(frozen=True, slots=True)
class Page:
    """The ids of one page, and the query of the next; "" at the end."""

    ids: tuple[str, ...]
    next: str


def read_page(body: bytes, listing: Listing) -> Page:
    """Raises ValueError for what is no list of models."""
    try:
        found = _answer.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise ValueError("not a list of models") from None
    if isinstance(found, list):
        return Page(_ids(found, "id"), "")
    for entries, name in (
        (found.data, "id"),
        (found.models, "name"),
        (found.modelSummaries, "modelId"),
        (found.result, "name"),
    ):
        if not isinstance(entries, msgspec.UnsetType):
            return Page(_ids(entries or (), name), _next(found, listing))
    raise ValueError("not a list of models")


def _ids(entries: Collection[_Entry], name: str) -> tuple[str, ...]:
    found = (getattr(entry, name) or entry.id for entry in entries)
    return tuple(text for text in found if isinstance(text, str) and _sound(text))


def _sound(text: str) -> bool:
    return 0 < len(text) <= _LONGEST_ID and text.isprintable()


def _next(found: _Answer, listing: Listing) -> str:
    field, parameter = listing.more
    token = getattr(found, field) if field else None
    ended = field == "last_id" and not found.has_more
    if ended or not token or len(token) > _LONGEST_TOKEN:
        return ""
    return f"{listing.query}&{parameter}={quote(token, safe='')}"


def verdict(status: int, body: bytes) -> Verdict:
    """What an answer says of the key, its body as far as it was read."""
    if 200 <= status < 300:
        return "listed"
    if status == 429:
        return "rate_limited"
    words = unquote(body[:ERROR_BYTES].decode("utf-8", "replace")).lower()
    if status in (401, 403):
        return "barred" if any(sign in words for sign in _BARRED) else "refused"
    if status == 400 and any(sign in words for sign in _REFUSED):
        return "refused"
    return "absent" if status in (404, 405, 501) else "odd"


def said(body: bytes) -> str:
    """The sentence in an error's JSON body; "" where none is found."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""
    if isinstance(found, list):  # Google's OpenAI-compatible paths wrap it
        found = found[0] if found else None
    texts = (_at(found, way) for way in _SAID)
    return next((text for text in texts if isinstance(text, str)), "")


def _at(found: Any, way: tuple[str | int, ...]) -> Any:
    for step in way:
        if isinstance(step, int):
            found = found[step] if isinstance(found, list) and len(found) > step else None
        else:
            found = found.get(step) if isinstance(found, dict) else None
    return found


_DATE = re.compile(r"-(?:20\d{6}|20\d{2}-\d{2}-\d{2})$", re.ASCII)


def serves(config: ProviderConfig, ids: Collection[str], model: str) -> bool:
    """Whether a model is among the ids; True, too, where what is not listed may be called.

    As written, but for Google's `models/`, the part of the world in Bedrock's inference profiles
    (`us.anthropic.…`), and a name without a date that providers list only with one.
    """
    listing = listing_of(config)
    if model in ids or (listing is not None and not listing.whole):
        return True
    if config.dialect == "bedrock":
        return model.startswith("arn:") or _REGIONAL.sub("", model, count=1) in ids
    listed = {_bare(text) for text in ids}
    return _bare(model) in listed or _bare(model) in {_DATE.sub("", text) for text in listed}


def _bare(model: str) -> str:
    return model.removeprefix("models/")
