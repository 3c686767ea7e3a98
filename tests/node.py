"""The npm clients: installed once from the locked list, run as a process of their own.

No assertion is made here. Called by the tests that prove npm clients work unmodified.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.servers import ServerFailed, program

FOLDER = Path(__file__).parent / "npm"


def install() -> None:
    """`npm ci`, unless the modules are there; ServerFailed says what npm said."""
    program("node", "nodejs")
    if (FOLDER / "node_modules" / ".package-lock.json").exists():
        return
    command = [program("npm", "npm"), "ci"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(f"npm ci failed: {done.stdout}{done.stderr}")


async def drive_openai(base_url: str, api_key: str, **given: str) -> dict[str, Any]:
    """What the npm `openai` client saw at `base_url` (it ends in /v1); see npm/openai.mjs.

    `given` replaces refusedKey, model, missingModel and limitedModel. ServerFailed when a call
    that should work failed.
    """
    wanted = {
        "baseURL": base_url,
        "apiKey": api_key,
        "refusedKey": "sk-refuse-this-one",
        "model": "demo-chat",
        "missingModel": "missing-model",
        "limitedModel": "limited-model",
        **given,
    }
    return await _run(str(FOLDER / "openai.mjs"), json.dumps(wanted))


async def drive_cloudflare(**given: str) -> dict[str, Any]:
    """What the npm `cloudflare` client saw; see npm/cloudflare.mjs for what it is given."""
    return await _run(str(FOLDER / "cloudflare.mjs"), json.dumps(given))


async def inspect(url: str, token: str, *words: str) -> dict[str, Any]:
    """What the MCP inspector's command line prints for an MCP server at `url`."""
    tool = FOLDER / "node_modules" / "@modelcontextprotocol" / "inspector-cli"
    start = json.loads((tool / "package.json").read_text())["bin"]["mcp-inspector-cli"]
    header = f"Authorization: Bearer {token}"
    asked = ["--cli", url, "--transport", "http", "--header", header, *words]
    return await _run(str(tool / start), *asked)


async def _run(*words: str) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        program("node", "nodejs"),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    if process.returncode:
        raise ServerFailed(f"{words[0]}: {err.decode(errors='replace')}")
    seen: dict[str, Any] = json.loads(out)
    return seen
