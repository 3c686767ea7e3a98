"""The rows as a snapshot: what workers serve from.

Nothing is opened but the hash key; provider keys pass through sealed. A row that cannot be used any
more stays in the table as inactive: leaving it out would let requests walk on to the parent's key.
"""

from __future__ import annotations

from gateway.catalog import Catalog
from gateway.settings import Settings
from gateway.shapes import DialectName, ProviderConfig, RateLimit
from gateway.snapshot import Snapshot, by_name, by_scope
from gateway.store import (
    agents,
    choices,
    configs,
    enablement,
    gateways,
    keys,
    routes,
    scopes,
    sealed,
)
from gateway.store.configs import ConfigRow
from gateway.store.engine import Store, current_revision
from gateway.store.places import base_url, origin
from gateway.vault import KeyRing


async def revision(store: Store) -> int:
    """The change counter: it grows with every write."""
    async with store.read() as conn:
        return await current_revision(conn)


async def compile_snapshot(
    store: Store, ring: KeyRing, catalog: Catalog, settings: Settings, now: float
) -> Snapshot:
    """Read one state of the store as a routing table. Raises SealBroken for another ring."""
    async with store.read() as conn:
        return Snapshot(
            revision=await current_revision(conn),
            compiled_at=now,
            hash_key=await sealed.constant(conn, ring, sealed.HASH_KEY),
            scopes={scope.id: scope for scope in await scopes.everyone(conn)},
            configs=by_scope(
                [shaped(row, catalog, settings) for row in await configs.everyone(conn)]
            ),
            clients={client.id: client for client in await keys.everyone(conn)},
            agents={row.agent.id: row.agent for row in await agents.everyone(conn)},
            gateways={row.scope_id: row.limit for row in await gateways.everyone(conn)},
            choices=await choices.everyone(conn),
            routes=by_name([row.route for row in await routes.everyone(conn)]),
            disabled=await enablement.disabled(conn),
        )


def shaped(row: ConfigRow, catalog: Catalog, settings: Settings) -> ProviderConfig:
    """A row as workers see it: dialect and effective base URL filled in.

    The origin is computed, not read: a base_url edited in the database then no longer fits the
    seal. An operator's override moves the URL for everybody and leaves the seal alone.
    """
    provider = catalog.providers.get(row.provider_id)
    known = provider is None or provider.unsupported is None
    dialect = provider.dialect if provider is not None else row.dialect
    place = base_url(provider, row.base_url, row.settings)
    effective = settings.provider_base_urls.get(row.provider_id) or place
    here = origin(place)
    return ProviderConfig(
        id=row.id,
        scope=row.scope_id,
        provider=row.provider_id,
        alias=row.alias,
        dialect=dialect or _ANY,
        base_url=effective or "",
        auth_type=row.auth_type,
        settings=row.settings,
        active=row.is_active and known and dialect is not None and effective is not None,
        default=row.is_default,
        allow_unlisted=row.allow_unlisted,
        limit=RateLimit(row.rate_limit, row.rate_limit_period) if row.rate_limit else None,
        sealed=bytes(row.sealed) if row.sealed is not None else None,
        # A reference is not sealed, so its place is compared with the frozen one instead.
        reference=row.reference if here == row.origin else None,
        origin=here,
        secret_version=row.version or 0,
    )


_ANY: DialectName = "openai"  # of a config that is inactive because nothing says its dialect
