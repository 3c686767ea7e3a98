"""The azure dialect: OpenAI's shapes at a resource of the customer's own, by deployment or v1.

Pure. `base_url` is the v1 root; deployment paths go to the resource it belongs to. Satisfies
gateway.dialects.dialect.Dialect.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

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

API_VERSION: Final = "2024-10-21"  # the newest stable one of the deployment paths


def target(config: ProviderConfig, match: Match, query: bytes) -> tuple[bytes, bytes]:
    """v1 paths go below the base URL; the others below `/openai`, with an api-version."""
    query, base = without_credentials(query), base_path(config.base_url)
    if match.endpoint.dialect != "azure" or match.endpoint.name == "native":
        return below(base, match.rest), query
    root = base.removesuffix(b"/v1").removesuffix(b"/openai")
    return below(root + b"/openai", match.rest), _versioned(config, query)


def _versioned(config: ProviderConfig, query: bytes) -> bytes:
    if any(pair.startswith(b"api-version=") for pair in query.split(b"&")):
        return query
    wanted = str(config.settings.get("apiVersion", API_VERSION))
    version = b"api-version=" + quote(wanted, safe="").encode()
    return query + b"&" + version if query else version


def authorize(config: ProviderConfig, secret: bytes) -> Headers:
    if config.auth_type == "api_key":
        return [(b"api-key", secret)]
    return bearer(config, secret)


def defaults(config: ProviderConfig) -> Headers:
    return []
