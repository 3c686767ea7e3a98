"""HTTPS to a provider: an unknown authority is refused, one the operator trusts is not."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from admin.demo.upstream import Script, Upstream
from gateway.addresses import AddressPolicy
from gateway.errors import UpstreamError
from gateway.upstream.engine import HttpEngine
from gateway.upstream.seam import Outbound, Timeouts
from gateway.upstream.tls import tls_context
from tests.certificate import certificate, server_side
from tests.world import LOOPBACK

ASK = """
import asyncio, sys
from ipaddress import ip_network
from gateway.addresses import AddressPolicy
from gateway.upstream.engine import HttpEngine
from gateway.upstream.seam import Outbound, Timeouts

async def main():
    engine = HttpEngine(AddressPolicy([ip_network("127.0.0.0/8")]), Timeouts())
    answer = await engine.send(Outbound("GET", sys.argv[1], b"/v1/models", [], None))
    print(answer.status, (await answer.read()).decode())
    await engine.aclose()

asyncio.run(main())
"""


async def ask_trusting(file: Path, origin: str) -> tuple[int | None, str]:
    """What a fresh interpreter sees that trusts the certificates of `file`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ASK, origin),
        env={**os.environ, "SSL_CERT_FILE": str(file)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await process.communicate()
    return process.returncode, out.decode()


async def test_trusted_authority_is_connected_to(tmp_path: Path) -> None:
    file = certificate(tmp_path, "127.0.0.1")
    async with Upstream(Script(body=b"hello"), ssl=server_side(file)) as upstream:
        assert await ask_trusting(file, upstream.origin) == (0, "200 hello\n")


async def test_certificate_of_another_host_is_refused(tmp_path: Path) -> None:
    file = certificate(tmp_path, "elsewhere.example")
    async with Upstream(Script(body=b"hello"), ssl=server_side(file)) as upstream:
        code, out = await ask_trusting(file, upstream.origin)
        assert code != 0
        assert "could not be reached (SSLCertVerificationError)" in out
        assert upstream.received == []


async def test_unknown_authority_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    file = certificate(tmp_path, "127.0.0.1")
    engine = HttpEngine(AddressPolicy(LOOPBACK), Timeouts())
    async with Upstream(Script(body=b"hello"), ssl=server_side(file)) as upstream:
        with pytest.raises(UpstreamError, match="could not be reached"):
            await engine.send(Outbound("GET", upstream.origin, b"/v1/models", [], None))
        assert upstream.received == []
    await engine.aclose()


def test_named_authorities_stand_in_the_place_of_the_systems(tmp_path: Path) -> None:
    context = tls_context(str(certificate(tmp_path, "localhost")))
    assert len(context.get_ca_certs()) == 1
