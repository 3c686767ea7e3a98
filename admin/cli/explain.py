"""`wardgate explain`: which config a request would use, and why; nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from admin.cli.session import at_desk
from admin.cli.show import as_json, as_table, cell
from gateway.errors import StartRefused

if TYPE_CHECKING:
    from admin.configure.desk import Desk
    from gateway.resolve import Trace
    from gateway.shapes import Client
    from gateway.snapshot import Snapshot


@click.command()
@click.argument("model", required=False)
@click.option("--key-id", help="As this client key (`wardgate keys list`).")
@click.option("--scope", help="As a key of this scope that may use everything.  [global]")
@click.option("--endpoint", default="/v1/chat/completions", show_default=True, help="Path asked.")
@click.option(
    "--config", "narrow", help="As with the header wardgate-config: alias, provider/alias."
)
@click.option("--json", "json", is_flag=True, help="The whole trace as JSON.")
def explain(
    model: str | None,
    key_id: str | None,
    scope: str | None,
    endpoint: str,
    narrow: str | None,
    json: bool,
) -> None:
    """Say which config a request for MODEL would use, and why. Nothing is sent upstream.

    Exit code 1 when the request would be refused.

    \b
    Examples:
      wardgate explain gpt-4.1-mini
      wardgate explain team-b/claude-haiku-4-5 --key-id KEY_ID
      wardgate explain claude-haiku-4-5 --endpoint /v1/messages --scope gateway:acme/main
    """
    if key_id and scope:
        raise click.UsageError("use --key-id or --scope: a key has its own scope")
    trace = at_desk(lambda desk: _explain(desk, model, key_id, scope, endpoint, narrow))
    if json:
        as_json(trace)
    else:
        _show(trace)
    if trace.refused is not None:
        raise click.exceptions.Exit(1)


async def _explain(
    desk: Desk,
    model: str | None,
    key_id: str | None,
    scope: str | None,
    endpoint: str,
    narrow: str | None,
) -> Trace:
    from gateway.paths import match
    from gateway.resolve import Ask
    from gateway.resolve import explain as trace
    from gateway.store.compile import compile_snapshot

    now = desk.clock()
    snapshot = await compile_snapshot(desk.store, desk.ring, desk.catalog, desk.settings, now)
    client = _client(snapshot, key_id, scope or "global")
    found = match("POST", endpoint.encode())
    return trace(snapshot, desk.catalog, Ask(client, found, model, narrow, now))


def _client(snapshot: Snapshot, key_id: str | None, scope: str) -> Client:
    from gateway.shapes import Client

    if key_id is None:
        return Client(id="", digest=b"", scope=scope, name="explain")
    client = snapshot.clients.get(key_id)
    if client is None:
        raise StartRefused(f"there is no client key {key_id}; see `wardgate keys list`")
    return client


def _show(trace: Trace) -> None:
    steps = [(step.rule, step.name, step.hit, step.why) for step in trace.steps]
    as_table("Rules tried", ("rule", "name", "hit", "why"), steps)
    if trace.route is not None:
        aims = [(aim.config, aim.model, aim.why) for aim in trace.route.targets]
        as_table(f"Targets of route {trace.route.name}", ("config", "model", ""), aims)
    if trace.refused is not None:
        refused = trace.refused
        return click.echo(f"\nRefused: {refused.status} {refused.code}: {refused.message}")
    if trace.chosen is None:
        return None
    chosen = trace.chosen
    click.echo(f"\nSent to {chosen.provider}/{chosen.alias} of {chosen.scope} ({chosen.config})")
    click.echo(f"  upstream {chosen.base_url_host} ({chosen.dialect}), model {cell(chosen.model)}")
    for limit in trace.limits:
        click.echo(f"  limit of the {limit.policy}: {limit.limit} per {limit.window} s")
    return None
