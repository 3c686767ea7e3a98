"""HashiCorp Vault's transit engine and AWS KMS as their documentation has them, for the tests.

Each is what an `Upstream` on a real socket answers by: it wraps with keys of its own, checks who
asks (KMS by the signature), and says a canary in every error. `instead` goes wrong on request.
"""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from admin.demo.upstream import Received, Script, Upstream
from gateway.settings import Settings
from gateway.shapes import Secret
from tests.aws import ACCESS_KEY, REGION, SECRET_KEY, signed_headers

TOKEN = "hvs.canary-0123456789abcdefghij"
SAID = "canary-of-the-service"
ACCOUNT = f"arn:aws:kms:{REGION}:123456789012:"
KEY_ARN = f"{ACCOUNT}key/1234abcd-12ab-34cd-56ef-1234567890ab"
ALIAS = "alias/wardgate"
CANARIES = (TOKEN, SAID, SECRET_KEY, "canary")


def answer(status: int, body: Any) -> Script:
    kind = (b"content-type", b"application/json")
    return Script(status=status, headers=[kind], body=json.dumps(body).encode())


def decoded(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Standin:
    """What both have. `place` is its URL; what it wraps begins with `scheme`; `asked` names what
    was asked of it, in order."""

    instead: Script | None = None
    plaintext: bytes | None = None  # everything unwraps to this
    place: str = ""
    scheme: str = ""
    asked: list[str] = field(default_factory=list)

    def __call__(self, received: Received) -> Script:
        return self.instead or self.answered(received)

    def answered(self, received: Received) -> Script:
        raise AssertionError("which service?")

    def settings(self, folder: Path, **more: Any) -> Settings:
        raise AssertionError("which service?")


@dataclass
class Vault(Standin):
    """`versions` of each transit key, the newest last; `roles` may log in by what proves them."""

    versions: dict[str, list[AESGCM]] = field(default_factory=dict)
    scheme: str = "vault:v1:"
    mount: str = "transit"
    namespace: bytes | None = None
    roles: dict[str, dict[str, str]] = field(default_factory=dict)

    def settings(self, folder: Path, **more: Any) -> Settings:
        given: dict[str, Any] = {"kek_vault_token": Secret(TOKEN.encode())}
        given |= {"kek_vault_url": self.place, "kek_vault_key": "wardgate", "data_dir": folder}
        return Settings(**{**given, **more})

    def rotate(self, name: str = "wardgate") -> None:
        self.versions.setdefault(name, []).append(AESGCM(secrets.token_bytes(32)))

    def answered(self, received: Received) -> Script:
        assert received.method == "POST"
        assert received.header(b"x-vault-request") == b"true"
        version, *mount, what, key = received.path.strip("/").split("/")
        self.asked.append(what if version == "v1" else "?")
        if received.header(b"x-vault-namespace") != self.namespace:
            return self._wrong(404)
        if mount[:1] == ["auth"]:
            return self._log_in("/".join([*mount, what]), received.json())
        if received.header(b"x-vault-token") != TOKEN.encode():
            return self._wrong(403)
        if "/".join(mount) != self.mount:
            return self._wrong(404)
        return self._crypt(what, key, received.json())

    def _crypt(self, what: str, key: str, asked: dict[str, str]) -> Script:
        if key not in self.versions:
            return self._wrong(400)
        if what == "encrypt":
            return self._wrap(key, asked)
        return self._unwrap(key, asked) if what == "decrypt" else self._wrong(404)

    def _wrap(self, key: str, asked: dict[str, str]) -> Script:
        nonce, version = secrets.token_bytes(12), len(self.versions[key])
        sealed = self.versions[key][-1].encrypt(nonce, decoded(asked["plaintext"]), None)
        return self._data(ciphertext=f"vault:v{version}:{encoded(nonce + sealed)}")

    def _unwrap(self, key: str, asked: dict[str, str]) -> Script:
        scheme, version, text = asked["ciphertext"].split(":")
        assert scheme == "vault"
        blob, known = decoded(text), self.versions[key]
        try:
            plain = known[int(version[1:]) - 1].decrypt(blob[:12], blob[12:], None)
        except (InvalidTag, IndexError, ValueError):
            return self._wrong(400)
        return self._data(plaintext=encoded(plain if self.plaintext is None else self.plaintext))

    def _log_in(self, place: str, asked: dict[str, str]) -> Script:
        if self.roles.get(place) != asked:
            return self._wrong(403 if "jwt" in asked else 400)
        return answer(200, {"auth": {"client_token": TOKEN, "lease_duration": 60}, "data": None})

    def _data(self, **data: str) -> Script:
        return answer(200, {"request_id": "1", "lease_duration": 0, "data": data, "auth": None})

    def _wrong(self, status: int) -> Script:
        return answer(status, {"errors": [f"{SAID}: permission denied, or invalid"]})


@dataclass
class Kms(Standin):
    """One key, under its ARN and an alias."""

    scheme: str = "aws-kms:"
    known: tuple[str, ...] = (KEY_ARN, ALIAS)
    signed: list[set[str]] = field(default_factory=list)
    session: bytes | None = None
    _cipher: AESGCM = field(default_factory=lambda: AESGCM(secrets.token_bytes(32)))

    def settings(self, folder: Path, **more: Any) -> Settings:
        given: dict[str, Any] = {
            "kek_aws_access_key_id": Secret(ACCESS_KEY.encode()),
            "kek_aws_secret_access_key": Secret(SECRET_KEY.encode()),
        }
        given |= {"kek_aws_endpoint": self.place, "kek_aws_key": KEY_ARN, "data_dir": folder}
        return Settings(**{**given, **more})

    def answered(self, received: Received) -> Script:
        assert (received.method, received.target) == ("POST", b"/")
        assert received.header(b"content-type") == b"application/x-amz-json-1.1"
        target = (received.header(b"x-amz-target") or b"").decode()
        service, _, what = target.partition(".")
        assert service == "TrentService"
        self.asked.append(what)
        try:
            self.signed.append(signed_headers(received, "kms"))
        except AssertionError:
            return self._wrong("InvalidSignatureException")
        if received.header(b"x-amz-security-token") != self.session:
            return self._wrong("UnrecognizedClientException")
        asked = received.json()
        if asked["KeyId"] not in self.known:
            return self._wrong("NotFoundException")
        return self._wrap(asked) if what == "Encrypt" else self._unwrap(asked)

    def _wrap(self, asked: dict[str, Any]) -> Script:
        nonce = secrets.token_bytes(12)
        sealed = self._cipher.encrypt(nonce, decoded(asked["Plaintext"]), self._bound(asked))
        return answer(200, {"CiphertextBlob": encoded(nonce + sealed), "KeyId": KEY_ARN})

    def _unwrap(self, asked: dict[str, Any]) -> Script:
        blob = decoded(asked["CiphertextBlob"])
        try:
            plain = self._cipher.decrypt(blob[:12], blob[12:], self._bound(asked))
        except (InvalidTag, ValueError):
            return self._wrong("InvalidCiphertextException")
        shown = encoded(plain if self.plaintext is None else self.plaintext)
        return answer(200, {"Plaintext": shown, "KeyId": KEY_ARN})

    def _bound(self, asked: dict[str, Any]) -> bytes:
        return json.dumps(asked.get("EncryptionContext", {}), sort_keys=True).encode()

    def _wrong(self, kind: str) -> Script:
        return answer(400, {"__type": f"com.amazonaws.kms#{kind}", "message": f"{SAID} {TOKEN}"})


@contextlib.asynccontextmanager
async def running(service: Standin, tls: SSLContext | None = None) -> AsyncIterator[Upstream]:
    """The service on a socket of its own."""
    if isinstance(service, Vault) and not service.versions:
        service.rotate()
    async with Upstream(service, ssl=tls) as upstream:
        service.place = upstream.origin
        yield upstream
