"""A real Prometheus that scrapes what a test runs, and what it answers when it is asked.

Debian's binary, on loopback at a port of its own, with its data in a folder that goes with it.
Called by tests only.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from tests.docs_tables import ROOT
from tests.houses import PATIENCE
from tests.servers import Server, answers_tcp, program, running

_CONFIG = """\
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: ["{rules}/rules.yml", "{rules}/alerts.yml"]
scrape_configs:
  - job_name: wardgate
    static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass
class Prometheus:
    """One that runs. `target` is the address it scrapes every second, as the job `wardgate`."""

    http: httpx2.AsyncClient
    target: str

    async def get(self, path: str, **params: str) -> Any:
        """What the API says; AssertionError where it complains."""
        answer = await self.http.get(f"/api/v1/{path}", params=params)
        said = answer.json()
        assert said["status"] == "success", f"{params}: {said.get('error')}"
        return said["data"]

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """(labels, value) of every series now; no scalars."""
        data = await self.get("query", query=expression)
        assert data["resultType"] == "vector"
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    async def until(self, expression: str) -> None:
        """Wait until `expression` gives anything; TimeoutError names it."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self.query(expression):  # noqa: ASYNC110 # it is polled, as scrapes are
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise TimeoutError(f"waited {PATIENCE:.0f} s for: {expression}") from None


@contextlib.asynccontextmanager
async def prometheus(target: str) -> AsyncIterator[Prometheus]:
    """A Prometheus that has our rules and scrapes `target` (host:port)."""
    config = _CONFIG.format(rules=ROOT / "deploy/prometheus", target=target)

    def make(port: int, folder: Path) -> Server:
        (folder / "prometheus.yml").write_text(config)
        command = [
            program("prometheus", "prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=warn",
        ]
        return Server(port, folder, command, answers_tcp)

    with running(make) as server:
        url = f"http://127.0.0.1:{server.port}"
        async with httpx2.AsyncClient(base_url=url, timeout=10) as http:
            yield Prometheus(http, target)
