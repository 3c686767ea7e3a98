"""Signs a request for AWS (Signature Version 4) with botocore, the extra `bedrock`.

botocore is imported with the first signature, some 50 ms, once a process: Python's own work, which
another thread would only share with the loop. Nothing is kept or logged here. Called by inject.py,
by whoever probes a key, and by keks/kms.py.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import msgspec

from gateway.errors import Unavailable
from gateway.shapes import Headers, Setting

SERVICE: Final = "bedrock"
_HOST: Final = re.compile(r"[/.]bedrock(?:-runtime)?(?:-fips)?\.([a-z0-9-]+)\.")
_BETWEEN: Final = "::"


@dataclass(frozen=True, slots=True, repr=False)
class AwsKeys:
    """AWS credentials, by the names botocore knows them by; a `token` marks temporary ones."""

    access_key: str
    secret_key: str
    token: str | None = None


class _Sealed(msgspec.Struct):
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


class _Tools(NamedTuple):
    signer: Any
    request: Any


_sealed: Final = msgspec.json.Decoder(_Sealed)


def read_keys(text: bytes) -> AwsKeys:
    """Credentials as they are sealed, or `ID::SECRET::REGION[::SESSION]` behind a reference.

    Raises ValueError, which repeats nothing of them.
    """
    if text.startswith(b"{"):
        try:
            found = _sealed.decode(text)
        except msgspec.DecodeError:
            raise ValueError("not AWS credentials") from None
        return AwsKeys(found.access_key_id, found.secret_access_key, found.session_token)
    parts = text.decode("ascii").split(_BETWEEN)
    if len(parts) not in (3, 4) or not all(parts):
        raise ValueError("not AWS credentials")
    return AwsKeys(parts[0], parts[1], parts[3] if len(parts) == 4 else None)


def region_of(base_url: str, settings: Mapping[str, Setting]) -> str | None:
    """The region to sign for: the setting, else what an AWS host name says; None: neither."""
    region = settings.get("region")
    if isinstance(region, str) and region:
        return region
    found = _HOST.search(base_url)
    return found[1] if found else None


def can_sign() -> bool:
    """Whether botocore is installed. Imports nothing."""
    return find_spec("botocore") is not None


def sign(
    keys: AwsKeys,
    region: str,
    method: str,
    url: str,
    headers: Headers,
    body: bytes | None,
    service: str = SERVICE,
) -> Headers:
    """The headers to add to a request that is sent with exactly this URL, `headers` and body.

    Signed are host, date, content type, body and whatever is called x-amz…; other headers may
    change on the way. Raises Unavailable when botocore is not installed.
    """
    tools = _tools()
    request = tools.request(method=method, url=url, data=body)
    for name, value in headers:
        if name == b"content-type" or name.startswith(b"x-amz"):
            request.headers.add_header(name.decode("ascii"), value.decode("latin-1"))
    tools.signer(keys, service, region).add_auth(request)
    made = ("X-Amz-Date", "X-Amz-Security-Token", "Authorization")
    return [(n.lower().encode(), v.encode()) for n in made if (v := request.headers[n])]


@lru_cache(maxsize=1)
def _tools() -> _Tools:
    # What it logs at debug level has the session token in it.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        from botocore.auth import SigV4Auth  # type: ignore[import-untyped]
        from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
    except ImportError:
        raise _missing() from None
    return _Tools(SigV4Auth, AWSRequest)


def _missing() -> Unavailable:
    return Unavailable(
        "requests to AWS cannot be signed here: pip install 'wardgate[bedrock]'",
        code="secret_unavailable",
    )


def machine_keys(region: str, patience: float) -> AwsKeys:
    """Credentials as AWS's own tools find them: environment, files, the machine's or pod's role.

    May ask the machine's metadata or AWS, `patience` seconds each: for a thread, at start. Raises
    Unavailable, which repeats nothing of what was found.
    """
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        from botocore.config import Config  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]
        from botocore.session import Session  # type: ignore[import-untyped]
    except ImportError:
        raise _missing() from None
    session = Session()
    session.set_config_variable("region", region)
    once = {"total_max_attempts": 1}
    config = Config(connect_timeout=patience, read_timeout=patience, retries=once)
    session.set_default_client_config(config)
    try:
        found = session.get_credentials()
        keys = found.get_frozen_credentials() if found is not None else None
    except (BotoCoreError, ClientError, OSError, ValueError, KeyError) as error:
        why = f"the AWS credentials of this machine cannot be had ({type(error).__name__})"
        raise Unavailable(why, code="secret_unavailable") from None
    if keys is None:
        raise Unavailable("this machine has no AWS credentials", code="secret_unavailable")
    return AwsKeys(keys.access_key, keys.secret_key, keys.token)
