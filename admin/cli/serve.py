"""`wardgate serve` and `wardgate demo-upstream`."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import click

from gateway.errors import StartRefused
from gateway.settings import MOST_WORKERS, Settings

if TYPE_CHECKING:
    from admin.run import App


@click.command()
@click.argument("app", type=click.Choice(["gateway", "admin"]), required=False)
@click.option("--host", help="Address of the gateway.  [127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the gateway.  [8080]")
@click.option("--admin-host", help="Address of the admin app.  [127.0.0.1]")
@click.option("--admin-port", type=click.IntRange(0, 65535), help="Port of the admin app.  [8081]")
@click.option("--workers", type=click.IntRange(1, MOST_WORKERS), help="Gateway processes.  [1]")
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), help="/metrics of a gateway that runs alone."
)
@click.option("--import-env", is_flag=True, help="Take in provider keys found in the environment.")
@click.option("--demo", is_flag=True, help="Run a demo upstream and print a curl that works.")
def serve(app: App | None, import_env: bool, demo: bool, **given: str | int | None) -> None:
    """Run the gateway and the admin app; with GATEWAY or ADMIN only that one.

    Options win over WARDGATE_… variables. SIGTERM and Ctrl-C let running requests finish
    (WARDGATE_DRAIN_DELAY, WARDGATE_DRAIN_TIMEOUT); a second one does not wait.

    \b
    Examples:
      wardgate serve --demo                        try it: no provider key needed
      wardgate serve --import-env                  OPENAI_API_KEY and its like become configs
      wardgate serve gateway --workers 4 --metrics-port 9100
      wardgate serve admin --admin-port 8081

    \b
    The demo upstream listens on 127.0.0.1:8089 (any free port when that is taken). With --demo
    upstreams on 127.0.0.1 are allowed; it is refused with WARDGATE_ENV=production.
    """
    from admin.run import BOTH, Order, run

    settings = Settings.from_env(os.environ, **given)
    apps = (app,) if app is not None else BOTH
    if demo and "gateway" not in apps:
        raise click.UsageError("--demo needs the gateway")
    asyncio.run(run(Order(settings, apps, import_env, demo), os.environ))


@click.command("demo-upstream")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8089, show_default=True)
def demo_upstream(host: str, port: int) -> None:
    """Run an upstream that answers like a provider, or goes wrong on request.

    It takes any key. To rehearse failures, send it the header `x-demo` (below).

    \b
    Use it behind a gateway (WARDGATE_ALLOWED_UPSTREAM_CIDRS=127.0.0.0/8):
      wardgate config add custom:demo --alias demo --base-url http://127.0.0.1:8089/v1 \\
        --dialect openai --no-key
    """
    from admin.demo.upstream import serve as run_upstream

    try:
        asyncio.run(run_upstream(host, port, lambda url: click.echo(f"demo upstream on {url}")))
    except OSError as error:
        raise StartRefused(f"cannot listen on {host}:{port}: {error.strerror}") from None
    except KeyboardInterrupt:
        return
