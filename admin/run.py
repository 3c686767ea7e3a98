"""Runs the house: what `wardgate serve` does once its options are read.

Imports only what starting processes needs; opening.py sees to the rest, when it is time for it.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from ipaddress import ip_network
from typing import Literal

from gateway.errors import StartRefused
from gateway.process.child import Role
from gateway.process.supervise import House, Plan, listen
from gateway.settings import Settings, secret_names

DEMO_PORT = 8089
App = Literal["gateway", "admin"]
BOTH: tuple[App, ...] = ("gateway", "admin")


@dataclass(frozen=True)
class Order:
    """What was asked for: which apps, and what to do at the start."""

    settings: Settings
    apps: tuple[App, ...] = BOTH
    import_env: bool = False
    demo: bool = False


@dataclass(frozen=True)
class Bound:
    """Every listening socket of this start, bound before anything is started."""

    settings: Settings  # with the ports really bound
    gateway: list[socket.socket]
    admin: list[socket.socket]
    scrapes: list[socket.socket]
    demo_port: int = 0


async def run(order: Order, env: MutableMapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartRefused.

    `env` is the process's environment: the secrets among our settings are removed from it before
    anything is started.
    """
    for name in secret_names():
        env.pop(name, None)
    bound = _bind(order)
    workers = max(1, order.settings.workers) if bound.gateway else 0
    died = partial(_say_died, bound.settings.log_level)
    plan = Plan(bound.settings, workers, bound.gateway, _neighbours(bound), died)
    async with House(plan, env) as house:
        await _serve(house, order, bound, env)


async def _serve(house: House, order: Order, bound: Bound, env: Mapping[str, str]) -> None:
    from admin.opening import Wishes, open_house, serve_at_once
    from gateway.keks.load import load_ring

    settings, metrics = bound.settings, str(house.metrics)
    ring = await load_ring(settings)
    wishes = Wishes(import_env=order.import_env, demo_port=bound.demo_port)
    await serve_at_once(house, settings, ring, wishes)
    # Not before: what the parent imports keeps the first request waiting on a busy machine.
    _set_up_log(settings.log_level)
    opened = await open_house(house, settings, ring, wishes, env)
    if opened is None:
        return
    from admin.welcome import words
    from gateway.process.scrape import answering_scrapes

    sys.stderr.write(words(settings, opened.catalog, opened.welcome, order.apps))
    sys.stderr.flush()
    open_to_all = settings.metrics_open
    async with answering_scrapes(
        bound.scrapes,
        metrics,
        lambda: house.ready,
        opened.publisher.ask_store,
        open_to_all=open_to_all,
    ):
        await opened.publisher.watch()
        await house.finish()
        await opened.publisher.last()


def _bind(order: Order) -> Bound:
    """Bind everything, or nothing: raises StartRefused."""
    settings = order.settings
    demo_port = _demo_port(settings) if order.demo else 0
    if order.demo:
        demo = ip_network("127.0.0.1/32")
        allowed = (*settings.allowed_upstream_cidrs, demo)
        settings = replace(settings, allowed_upstream_cidrs=allowed)
    with ExitStack() as undo:
        gateway = _listen(undo, settings.host, settings.port) if "gateway" in order.apps else []
        admin = (
            _listen(undo, settings.admin_host, settings.admin_port) if "admin" in order.apps else []
        )
        scrapes = (
            _listen(undo, settings.host, settings.metrics_port) if settings.metrics_port else []
        )
        undo.pop_all()
    settings = replace(
        settings,
        port=_port(gateway, settings.port),
        admin_port=_port(admin, settings.admin_port),
    )
    return Bound(settings, gateway, admin, scrapes, demo_port)


def _listen(undo: ExitStack, host: str, port: int) -> list[socket.socket]:
    return [undo.enter_context(sock) for sock in listen(host, port)]


def _port(bound: list[socket.socket], otherwise: int) -> int:
    return int(bound[0].getsockname()[1]) if bound else otherwise


def _neighbours(bound: Bound) -> tuple[Role, ...]:
    roles: list[Role] = []
    if bound.admin:
        roles.append(Role("admin", ("admin.serve", "admin"), bound.admin, needs_store=True))
    if bound.demo_port:
        roles.append(Role("demo upstream", ("admin.serve", "demo", str(bound.demo_port))))
    return tuple(roles)


def _demo_port(settings: Settings) -> int:
    """Its usual port, so that the stored config fits from start to start; else any free one."""
    if settings.env == "production":
        raise StartRefused("--demo is for trying things out: not with WARDGATE_ENV=production")
    try:
        probe = listen("127.0.0.1", DEMO_PORT)
    except StartRefused:
        probe = listen("127.0.0.1", 0)
    port = _port(probe, DEMO_PORT)
    for sock in probe:
        sock.close()
    return port


@lru_cache
def _set_up_log(level: str) -> None:
    from gateway import logs, masking

    logs.configure(level, masking.mask)


def _say_died(level: str, name: str, pid: int, code: int) -> None:
    from gateway.logs import request_logger

    _set_up_log(level)  # a worker may die before anything else is to be logged
    request_logger().error("process died, starting another", process=name, pid=pid, code=code)
