"""The openai dialect, spoken by OpenAI and every compatible provider; differences are data.

Pure. Bodies are not touched here. Satisfies gateway.dialects.dialect.Dialect.
"""

from __future__ import annotations

from typing import Final

from gateway.dialects.dialect import base_path, bearer, below, without_credentials
from gateway.dialects.openai_wire import (
    HEARTBEAT,
    ends,
    error_event,
    list_models,
    one_model,
    render,
    telling,
    usage,
)
from gateway.paths import Match
from gateway.shapes import Headers, ProviderConfig

__all__ = [
    "HEARTBEAT",
    "authorize",
    "defaults",
    "ends",
    "error_event",
    "list_models",
    "one_model",
    "render",
    "target",
    "telling",
    "usage",
]

# Settings of a config that become headers of OpenAI's.
_ACCOUNT: Final = (
    ("organization", b"openai-organization"),
    ("project", b"openai-project"),
)


def target(config: ProviderConfig, match: Match, query: bytes) -> tuple[bytes, bytes]:
    return below(base_path(config.base_url), match.rest), without_credentials(query)


def authorize(config: ProviderConfig, secret: bytes) -> Headers:
    account = [
        (header, value.encode())
        for name, header in _ACCOUNT
        if isinstance(value := config.settings.get(name), str) and value
    ]
    return bearer(config, secret) + account


def defaults(config: ProviderConfig) -> Headers:
    return []
