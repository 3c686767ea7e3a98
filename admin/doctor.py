"""Checks an installation: small functions, each one thing, each with what to do about it.

Changes nothing, sends nothing to a provider, shows no secret. Called by `wardgate doctor`.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from admin.configure.addresses import override_flaw
from admin.configure.configs import ConfigView
from admin.configure.desk import Desk, open_desk
from admin.quickstart import PROVIDER as DEMO
from admin.stored import every_config
from admin.welcome import called
from gateway.catalog import Catalog
from gateway.catalog import load as load_catalog
from gateway.errors import SealBroken, StartRefused
from gateway.keks.keyset import exposed
from gateway.keks.load import load_ring
from gateway.keks.source import described, key_file, source_of
from gateway.presence import missing
from gateway.process.supervise import snapshot_file
from gateway.settings import Settings
from gateway.snapshot import unpack
from gateway.store.checkup import examine as examine_store
from gateway.store.checkup import missing_file
from gateway.store.compile import revision
from gateway.vault import KeyRing

if TYPE_CHECKING:
    from redis.asyncio import Redis

State = Literal["ok", "warn", "fail"]
PATIENCE = 1.0
OLDEST_PYTHON = (3, 11)
_HERE = (sys.version_info.major, sys.version_info.minor)
_METADATA = ip_network("169.254.0.0/16")


@dataclass(frozen=True)
class Check:
    """One finding. `words` say what is so, and what to do when it should not be."""

    name: str
    state: State
    words: str


async def examine(env: Mapping[str, str]) -> list[Check]:
    """Every check, in the order one would look. Unreadable settings end it at once."""
    try:
        settings = Settings.from_env(env)
    except StartRefused as error:
        return [check_python(_HERE), Check("settings", "fail", str(error))]
    return [check_python(_HERE), *[check async for check in _examine(settings)]]


async def _examine(settings: Settings) -> AsyncIterator[Check]:
    catalog = load_catalog()
    yield check_data_dir(settings.data_dir)
    ring, finding = await check_master_key(settings)
    yield finding
    database = await check_database(settings)
    yield database
    if ring is not None and database.state == "ok":
        async for check in _at_the_desk(settings, ring, catalog):
            yield check
    yield await check_redis(settings.redis_url)
    yield check_workers(settings)
    yield check_ranges(settings)
    yield await check_port("gateway port", settings.host, settings.port)
    yield await check_port("admin port", settings.admin_host, settings.admin_port)
    yield check_clock(time.time(), catalog.age_date)


async def _at_the_desk(settings: Settings, ring: KeyRing, catalog: Catalog) -> AsyncIterator[Check]:
    """What needs the store open: only reached when it is up to date, so nothing is migrated."""
    try:
        desk = await open_desk(settings, ring, catalog)
    except StartRefused as error:
        yield Check("canary", "fail", str(error))
        return
    try:
        yield Check("canary", "ok", "the master key opens this database")
        yield check_snapshot(settings, ring, await revision(desk.store), time.time())
        for check in await _check_configs(desk):
            yield check
    finally:
        await desk.aclose()


def check_python(version: tuple[int, int]) -> Check:
    text = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Check("python", "fail", f"{text} is too old; use 3.11 or newer")
    return Check("python", "ok", text)


def check_data_dir(folder: Path) -> Check:
    try:
        if missing(folder):
            return Check("data folder", "warn", f"{folder.resolve()} is made at the first start")
    except StartRefused as error:
        return Check("data folder", "fail", str(error))
    if not folder.is_dir():
        return Check("data folder", "fail", f"{folder} is not a folder; set WARDGATE_DATA_DIR")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & stat.S_IWOTH:
        return Check("data folder", "fail", f"anybody may write to {folder}; chmod 700 {folder}")
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        words = f"{folder} is not writable for this user; chown it, or set WARDGATE_DATA_DIR"
        return Check("data folder", "fail", words)
    if mode & 0o077:
        return Check("data folder", "warn", f"others may look into it; chmod 700 {folder}")
    return Check("data folder", "ok", str(folder.resolve()))


async def check_master_key(settings: Settings) -> tuple[KeyRing | None, Check]:
    """The ring, if there is one: a command is run, a service asked. Makes none: a start does."""
    name = "master key"
    try:
        if _to_be_made(settings):
            return None, Check(name, "warn", "made at the first start; back it up then")
        ring = await load_ring(settings)
    except StartRefused as error:
        return None, Check(name, "fail", str(error))
    if any(key.startswith("generated-") for key in ring.ids):
        words = f"generated by Wardgate ({ring.ids[-1]}); back it up, bring your own in production"
        return ring, Check(name, "ok", words)
    words = f"{ring.ids[-1]} seals, {len(ring.ids)} can open; from {described(settings)}"
    return ring, Check(name, "ok", words)


def _to_be_made(settings: Settings) -> bool:
    """Raises StartRefused as the start does."""
    bare = source_of(settings) == "file" and not settings.kek_file and not exposed(settings)
    return bare and missing(key_file(settings))


async def check_database(settings: Settings) -> Check:
    name, url = "database", settings.store_url
    try:
        if there_is_no := missing_file(url):
            return Check(name, "warn", f"{there_is_no} is made at the first start")
    except StartRefused as error:
        return Check(name, "fail", str(error))
    health = await examine_store(url)
    if health.problem:
        return Check(name, "fail", f"does not answer ({health.problem}); the gateway serves on")
    if health.version != health.newest:
        words = f"at {health.version}, this version wants {health.newest}; start it once"
        return Check(name, "fail", words)
    if health.journal and health.journal != "wal":
        return Check(
            name, "fail", f"journal mode {health.journal}: use a disk SQLite can use WAL on"
        )
    kind = "SQLite, WAL" if health.journal else url.partition(":")[0].partition("+")[0]
    return Check(name, "ok", f"{kind}, at {health.version}")


def check_snapshot(settings: Settings, ring: KeyRing, stored: int, now: float) -> Check:
    name, file = "routing table", snapshot_file(settings)
    try:
        snapshot = unpack(file.read_bytes(), ring)
    except FileNotFoundError:
        return Check(name, "warn", "none yet; made when a gateway starts")
    except (OSError, SealBroken) as error:
        return Check(name, "fail", f"{file} does not open ({error}); delete it and start again")
    age = round(now - snapshot.compiled_at)
    if age < -60:
        return Check(name, "fail", f"it is from the future ({-age} s): set this machine's clock")
    if snapshot.revision != stored:
        words = (
            f"revision {snapshot.revision}, the store is at {stored}; a running gateway takes it up"
        )
        return Check(name, "warn", words)
    return Check(name, "ok", f"revision {stored}, compiled {age} s ago")


async def _check_configs(desk: Desk) -> list[Check]:
    views = [view async for view in every_config(desk)]
    return list(check_configs(views, desk.catalog, desk.settings))


def check_configs(views: list[ConfigView], catalog: Catalog, settings: Settings) -> Iterator[Check]:
    name = "provider configs"
    findings = [Check(name, "warn", words) for view in views for words in _flaws(view, catalog)]
    yield from findings
    if not views:
        yield Check(name, "warn", f"none yet: {called()} config add openai")
    elif not findings:
        yield Check(name, "ok", f"{len(views)}, all of them usable")
    yield from _check_overrides(views, catalog, settings)
    yield from _check_places(views, settings)


def _flaws(view: ConfigView, catalog: Catalog) -> Iterator[str]:
    called = f"{view.provider}/{view.alias} of {view.scope}"
    provider = catalog.providers.get(view.provider)
    if view.auth_type != "none" and not view.secret_preview:
        yield f"{called} has no key and is never used; remove it or send its key"
    if provider is not None and provider.unsupported:
        yield f"{called} cannot be reached: {provider.unsupported}"


def _check_overrides(
    views: list[ConfigView], catalog: Catalog, settings: Settings
) -> Iterator[Check]:
    used = {view.provider for view in views}
    for name in settings.provider_base_urls:
        flaw = override_flaw(name, catalog)
        if flaw:
            yield Check("overrides", "fail", f"WARDGATE_PROVIDER_BASE_URLS names {name}, {flaw}")
        elif name not in used:
            words = f"WARDGATE_PROVIDER_BASE_URLS names {name}, which no config uses"
            yield Check("overrides", "warn", words)


def _check_places(views: list[ConfigView], settings: Settings) -> Iterator[Check]:
    for view in views:
        host = urlsplit(view.base_url or "").hostname or ""
        # With `serve --demo` its place is allowed for that start.
        if view.provider == DEMO or not _private(host) or _allowed(host, settings):
            continue
        words = f"{view.provider}/{view.alias} is at {host}; set WARDGATE_ALLOWED_UPSTREAM_CIDRS"
        yield Check("upstream ranges", "warn", words)


def _private(host: str) -> bool:
    try:
        return not ip_address(host).is_global
    except ValueError:
        return host == "localhost"


def _allowed(host: str, settings: Settings) -> bool:
    address = ip_address("127.0.0.1" if host == "localhost" else host)
    return any(address in network for network in settings.allowed_upstream_cidrs)


async def check_redis(url: str) -> Check:
    """Redis answers, when there is to be one: of a cluster every node that is named."""
    if not url:
        return Check("redis", "ok", "not used; limits live in the workers")
    # It costs 0.15 s, which an installation without Redis need not wait for.
    from gateway import redis_client

    try:
        read = redis_client.read(url)
        clients = redis_client.clients(read, redis_client.Patience(PATIENCE, PATIENCE))
    except StartRefused as error:
        return Check("redis", "fail", str(error))
    cluster = read.kind == "cluster"
    flaws = [flaw for client in clients if (flaw := await _flaw(client, cluster))]
    if not flaws:
        return Check("redis", "ok", "answers" if len(clients) == 1 else "all that are named answer")
    if len(flaws) == len(clients):
        return Check("redis", "fail", f"{flaws[0]}; each worker counts its part meanwhile")
    return Check("redis", "warn", f"{len(flaws)} of {len(clients)} named nodes: {flaws[0]}")


async def _flaw(client: Redis, cluster: bool) -> str:
    from redis.exceptions import RedisError, ResponseError

    async with client:
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            return f"does not answer ({type(error).__name__})"
        try:
            await cast(Any, client).execute_command("CLUSTER SLOTS")
        except (RedisError, OSError) as error:
            # Also what a user's rights say: who may not ask, and need not, is no flaw.
            alone = isinstance(error, ResponseError) and "cluster support disabled" in str(error)
            return "is no cluster: write redis://" if alone and cluster else ""
    return "" if cluster else "is a node of a cluster: write redis+cluster://"


def check_workers(settings: Settings) -> Check:
    count = settings.workers
    if count > 1 and not settings.redis_url:
        words = (
            f"{count} without Redis: each holds 1/{count} of every limit; set WARDGATE_REDIS_URL"
        )
        return Check("workers", "warn", words)
    return Check("workers", "ok", str(count))


def check_ranges(settings: Settings) -> Check:
    name, ranges = "allowed ranges", settings.allowed_upstream_cidrs
    for network in ranges:
        if network.prefixlen == 0 or (network.version == 4 and network.overlaps(_METADATA)):
            words = f"{network} lets configs reach cloud metadata; allow only what you run"
            return Check(name, "warn", words)
    return Check(name, "ok", ", ".join(map(str, ranges)) or "none: public https only")


async def check_port(name: str, host: str, port: int) -> Check:
    where = f"{host}:{port}"
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await _knock(_reachable(host), port)
    except ConnectionRefusedError:
        return Check(name, "ok", f"{where} is free")
    except TimeoutError:
        return Check(name, "fail", f"{where} is in use by something that says nothing")
    except OSError as error:
        return Check(name, "fail", f"{where}: {error.strerror or error}")
    if answer.startswith(b"HTTP/1.1 200"):
        return Check(name, "ok", f"{where} serves")
    return Check(name, "fail", f"{where} is in use by something else; choose another port")


async def _knock(host: str, port: int) -> bytes:
    """The first bytes whoever listens there answers to a health check."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        return await reader.read(64)
    finally:
        writer.close()


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def check_clock(now: float, catalog_date: float) -> Check:
    if now < catalog_date:
        return Check("clock", "fail", "it is before this version was made; set the clock")
    return Check("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)))
