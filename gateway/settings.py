"""Every setting, once: a field with default and help; environment, CLI and docs come from these.

Nothing is read here but the mapping handed in. Built at start by the CLI; frozen afterwards.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import isfinite
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from gateway import redis_url
from gateway.errors import StartRefused
from gateway.shapes import Secret

Network = IPv4Network | IPv6Network
PREFIX = "WARDGATE_"
REFERENCE_PREFIX = "UPSTREAM_"  # the environment variables a stored reference may name
MOST_WORKERS = 256
_LONGEST = 7 * 24 * 3600
_LONGEST_URL = 500
_SEGMENT = "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}"  # of a path: neither empty nor dots
_PATH = rf"{_SEGMENT}(?:/{_SEGMENT}){{0,9}}"
_POSTGRES = "postgresql+asyncpg"
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def _text(raw: str) -> str:
    return raw


def _flag(raw: str) -> bool:
    if raw.lower() in ("1", "true", "yes", "on"):
        return True
    if raw.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("use true or false")


def _hosts(raw: str) -> tuple[str, ...]:
    """Host names, parted by commas, without ports."""
    names = tuple(part.strip().lower() for part in raw.split(",") if part.strip())
    if any(not re.fullmatch(r"[a-z0-9.-]{1,253}|\[[0-9a-f:]+\]", name) for name in names):
        raise ValueError("use host names parted by commas, without ports: admin.example.com")
    return names


def _networks(raw: str) -> tuple[Network, ...]:
    return tuple(ip_network(part.strip()) for part in raw.split(",") if part.strip())


def _base_urls(raw: str) -> dict[str, str]:
    pairs = [part.strip().partition("=") for part in raw.split(",") if part.strip()]
    if any(not (name and url) for name, _, url in pairs):
        raise ValueError("use provider=url,provider=url")
    return {name.strip(): _base_url(name.strip(), url.strip()) for name, _, url in pairs}


def _base_url(name: str, url: str) -> str:
    # The URL is not repeated: it may hold a password.
    try:
        parts = urlsplit(url)
        bare = not (parts.query or parts.fragment or "@" in parts.netloc or " " in url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        bare = sound = False
    if not (bare and sound):
        raise ValueError(f"{name} needs https://host/path, without user, query and fragment")
    return url.rstrip("/")


def source_url(raw: str) -> str:
    """Where a catalog is fetched from, in one spelling. Raises ValueError."""
    url = _base_url("the catalog", raw)
    if not (url.isascii() and url.isprintable() and len(url) <= _LONGEST_URL):
        raise ValueError(f"the catalog's URL must be ASCII, at most {_LONGEST_URL} characters")
    return url


def _url(raw: str) -> str:
    """As it is: an issuer's URL is compared with every character it has."""
    _base_url("it", raw)
    return raw


def database_url(raw: str) -> str:
    """Where a store is. Raises ValueError, which never repeats the URL: it may hold a password."""
    try:
        parts = urlsplit(raw)
        sound = parts.port != 0 and (parts.scheme != _POSTGRES or len(parts.path) > 1)
        modes = parse_qs(parts.query).get("sslmode", [])
    except ValueError:
        sound, modes = False, []
    if not (sound and raw.startswith((f"{_POSTGRES}://", "sqlite+aiosqlite:///"))):
        raise ValueError(f"use {_POSTGRES}://user@host/database or sqlite+aiosqlite:///path")
    if raw.endswith((":///", ":memory:")):
        raise ValueError("use a file: sqlite+aiosqlite:///path")
    if not set(modes) <= set(_SSL_MODES):
        raise ValueError(f"use for sslmode one of {', '.join(_SSL_MODES)}")
    return raw


def _redis(raw: str) -> str:
    redis_url.parse(raw)
    return raw


def _without_redis(raw: str) -> dict[str, str]:
    """What becomes of which limits while nobody counts for all; a bare word means all of them."""
    limits, what = ("client", "gateway", "config"), ("local", "deny", "allow")
    if raw in what:
        return dict.fromkeys(limits, raw)
    pairs = [part.strip().partition("=") for part in raw.split(",")]
    if any(name not in limits or word not in what for name, _, word in pairs):
        raise ValueError("use local, deny or allow, or client=deny,gateway=allow,config=local")
    return {name: word for name, _, word in pairs}


def _level(raw: str) -> str:
    if raw.lower() not in ("debug", "info", "warning", "error"):
        raise ValueError("use debug, info, warning or error")
    return raw.lower()


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(raw: str) -> int:
        if not (raw.isascii() and raw.isdigit() and least <= int(raw[:20]) <= most):
            raise ValueError(f"use a whole number from {least} to {most}")
        return int(raw)

    return parse


def _time(raw: str) -> float:
    """Seconds; 0 included."""
    try:
        seconds = float(raw)
    except ValueError:
        seconds = -1.0
    if not (isfinite(seconds) and 0 <= seconds <= _LONGEST):
        raise ValueError(f"use seconds, up to {_LONGEST}")
    return seconds


def _wait(raw: str) -> float:
    """Seconds; not 0: everything would time out."""
    seconds = _time(raw)
    if seconds == 0:
        raise ValueError("use more than 0 seconds")
    return seconds


def _pace(raw: str) -> float:
    """Seconds, 0 or at least 10: nobody is to be hammered."""
    seconds = _time(raw)
    if 0 < seconds < 10:
        raise ValueError("use 0, or at least 10 seconds")
    return seconds


def _secret(raw: str) -> Secret:
    return Secret(raw.encode())


def _path(raw: str) -> Path:
    return Path(raw)


def _one_of(*words: str) -> Callable[[str], str]:
    return _like("|".join(words), " or ".join(words))


def _like(pattern: str, meant: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if not re.fullmatch(pattern, raw, re.ASCII):
            raise ValueError(f"use {meant}")
        return raw

    return parse


def _command(raw: str) -> str:
    """Words parted as a shell would part them; no shell ever reads them."""
    words = shlex.split(raw)
    if "\0" in raw or not (words and words[0].startswith("/")):
        raise ValueError("use a program's full path and its arguments: /usr/bin/pass show kek")
    return raw


def _service(raw: str) -> str:
    return _base_url("it", raw)


_PORT = _whole(0, 65535)


_NEVER_SHOWN = (database_url, _redis, _command)


def row(default: Any, help: str, parse: Callable[[str], Any] = _text) -> Any:
    """One setting: its default, what it means, how its text is read."""
    metadata = {"help": help, "parse": parse}
    if isinstance(default, dict):
        return field(default_factory=default.copy, metadata=metadata)
    # A URL may hold a password, a command what it is called with: no traceback is to show them.
    return field(default=default, repr=parse not in _NEVER_SHOWN, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. Seconds for times, bytes for sizes."""

    data_dir: Path = row(Path("data"), "Folder of database, master key and snapshots.", _path)
    env: str = row(
        "development",
        "`production` refuses to start with a generated or example master key.",
        _one_of("development", "production"),
    )
    host: str = row("127.0.0.1", "Address the gateway listens on.")
    port: int = row(8080, "Port of the gateway.", _PORT)
    admin_host: str = row("127.0.0.1", "Address the admin app listens on.")
    admin_port: int = row(8081, "Port of the admin app (management API, metrics).", _PORT)
    admin_hosts: tuple[str, ...] = row(
        (), "More names the admin app is reached by, for MCP's check of Host and Origin.", _hosts
    )
    metrics_port: int = row(0, "Port for /metrics of a gateway that runs alone; 0 = none.", _PORT)
    workers: int = row(1, "Gateway worker processes.", _whole(1, MOST_WORKERS))
    database_url: str = row(
        "", "SQLAlchemy URL of the store; empty = SQLite in the data folder.", database_url
    )
    redis_url: str = row(
        "", "Redis for limits shared by all workers, and to announce changes; empty = none.", _redis
    )
    redis_away: Mapping[str, str] = row(
        {},
        "Limits while Redis is away: local (each worker's share), deny or allow;"
        " or client=…,gateway=…,config=…; empty = local.",
        _without_redis,
    )
    redis_timeout: float = row(0.2, "What counts a limit in Redis; later it is away.", _wait)
    kek_file: str = row("", "File with the master key (32 bytes, base64); empty = data/kek.")
    kek_file_group_readable: bool = row(
        False, "Accept a master key file its group may read (mounted secrets).", _flag
    )
    keks: Secret | None = row(
        None,
        "Master keys as id:base64,…; the first seals. Removed from the environment.",
        _secret,
    )
    kek_command: str = row(
        "",
        "Program (full path) and arguments; prints master keys as a key file has them.",
        _command,
    )
    kek_wrapped_file: str = row(
        "", "File with master keys that Vault or AWS KMS has wrapped; empty = data/kek.wrapped."
    )
    kek_timeout: float = row(10.0, "Getting the master keys from a command or a service.", _wait)
    kek_ca_file: str = row(
        "", "Authorities (PEM) of Vault's or KMS's certificate; empty = the system's."
    )
    kek_vault_url: str = row("", "HashiCorp Vault that unwraps the master keys.", _service)
    kek_vault_key: str = row(
        "", "Name of the transit key there.", _like(_SEGMENT, "a key's name: wardgate")
    )
    kek_vault_mount: str = row(
        "transit", "Where the transit engine is mounted.", _like(_PATH, "a path: transit")
    )
    kek_vault_namespace: str = row(
        "", "Namespace of the transit engine.", _like(_PATH + "/?", "a path: team/prod")
    )
    kek_vault_auth: str = row(
        "token",
        "How Wardgate logs in there: token, approle or kubernetes.",
        _one_of("token", "approle", "kubernetes"),
    )
    kek_vault_auth_mount: str = row(
        "", "Where that method is mounted; empty = under its own name.", _like(_PATH, "a path")
    )
    kek_vault_role: str = row("", "The AppRole's role id, or the Kubernetes role's name.")
    kek_vault_credential_file: str = row(
        "", "File with the token, the secret id, or the service account's token."
    )
    kek_vault_token: Secret | None = row(
        None, "The token itself. Removed from the environment.", _secret
    )
    kek_aws_key: str = row(
        "",
        "AWS KMS key that unwraps the master keys: ARN, id or alias/….",
        _like(r"[A-Za-z0-9:/_-]{1,2048}", "a key's ARN, its id, or alias/name"),
    )
    kek_aws_region: str = row(
        "", "Its region; empty = the ARN's.", _like("[a-z0-9-]{1,40}", "a region: eu-west-1")
    )
    kek_aws_endpoint: str = row("", "Where KMS is; empty = the region's own address.", _service)
    kek_aws_access_key_id: Secret | None = row(
        None, "Credentials for KMS; empty = found as AWS's own tools do. Removed likewise.", _secret
    )
    kek_aws_secret_access_key: Secret | None = row(None, "The secret that belongs to it.", _secret)
    kek_aws_session_token: Secret | None = row(None, "The session, if they are temporary.", _secret)
    bootstrap_admin_token: Secret | None = row(
        None, "Becomes a superadmin token at first start; otherwise one is generated.", _secret
    )
    allowed_upstream_cidrs: tuple[Network, ...] = row(
        (), "Private ranges (and plain http into them) upstreams may live in.", _networks
    )
    provider_base_urls: Mapping[str, str] = row(
        {}, "provider=url,… replaces a provider's base URL for everybody.", _base_urls
    )
    max_body_bytes: int = row(64 * 1024 * 1024, "Largest JSON request body.", _whole(1, 2**40))
    header_timeout: float = row(10.0, "A request's head must have arrived after this long.", _wait)
    body_timeout: float = row(30.0, "Longest silence inside a request body.", _wait)
    keep_alive_timeout: float = row(75.0, "An idle client connection is closed after this.", _wait)
    connect_timeout: float = row(10.0, "Connecting to a provider, TLS included.", _wait)
    first_byte_timeout: float = row(600.0, "From the request sent to the provider's answer.", _wait)
    idle_timeout: float = row(300.0, "Longest silence inside a provider's answer.", _wait)
    probe_timeout: float = row(10.0, "Testing a provider's key, from first to last byte.", _wait)
    heartbeat: float = row(15.0, "Silence before a stream gets a heartbeat; 0 = none.", _time)
    drain_timeout: float = row(30.0, "On SIGTERM, how long running requests may go on.", _time)
    drain_delay: float = row(
        0.0, "On SIGTERM, before that, how long all is served while /readyz says 503.", _time
    )
    count_usage: bool = row(
        False, "Ask OpenAI-style streams for usage, and keep that chunk from clients.", _flag
    )
    probe_interval: float = row(
        0.0, "Active configs unheard of for so long are probed (at least 10); 0 = never.", _pace
    )
    catalog_url: str = row(
        "https://models.dev/api.json", "Where the model catalog is synced from.", source_url
    )
    catalog_sync_interval: float = row(
        0.0, "The admin app syncs the catalog so often (at least 10); 0 = never.", _pace
    )
    metrics_open: bool = row(False, "Serve /metrics without a token to any address.", _flag)
    log_level: str = row("info", "debug, info, warning or error.", _level)
    oidc_issuer: str = row(
        "",
        "Issuer whose JWTs are taken as admin tokens, as its tokens spell it; empty = none.",
        _url,
    )
    oidc_audience: str = row("", "The audience (`aud`) those tokens must be for.")
    oidc_jwks_url: str = row("", "Where the issuer's keys are; empty = discovered.", _url)
    oidc_roles: str = row("", "What claims of those tokens hold: claim:value=permission@scope,…; …")

    @classmethod
    def from_env(cls, env: Mapping[str, str], **given: Any) -> Settings:
        """Read `WARDGATE_*` from `env`; `given` (command-line options) wins.

        Raises StartRefused for a value that cannot be read or a WARDGATE_ name that is no setting.
        """
        values: dict[str, Any] = {}
        for item in rows():
            raw = env.get(PREFIX + item.name.upper())
            if raw is not None and raw != "":
                values[item.name] = _read(item, raw)
        unknown = [n for n in env if n.startswith(PREFIX) and n not in env_names()]
        if unknown:
            raise StartRefused(f"unknown setting {sorted(unknown)[0]}; see docs/configuration.md")
        values.update({k: v for k, v in given.items() if v is not None})
        return cls(**values)

    @property
    def loopback(self) -> bool:
        """True when neither listener can be reached from another machine."""
        return all(h in ("127.0.0.1", "::1", "localhost") for h in (self.host, self.admin_host))

    @property
    def store_url(self) -> str:
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir / 'wardgate.db'}"


def rows() -> Iterator[Field[Any]]:
    """Every setting, in the order docs show them."""
    return iter(fields(Settings))


def env_names() -> set[str]:
    return {PREFIX + item.name.upper() for item in rows()}


def secret_names() -> set[str]:
    """The variables of settings that are secret themselves."""
    return {PREFIX + item.name.upper() for item in rows() if item.metadata["parse"] is _secret}


def _read(item: Field[Any], raw: str) -> Any:
    parse = cast(Callable[[str], Any], item.metadata["parse"])
    try:
        return parse(raw)
    except ValueError as error:
        name = PREFIX + item.name.upper()
        raise StartRefused(f"{name} cannot be read: {error}") from None
