"""Which protocols a config serves: its own, and those below its provider's compatible paths.

Pure: tables and their reading. Says nothing about who may use what. Used by rules.py and walk.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from gateway.catalog import Catalog
from gateway.dialects.table import speaks
from gateway.paths import Endpoint
from gateway.shapes import DialectName, ProviderConfig

# What providers offer in OpenAI's protocol besides chat; Azure offers everything.
_COMPATIBLE: Final = {"google": frozenset({"chat", "embeddings", "images"})}
_CHAT_ONLY: Final = frozenset({"chat"})
_CHAT: Final[dict[DialectName, str]] = {
    "openai": "/v1/chat/completions",
    "azure": "/openai/v1/chat/completions",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:generateContent",
    "bedrock": "/model/{model}/converse",
    "cohere": "/v2/chat",
}
_INSTEAD: Final[dict[str, dict[DialectName, str]]] = {
    "embeddings": {
        "openai": "/v1/embeddings",
        "azure": "/openai/v1/embeddings",
        "gemini": "/v1beta/models/{model}:embedContent",
    },
    "count_tokens": {
        "anthropic": "/v1/messages/count_tokens",
        "gemini": "/v1beta/models/{model}:countTokens",
    },
}


def serving(catalog: Catalog, config: ProviderConfig, endpoint: Endpoint) -> ProviderConfig | None:
    """The config as this endpoint needs it, at its compatible path if it must be; None: it cannot.

    Always below the config's own base URL: its key goes to no other origin.
    """
    # A path we do not know belongs to the provider, whatever it speaks.
    if speaks(config.dialect, endpoint.dialect) or endpoint.name == "native":
        return config
    row = catalog.providers.get(config.provider)
    offered = _COMPATIBLE.get(config.provider, _CHAT_ONLY)
    if row is None or (endpoint.dialect == "openai" and endpoint.name not in offered):
        return None
    path = row.compatible.get(endpoint.dialect)
    if path is None:
        return None
    return replace(config, dialect=endpoint.dialect, base_url=config.base_url + path)


def instead(config: ProviderConfig, endpoint: Endpoint) -> str:
    """The endpoint to use where the config does not serve this one."""
    same = _INSTEAD.get(endpoint.operation, _CHAT).get(config.dialect)
    return same or _CHAT[config.dialect]
