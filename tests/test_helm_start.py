"""Wardgate starts with the very variables the chart's pods get, apart, on PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import base64
import os
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2
import yaml

from tests.houses import PATIENCE, house
from tests.kubernetes import LEAST, render
from tests.serve import free_port

TOKEN = "a-first-token-as-openssl-would-make-it"


def variables(folder: Path, database: str, redis: str) -> dict[str, dict[str, str]]:
    """Of each Deployment: secrets in place, paths and addresses those of this machine."""
    key = folder / "kek"
    key.write_text(base64.b64encode(os.urandom(32)).decode())
    key.chmod(0o440)
    values = {
        **LEAST,
        "redis": {"existingSecret": "redis"},
        "bootstrapToken": {"existingSecret": "first"},
        "metrics": {"port": free_port()},
        "settings": {"WARDGATE_HOST": "127.0.0.1", "WARDGATE_ADMIN_HOST": "127.0.0.1"},
    }
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    secrets = {"db": database, "redis": redis, "first": TOKEN}
    found = {}
    for one in render(file):
        if one["kind"] != "Deployment":
            continue
        [container] = one["spec"]["template"]["spec"]["containers"]
        found[container["name"]] = env = {
            item["name"]: item.get("value") or secrets[item["valueFrom"]["secretKeyRef"]["name"]]
            for item in container["env"]
        }
        env["WARDGATE_KEK_FILE"] = str(key)
        del env["WARDGATE_DATA_DIR"]  # the test's
    return found


async def test_gateway_and_admin_start_apart_and_serve_together(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    env = variables(tmp_path, postgres_url, redis_url)
    assert env["gateway"]["WARDGATE_ENV"] == "production"
    metrics = f"http://127.0.0.1:{env['gateway']['WARDGATE_METRICS_PORT']}/metrics"
    async with AsyncExitStack() as stack:
        # At once: whoever is first migrates the database, the other waits for it.
        admin, gateway = await asyncio.gather(
            stack.enter_async_context(house(tmp_path / "admin", "admin", **env["admin"])),
            stack.enter_async_context(house(tmp_path / "gateway", "gateway", **env["gateway"])),
        )
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=30))
        for base in (admin.admin, gateway.gateway):
            for path in ("/livez", "/readyz"):
                assert (await http.get(base + path)).status_code == 200
        first = {"authorization": f"Bearer {TOKEN}"}
        body = {"name": "app"}
        made = await http.post(f"{admin.admin}/api/v1/client-keys", json=body, headers=first)
        await served(http, f"{gateway.gateway}/v1/models", made.json()["key"])
        shown = (await http.get(metrics)).text.splitlines()
    for line in ("wardgate_workers 1.0", "wardgate_store_away 0.0", "wardgate_redis_away 0.0"):
        assert line in shown


async def served(http: httpx2.AsyncClient, url: str, key: str) -> None:
    """Wait until the key is known to the gateway; that takes a second."""
    headers = {"authorization": f"Bearer {key}"}
    async with asyncio.timeout(PATIENCE):
        while (await http.get(url, headers=headers)).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
