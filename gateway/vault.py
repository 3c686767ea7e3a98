"""Seals and opens stored secrets: envelope AES-256-GCM under a ring of master keys (KEKs).

Each secret has its own data key, wrapped by a KEK; both levels are bound to what the secret is
for. No plaintext is ever cached, logged or written here. Sealing: the desk. Opening: inject.py.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.errors import SealBroken
from gateway.settings import REFERENCE_PREFIX
from gateway.shapes import ProviderConfig, Secret

KEY_BYTES = 32
_FORMAT = b"\x01"
_NONCE = 12
_WRAPPED = _NONCE + KEY_BYTES + 16
_MOST_DATA_KEYS = 4096
_KEY_LABEL = b"wardgate data key 1"
_SECRET_LABEL = b"wardgate secret 1"
KEK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)

# A data key's cipher, the nonce, and the secret that is sealed with them.
_Unwrapped = tuple[AESGCM, bytes, bytes]


class KeyRing:
    """Master keys by id, oldest first; the last one seals, every one opens."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        if not keys or len({name for name, _ in keys}) != len(keys):
            raise ValueError("a key ring needs at least one key, and every id once")
        if any(len(key) != KEY_BYTES or not KEK_ID.fullmatch(name) for name, key in keys):
            raise ValueError(f"a master key is a short id and exactly {KEY_BYTES} bytes")
        self._keys = tuple(keys)
        self._ciphers = {name: AESGCM(key) for name, key in keys}
        self._data_keys: dict[bytes, _Unwrapped] = {}  # by sealed blob

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.ids)})"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a KeyRing is never serialised")

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids, oldest first; the last one seals."""
        return tuple(name for name, _ in self._keys)

    def expose(self) -> tuple[tuple[str, bytes], ...]:
        """The keys themselves: only for handing the ring to a worker over its own pipe."""
        return self._keys

    def seal(self, plaintext: bytes, bound: bytes) -> bytes:
        """Seal under a fresh data key; opens only with the very same `bound`.

        Blob: format | length and id of the KEK | wrapped data key | nonce | ciphertext.
        """
        name = self._keys[-1][0]
        data_key, nonces = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(2 * _NONCE)
        head = _FORMAT + bytes([len(name)]) + name.encode()
        outer, inner = nonces[:_NONCE], nonces[_NONCE:]
        wrapped = self._ciphers[name].encrypt(outer, data_key, _KEY_LABEL + head + bound)
        sealed = AESGCM(data_key).encrypt(inner, plaintext, _SECRET_LABEL + bound)
        return b"".join((head, outer, wrapped, inner, sealed))

    def open(self, sealed: bytes, bound: bytes) -> Secret:
        """Open a sealed blob. Raises SealBroken for any edited byte or another `bound`.

        The data key of a blob that was opened before is kept, as the master keys are; the secret
        itself is opened anew each time, and its binding checked.
        """
        known = self._data_keys.get(sealed)
        try:
            cipher, nonce, secret = known if known is not None else self._unwrap(sealed, bound)
            return Secret(cipher.decrypt(nonce, secret, _SECRET_LABEL + bound))
        except (InvalidTag, ValueError):
            raise SealBroken("wrong master key, wrong row, or edited bytes") from None

    def _unwrap(self, sealed: bytes, bound: bytes) -> _Unwrapped:
        """The data key's cipher, and what it has sealed."""
        name, start = _head(sealed)
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise SealBroken(f"sealed with master key {name!r}, which is not in the key ring")
        wrapped, rest = sealed[start : start + _WRAPPED], sealed[start + _WRAPPED :]
        key_bound = _KEY_LABEL + sealed[:start] + bound
        data_key = AESGCM(cipher.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], key_bound))
        opened = data_key, rest[:_NONCE], rest[_NONCE:]
        if len(self._data_keys) >= _MOST_DATA_KEYS:
            self._data_keys.clear()
        self._data_keys[sealed] = opened
        return opened


def sealed_with(sealed: bytes) -> str:
    """The id of the master key a blob needs. Raises SealBroken when it is no blob of ours."""
    return _head(sealed)[0]


def _head(sealed: bytes) -> tuple[str, int]:
    if len(sealed) < 2 or sealed[:1] != _FORMAT:
        raise SealBroken("not a sealed value of this format")
    start = 2 + sealed[1]
    name = sealed[2:start].decode("ascii", "replace")
    if not KEK_ID.fullmatch(name) or len(sealed) < start + _WRAPPED + _NONCE + 16:
        raise SealBroken("a sealed value that was cut short or edited")
    return name, start


def binding(
    *, scope: str, config_id: str, provider: str, auth_type: str, origins: str, version: int
) -> bytes:
    """What a provider key is bound to, as associated data: each field with its length first.

    `origins` is the scheme://host:port the key may be sent to (docs/security.md).
    """
    return _bound("1", scope, config_id, provider, auth_type, origins, str(version))


@lru_cache(maxsize=4096)  # asked for at every request, of the configs in use
def _bound(*fields: str) -> bytes:
    parts = [text.encode() for text in fields]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def config_binding(config: ProviderConfig) -> bytes:
    """The same, from a row of the snapshot."""
    return binding(
        scope=config.scope,
        config_id=config.id,
        provider=config.provider,
        auth_type=config.auth_type,
        origins=config.origin,
        version=config.secret_version,
    )


PREFIXES = (  # longest first: how the vendors' own consoles abbreviate their keys
    *("sk-ant-", "sk-proj-", "sk-or-v1-", "sk-svcacct-", "sk-admin-", "tgp_v1_", "github_pat_"),
    *("nvapi-", "pplx-", "AKIA", "ASIA", "AIza", "gsk_", "xai-", "csk-", "ghp_", "hf_"),
    *("r8_", "fw_", "key-", "sk-"),
)
_MASK = re.compile(r"[A-Za-z0-9_-]{0,20}(?:\*{3,64}|\.\.\.\S{4})", re.ASCII)


def preview(secret: str) -> str:
    """What may be shown of a key: vendor prefix, `...`, last four; `***` under 20 characters."""
    if len(secret) < 20:
        return "***"
    prefix = next((known for known in PREFIXES if secret.startswith(known)), "")
    return f"{prefix}...{secret[-4:]}"


def looks_masked(text: str) -> bool:
    """True for a preview and no key: `prefix***` or more stars, `prefix...` and four characters."""
    return _MASK.fullmatch(text) is not None


REFERENCE_FOLDER = "/run/secrets/"  # the folder it may read
_LONGEST_REFERENCE = 500  # the column's
_REFERENCE = re.compile(
    rf"\$env:{REFERENCE_PREFIX}[A-Za-z0-9_]{{1,100}}"
    rf"|\$file:{REFERENCE_FOLDER}(?!\.)[A-Za-z0-9_.-]{{1,100}}(?:/(?!\.)[A-Za-z0-9_.-]{{1,100}}){{0,4}}",
    re.ASCII,
)


def is_reference(text: str) -> bool:
    """True for `$env:UPSTREAM_…` and `$file:/run/secrets/…`: where references may point."""
    return len(text) <= _LONGEST_REFERENCE and _REFERENCE.fullmatch(text) is not None
