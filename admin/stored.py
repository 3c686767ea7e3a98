"""Reads what the desk shows page by page, to the end. Called by the command line and at start."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from admin.configure import configs, keys, tokens
from admin.configure.configs import ConfigView
from admin.configure.desk import Desk
from admin.configure.keys import KeyView
from admin.configure.tokens import TokenView

PAGE = 100
T = TypeVar("T")


async def every_config(desk: Desk, scope: str | None = None) -> AsyncIterator[ConfigView]:
    """Configs, oldest first; `scope` None: of every scope."""
    async for view in _every(lambda at: configs.page(desk, scope, at, PAGE)):
        yield view


async def every_key(desk: Desk, scope: str | None = None) -> AsyncIterator[KeyView]:
    """Client keys that are not revoked, oldest first."""
    scopes = None if scope is None else (scope,)
    async for view in _every(lambda at: keys.page(desk, scopes, at, PAGE)):
        yield view


async def every_token(desk: Desk) -> AsyncIterator[TokenView]:
    """Admin tokens that are not revoked, oldest first."""
    async for view in _every(lambda at: tokens.page(desk, at, PAGE)):
        yield view


async def _every(page: Callable[[int], Awaitable[tuple[list[T], int]]]) -> AsyncIterator[T]:
    at, total = 0, 1
    while at < total:
        views, total = await page(at)
        for view in views:
            yield view
        at += PAGE
