"""What `--demo` puts into the store: a config of the demo upstream, and a client key for the curl.

Neither needs anybody's provider key. Called by `wardgate serve` before the first request.
"""

from __future__ import annotations

from admin.configure import configs, keys
from admin.configure.configs import ConfigChange, NewConfig
from admin.configure.desk import Desk
from admin.configure.keys import NewKey
from admin.permit import LOCAL
from admin.stored import every_config, every_key
from gateway.shapes import GLOBAL, Secret

PROVIDER = "custom:demo"
ALIAS = "demo"
MODEL = "demo/hello"
KEY_NAME = "quickstart"
# A key in a curl of an earlier start may be in use by now; later ones are for a day of trying.
LATER_LIFE = 24 * 3600.0
# Made up: the demo upstream takes any key. It is here to be seen arriving there, and nowhere else.
_KEY = Secret(b"sk-demo-made-up-key-of-the-demo-upstream")


async def ensure_demo(desk: Desk, port: int) -> str:
    """A config of the demo upstream on `port`, and the text of a client key that may use it."""
    await _ensure_config(desk, f"http://127.0.0.1:{port}/v1")
    return await _fresh_key(desk)


async def _ensure_config(desk: Desk, base_url: str) -> None:
    async for view in every_config(desk, GLOBAL):
        if view.provider == PROVIDER:
            if view.base_url != base_url:
                change = ConfigChange(base_url=base_url, secret=_KEY)
                await configs.change(desk, LOCAL, view.id, GLOBAL, change)
            return
    new = NewConfig(
        scope=GLOBAL,
        provider=PROVIDER,
        alias=ALIAS,
        name="Demo upstream",
        secret=_KEY,
        base_url=base_url,
        dialect="openai",
    )
    await configs.create(desk, LOCAL, new)


async def _fresh_key(desk: Desk) -> str:
    """The first one stays valid, so what was built with it goes on working; later ones expire."""
    now = desk.clock()
    earlier = [view async for view in every_key(desk, GLOBAL) if view.name == KEY_NAME]
    for view in earlier:
        if view.expires_at is not None and view.expires_at <= now:
            await keys.revoke(desk, LOCAL, view.id)
    life = now + LATER_LIFE if earlier else None
    _, text = await keys.create(desk, LOCAL, NewKey(name=KEY_NAME, expires_at=life))
    return text
