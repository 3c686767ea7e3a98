"""HTTPS to a provider: an unknown authority is refused, one the operator trusts is not."""

from __future__ import annotations

import asyncio
import datetime
import os
import ssl
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from admin.demo.upstream import Script, Upstream
from gateway.addresses import AddressPolicy
from gateway.errors import UpstreamError
from gateway.upstream.engine import HttpEngine
from gateway.upstream.seam import Outbound, Timeouts
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


def certificate(folder: Path, name: str) -> Path:
    """A self-signed certificate and its key in one file, for an address or a host name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    other = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([other]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


def server_side(file: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


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
