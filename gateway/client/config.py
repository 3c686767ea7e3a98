"""uvicorn with our listener: it keeps the sockets, the start and the end, and sees no request.

Nothing of uvicorn's own protocols is used. Used by worker.py and the tests.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import uvicorn

from gateway.client.listener import App, Listener, Patience
from gateway.deadlines import Deadlines
from gateway.outbox import Outbox
from gateway.settings import Settings


def server_config(app: App, settings: Settings) -> uvicorn.Config:
    """What uvicorn is to serve `app` with."""
    patience = Patience(settings.header_timeout, settings.body_timeout, settings.keep_alive_timeout)
    shortest = min(patience.head, patience.body, patience.request)
    deadlines, outbox = Deadlines(shortest), Outbox()
    made = partial(Listener, serve=app.serve, patience=patience, deadlines=deadlines, outbox=outbox)
    return uvicorn.Config(
        cast(Any, app),
        http=cast(Any, made),
        loop="none",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        backlog=4096,
        timeout_graceful_shutdown=cast(int, settings.drain_timeout),
    )
