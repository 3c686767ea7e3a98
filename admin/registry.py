"""Every surface and its operations: the one list that routes, documents and tests are made from.

A new operation is a row in its file of api/; a new file is a line here. Nothing is served here.
"""

from __future__ import annotations

from collections.abc import Iterator

from admin.api import (
    admin_tokens,
    ai_agents,
    ai_providers,
    audit,
    client_keys,
    connections,
    gateways,
    llm_config,
    provider_configs,
    providers,
    routes,
    scopes,
    umbraco,
)
from admin.api.ai_provider_problems import AI_PROVIDERS
from admin.api.cloudflare import CLOUDFLARE
from admin.api.connection_problems import CONNECTIONS, UMBRACO
from admin.api.llm_config import LLM_CONFIG
from admin.api.manage import PROVIDERS
from admin.api.operations import Operation, Surface
from admin.api.problems import OURS

Rows = tuple[tuple[Surface, tuple[Operation, ...]], ...]
# OURS comes last: whatever path is nobody's is refused in its shape.
SURFACES: Rows = (
    (AI_PROVIDERS, ai_providers.OPERATIONS),
    (CONNECTIONS, connections.OPERATIONS),
    (UMBRACO, umbraco.OPERATIONS),
    (CLOUDFLARE, (*gateways.OPERATIONS, *provider_configs.OPERATIONS)),
    (PROVIDERS, providers.OPERATIONS),
    (LLM_CONFIG, llm_config.OPERATIONS),
    (
        OURS,
        (
            *client_keys.OPERATIONS,
            *admin_tokens.OPERATIONS,
            *scopes.OPERATIONS,
            *ai_agents.OPERATIONS,
            *routes.OPERATIONS,
            *audit.OPERATIONS,
        ),
    ),
)


def served(surface: Surface, row: Operation) -> Iterator[str]:
    """Every path (Starlette's notation) at which a row answers; the documented one first."""
    for mount in row.mounts or surface.mounts:
        path = mount + row.path
        yield path
        if surface.either_slash:
            yield path.removesuffix("/") if path.endswith("/") else f"{path}/"


def surface_of(path: str) -> Surface:
    """The surface in whose shape a request for an unknown path is refused."""
    return next(surface for surface, _ in SURFACES if path.startswith(surface.roots))
