"""The examples of the documentation, run as people run them: a script, two variables, a gateway.

`test_docs.py` sees to it that the pages show exactly these files.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from admin.demo.ask import SENTENCE
from admin.demo.upstream import Upstream
from tests.world import World, served

EXAMPLES = Path(__file__).parent / "examples"


async def run(name: str, **variables: str) -> str:
    """What the example writes to standard output; it must end well and complain about nothing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        str(EXAMPLES / name),
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaints = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, complaints.decode()) == (0, "")
    return said.decode()


async def test_openai_example_prints_the_answer(upstream: Upstream) -> None:
    world = World()
    world.config("custom:demo", upstream.url, alias="demo")
    key = world.key()
    async with served(world) as house:
        said = await run("openai_stream.py", OPENAI_BASE_URL=f"{house.url}/v1", OPENAI_API_KEY=key)
    assert said == SENTENCE


async def test_anthropic_example_prints_the_answer(upstream: Upstream) -> None:
    world = World()
    world.config("anthropic", upstream.url, dialect="anthropic")
    key = world.key()
    async with served(world) as house:
        said = await run("anthropic_stream.py", ANTHROPIC_BASE_URL=house.url, ANTHROPIC_API_KEY=key)
    assert said == SENTENCE


def test_every_example_is_run() -> None:
    tests = Path(__file__).read_text()
    names = [path.name for path in EXAMPLES.glob("*.py")]
    assert names
    assert [name for name in names if f'"{name}"' not in tests] == []
