"""AWS from both sides: boto3 as an application has it, and a signature checked as AWS checks it.

The check is written from AWS's description of Signature Version 4, not from botocore, which makes
the signatures. Called by tests of Bedrock, and of KMS, only.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3  # type: ignore[import-untyped] # has no types of its own
from botocore.config import Config  # type: ignore[import-untyped] # likewise

from admin.demo.upstream import Received, Upstream
from gateway import catalog
from gateway.addresses import AddressPolicy
from gateway.app import build
from gateway.shapes import ProviderConfig
from gateway.upstream.engine import HttpEngine
from gateway.upstream.seam import Timeouts
from gateway.upstream.tls import tls_context
from tests.certificate import certificate, server_side
from tests.serve import serving
from tests.world import LOOPBACK, World, settings

REGION = "eu-west-1"
ACCESS_KEY = "AKIACANARY0123456789"
SECRET_KEY = "aws/secret+canary0123456789abcdefghijklm"
TOKEN = "aws-session-canary/0123456789+abcdef=="
API_KEY = "ABSK-bedrock-canary-0123456789abcdef"
CANARIES = (SECRET_KEY, TOKEN, API_KEY)
MODEL = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
ARN = f"arn:aws:bedrock:{REGION}:123456789012:inference-profile/{MODEL}"

_BEARER = "AWS_BEARER_TOKEN_BEDROCK"
_SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(\S+?)/(\d{8})/([a-z0-9-]+)/([a-z]+)/aws4_request, "
    r"SignedHeaders=(\S+), Signature=([0-9a-f]{64})"
)


def sealed(token: str | None = None) -> str:
    """AWS credentials as the desk seals them."""
    parts = {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "session_token": token}
    return json.dumps(parts)


def put(world: World, origin: str, *, token: str | None = None, **more: Any) -> ProviderConfig:
    """A config of Bedrock whose requests are signed; `origin` stands for AWS."""
    given = {"auth_type": "aws_sigv4", "settings": {"region": REGION}, "secret": sealed(token)}
    return world.config("amazon-bedrock", origin, dialect="bedrock", **{**given, **more})


def signed_headers(received: Received, service: str = "bedrock") -> set[str]:
    """What a request's signature covers, once it is found right. AssertionError when it is not."""
    [header] = received.values(b"authorization")
    found = _SIGNATURE.fullmatch(header.decode())
    assert found is not None
    assert (found[1], found[3], found[4]) == (ACCESS_KEY, REGION, service)
    [stamp] = received.values(b"x-amz-date")
    made = datetime.strptime(stamp.decode(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - made).total_seconds()) < 300
    assert stamp.startswith(found[2].encode())
    names = found[5].split(";")
    assert found[6] == _signature(received, names, stamp.decode(), service)
    return set(names)


def _signature(received: Received, names: list[str], stamp: str, service: str) -> str:
    assert names == sorted(names)
    values = [b",".join(received.values(name.encode())).decode() for name in names]
    lines = [f"{name}:{' '.join(v.split())}\n" for name, v in zip(names, values, strict=True)]
    canonical = "\n".join(
        [
            received.method,
            quote(received.path, safe="/-_.~"),  # escaped once more than it was sent
            "&".join(sorted(received.query.split("&"))),
            "".join(lines),
            ";".join(names),
            hashlib.sha256(received.body).hexdigest(),
        ]
    )
    key = b"AWS4" + SECRET_KEY.encode()
    for part in (stamp[:8], REGION, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    scope = f"{stamp[:8]}/{REGION}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    return hmac.digest(
        key, f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}".encode(), "sha256"
    ).hex()


def trusting(file: Path) -> HttpEngine:
    """The gateway's way out, with one authority more: the test's own."""
    context = tls_context()
    context.load_verify_locations(str(file))
    return HttpEngine(AddressPolicy(LOOPBACK), Timeouts(), tls=context)


@dataclass
class Aws:
    """HTTPS on both sides of a gateway. `url` is the gateway's, `key` a client key for it."""

    url: str
    key: str
    authority: Path
    upstream: Upstream
    clients: list[Any] = field(default_factory=list)

    def client(self, key: str | None = None, service: str = "bedrock-runtime") -> Any:
        """boto3 with a Wardgate key where it looks for Bedrock's API key, at each request."""
        os.environ[_BEARER] = key or self.key
        os.environ["AWS_EC2_METADATA_DISABLED"] = "true"  # it would ask the machine for more
        return self._client(service)

    def signing_client(self, access_key: str = ACCESS_KEY) -> Any:
        """boto3 with AWS credentials of its own."""
        os.environ.pop(_BEARER, None)
        keys = {"aws_access_key_id": access_key, "aws_secret_access_key": "nobody-knows"}
        return self._client("bedrock-runtime", **keys)

    def _client(self, service: str, **keys: str) -> Any:
        made = boto3.client(
            service,
            region_name=REGION,
            endpoint_url=self.url,
            verify=str(self.authority),
            config=Config(retries={"total_max_attempts": 1}),
            **keys,
        )
        self.clients.append(made)
        return made

    def hang_up(self) -> None:
        """Close what boto3 leaves to the garbage collector: TLS waits until both sides have."""
        for client in self.clients:
            pools = client._endpoint.http_session._manager.pools
            names = pools.keys()
            for name in names:
                pools[name].close()


@contextlib.asynccontextmanager
async def between_https(folder: Path, **config: Any) -> AsyncIterator[Aws]:
    """boto3's side and AWS's side over TLS, a gateway with one config of Bedrock between them.

    On the way out: every request the upstream got was signed with the stored credential.
    """
    file = certificate(folder, "127.0.0.1")
    async with Upstream(ssl=server_side(file)) as upstream:
        world, chosen = World(), settings()
        put(world, upstream.origin, **config)
        key = world.key()
        gateway = build(chosen, world.ring, catalog.load(), world.snapshot(), engine=trusting(file))
        async with serving(gateway, chosen, tls=file) as url:
            aws = Aws(url, key, file, upstream)
            yield aws
            aws.hang_up()
        for received in upstream.received:
            assert {"host", "x-amz-date"} <= signed_headers(received)
        assert not [wire for wire in upstream.wire if key.encode() in wire]
