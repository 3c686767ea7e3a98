"""HashiCorp Vault's transit engine wraps and unwraps master keys; its own key never leaves it.

Logs in with a token, as an AppRole, or as a Kubernetes service account. Nothing is kept: each
opening logs in anew. The HTTP API as Vault documents it. Called by wrapped.py.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from gateway.errors import StartRefused
from gateway.keks.source import described
from gateway.keks.wire import Wire, read, wire_to
from gateway.settings import Settings
from gateway.shapes import Headers

_WRAPPED = re.compile(r"vault:v\d{1,9}:[A-Za-z0-9+/]+={0,2}", re.ASCII)
_SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount/token"
_LONGEST_CREDENTIAL = 16 * 1024
_WHY = {
    404: "has nothing there: see WARDGATE_KEK_VAULT_MOUNT and WARDGATE_KEK_VAULT_NAMESPACE",
    503: "is sealed, or not ready",
}


class _Data(msgspec.Struct):
    plaintext: str = ""
    ciphertext: str = ""


class _Answer(msgspec.Struct):
    data: _Data


class _Token(msgspec.Struct):
    client_token: str


class _Login(msgspec.Struct):
    auth: _Token


class Transit:
    """Satisfies wrapped.py's Wrapper."""

    def __init__(self, settings: Settings, wire: Wire) -> None:
        self._settings = settings
        self._wire = wire
        self._token = ""

    async def wrap(self, name: str, key: bytes) -> str:
        """`vault:v1:…`, as the file keeps it. Raises StartRefused."""
        asked = {"plaintext": base64.b64encode(key).decode()}
        why = "cannot wrap: is it one that encrypts?"
        wrapped = (await self._ask("encrypt", asked, why)).ciphertext
        if not _WRAPPED.fullmatch(wrapped):
            raise StartRefused(f"{self._wire.who} answered with something else than was asked for")
        return wrapped

    async def unwrap(self, name: str, wrapped: str) -> bytes:
        """The other way. Raises StartRefused."""
        if not _WRAPPED.fullmatch(wrapped):
            raise StartRefused(f"Vault did not wrap master key {name!r}: it has no vault:v…:")
        why = f"cannot unwrap {name!r}: another key wrapped it, or it was edited"
        try:
            plain = (await self._ask("decrypt", {"ciphertext": wrapped}, why)).plaintext
            return base64.b64decode(plain, validate=True)
        except (binascii.Error, ValueError):
            raise StartRefused(f"{self._wire.who} unwraps {name!r} to no base64") from None

    async def _ask(self, what: str, asked: dict[str, str], why: str) -> _Data:
        if not self._token:
            self._token = await self._log_in()
        place = f"{self._settings.kek_vault_mount}/{what}/{self._settings.kek_vault_key}"
        allowed = f"refuses: is the token still good, and does its policy allow update on {place}?"
        refused = {400: f"with key {self._settings.kek_vault_key} {why}", 403: allowed}
        token = [(b"x-vault-token", self._token.encode())]
        return read(await self._post(place, token, asked, refused), _Answer, self._wire.who).data

    async def _log_in(self) -> str:
        given, method = self._settings, self._settings.kek_vault_auth
        proof = _credential(given)
        if method == "token":
            return proof
        if not given.kek_vault_role:
            raise StartRefused(f"WARDGATE_KEK_VAULT_AUTH={method} needs WARDGATE_KEK_VAULT_ROLE")
        names = ("role_id", "secret_id") if method == "approle" else ("role", "jwt")
        asked = dict(zip(names, (given.kek_vault_role, proof), strict=True))
        place = f"auth/{given.kek_vault_auth_mount or method}/login"
        refused = dict.fromkeys((400, 403), f"refuses to log in this role at {place}")
        body = await self._post(place, [], asked, refused)
        return _sendable(read(body, _Login, self._wire.who).auth.client_token, self._wire.who)

    async def _post(
        self, place: str, more: Headers, asked: dict[str, str], refused: dict[int, str]
    ) -> bytes:
        # Agents in between may insist on the second one: a browser cannot be made to send it.
        headers = [(b"content-type", b"application/json"), (b"x-vault-request", b"true"), *more]
        if self._settings.kek_vault_namespace:
            headers.append((b"x-vault-namespace", self._settings.kek_vault_namespace.encode()))
        status, body = await self._wire.post(f"/v1/{place}", headers, msgspec.json.encode(asked))
        if status == 200:
            return body
        why = {**_WHY, **refused}.get(status, f"answered {status} to {place}")
        raise StartRefused(f"{self._wire.who} {why}")


def _credential(settings: Settings) -> str:
    """The token, the secret id, or the service account's token. Raises StartRefused."""
    token, file = settings.kek_vault_token, settings.kek_vault_credential_file
    if token is not None and (file or settings.kek_vault_auth != "token"):
        raise StartRefused("WARDGATE_KEK_VAULT_TOKEN is set, and another way to log in, too")
    if token is not None:
        return _sendable(token.expose().decode("utf-8", "replace"), "WARDGATE_KEK_VAULT_TOKEN")
    if settings.kek_vault_auth == "kubernetes":
        file = file or _SERVICE_ACCOUNT
    if not file:
        raise StartRefused("Vault wants to know us: set WARDGATE_KEK_VAULT_CREDENTIAL_FILE")
    try:
        with Path(file).open("rb") as opened:
            text = opened.read(_LONGEST_CREDENTIAL).decode("utf-8", "replace")
    except OSError as error:
        words = f"WARDGATE_KEK_VAULT_CREDENTIAL_FILE: {file} cannot be read: {error.strerror}"
        raise StartRefused(words) from None
    return _sendable(text, file)


def _sendable(text: str, source: str) -> str:
    """What may stand in a header. Raises StartRefused."""
    token = text.strip()
    if not (token and token.isascii() and token.isprintable() and " " not in token):
        raise StartRefused(f"{source} holds no token")
    return token


@contextlib.asynccontextmanager
async def transit(settings: Settings) -> AsyncIterator[Transit]:
    """Vault as the settings name it, for the time of the block."""
    async with wire_to(settings.kek_vault_url, described(settings), settings) as wire:
        yield Transit(settings, wire)
