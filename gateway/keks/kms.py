"""AWS KMS wraps and unwraps master keys; its own key never leaves it.

KMS's JSON protocol over our own way out, signed by sign.py. A key's id is its encryption context:
KMS unwraps it under that id only, and its log shows it. Called by wrapped.py.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
from collections.abc import AsyncIterator

import msgspec

from gateway.errors import StartRefused, Unavailable
from gateway.keks.source import described, region
from gateway.keks.wire import Wire, read, wire_to
from gateway.settings import Settings
from gateway.shapes import Secret
from gateway.sign import AwsKeys, machine_keys, sign

SCHEME = "aws-kms:"
CONTEXT = "wardgate-kek"
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}", re.ASCII)
_KIND = re.compile(r"[A-Za-z]{1,60}", re.ASCII)
_STRANGER = "refuses the credentials, or they may not use this key"
_OTHER = "cannot unwrap {name!r}: another key or another id wrapped it, or it was edited"
_WHY = {
    "AccessDeniedException": _STRANGER,
    "ExpiredTokenException": _STRANGER,
    "IncompleteSignature": _STRANGER,
    "InvalidClientTokenId": _STRANGER,
    "InvalidSignatureException": _STRANGER,
    "MissingAuthenticationToken": _STRANGER,
    "UnrecognizedClientException": _STRANGER,
    "NotFoundException": "has no such key: see WARDGATE_KEK_AWS_KEY and its region",
    "IncorrectKeyException": _OTHER,
    "InvalidCiphertextException": _OTHER,
    "DisabledException": "has disabled this key",
    "KMSInvalidStateException": "cannot use this key in the state it is in",
}


class _Answer(msgspec.Struct, rename="pascal"):
    ciphertext_blob: str = ""
    plaintext: str = ""


class _Problem(msgspec.Struct):
    kind: str = msgspec.field(name="__type", default="")


class Kms:
    """Satisfies wrapped.py's Wrapper."""

    def __init__(self, settings: Settings, url: str, wire: Wire) -> None:
        self._settings = settings
        self._url = url
        self._wire = wire
        self._keys: AwsKeys | None = None

    async def wrap(self, name: str, key: bytes) -> str:
        """`aws-kms:…`, as the file keeps it. Raises StartRefused."""
        asked = {"Plaintext": base64.b64encode(key).decode()}
        wrapped = (await self._ask("Encrypt", name, asked)).ciphertext_blob
        if not _BASE64.fullmatch(wrapped):
            raise StartRefused(f"{self._wire.who} answered with something else than was asked for")
        return SCHEME + wrapped

    async def unwrap(self, name: str, wrapped: str) -> bytes:
        """The other way. Raises StartRefused."""
        blob = wrapped.removeprefix(SCHEME)
        if blob == wrapped or not _BASE64.fullmatch(blob):
            raise StartRefused(f"AWS KMS did not wrap master key {name!r}: it has no {SCHEME}")
        try:
            plain = (await self._ask("Decrypt", name, {"CiphertextBlob": blob})).plaintext
            return base64.b64decode(plain, validate=True)
        except (binascii.Error, ValueError):
            raise StartRefused(f"{self._wire.who} unwraps {name!r} to no base64") from None

    async def _ask(self, what: str, name: str, asked: dict[str, str]) -> _Answer:
        if self._keys is None:
            self._keys = await _credentials(self._settings)
        context = {"EncryptionContext": {CONTEXT: name}}
        body = msgspec.json.encode({"KeyId": self._settings.kek_aws_key, **context, **asked})
        headers = [
            (b"content-type", b"application/x-amz-json-1.1"),
            (b"x-amz-target", b"TrentService." + what.encode()),
        ]
        try:
            made = sign(
                self._keys, region(self._settings), "POST", self._url + "/", headers, body, "kms"
            )
        except Unavailable as error:
            raise StartRefused(str(error)) from None
        status, body = await self._wire.post("/", headers + made, body)
        if status == 200:
            return read(body, _Answer, self._wire.who)
        raise StartRefused(f"{self._wire.who} {_why(status, body, name)}")


def _why(status: int, body: bytes, name: str) -> str:
    """By the error's name alone: its words may repeat what was signed."""
    try:
        kind = msgspec.json.decode(body, type=_Problem).kind.rpartition("#")[2]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        kind = ""
    if not _KIND.fullmatch(kind):
        return f"answered {status}"
    return f"{_WHY.get(kind, f'answered {status}').format(name=name)} ({kind})"


async def _credentials(settings: Settings) -> AwsKeys:
    """Those of the settings, else those of the machine. Raises StartRefused."""
    name, secret = settings.kek_aws_access_key_id, settings.kek_aws_secret_access_key
    session = settings.kek_aws_session_token
    if name is not None and secret is not None:
        return AwsKeys(_text(name), _text(secret), _text(session) if session else None)
    if name is not None or secret is not None or session is not None:
        raise StartRefused(
            "WARDGATE_KEK_AWS_ACCESS_KEY_ID and WARDGATE_KEK_AWS_SECRET_ACCESS_KEY go together"
        )
    try:
        # A thread: it may ask the machine's metadata, and waits for it.
        return await asyncio.to_thread(machine_keys, region(settings), settings.kek_timeout)
    except Unavailable as error:
        raise StartRefused(str(error)) from None


def _text(secret: Secret) -> str:
    return secret.expose().decode("utf-8", "replace")


def endpoint(settings: Settings) -> str:
    """Where KMS is, as an origin. Raises StartRefused where no region is named."""
    place = region(settings)
    suffix = ".cn" if place.startswith("cn-") else ""
    return settings.kek_aws_endpoint or f"https://kms.{place}.amazonaws.com{suffix}"


@contextlib.asynccontextmanager
async def kms(settings: Settings) -> AsyncIterator[Kms]:
    """KMS as the settings name it, for the time of the block."""
    url = endpoint(settings)
    async with wire_to(url, described(settings), settings) as wire:
        yield Kms(settings, url, wire)
