"""Settings: what is refused at once, with the variable's name and what to write instead."""

from __future__ import annotations

import re

import pytest

from gateway.errors import StartRefused
from gateway.settings import Settings, secret_names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("PORT", text) for text in ("-1", "65536", "99999", "8080.0", "x", "1_000", "٣")),
        *(("WORKERS", text) for text in ("0", "-3", "257")),
        *(("MAX_BODY_BYTES", text) for text in ("0", "-1", "9" * 30, "9" * 5000)),
        *(("IDLE_TIMEOUT", text) for text in ("0", "-1", "nan", "inf", "1e300", "5s")),
        *(("HEARTBEAT", text) for text in ("-0.1", "nan", "soon")),
        *(("LOG_LEVEL", text) for text in ("loud", "critical")),
        *(("ENV", text) for text in ("prod", "Production")),
        *(("REDIS_URL", text) for text in ("garbage", "redis://h:99999/0", "http://h")),
        *(("REDIS_AWAY", text) for text in ("maybe", "Deny", "config", "config=", "model=deny")),
        ("DATABASE_URL", "garbage"),
        ("DATABASE_URL", "postgresql://me:canary@h/db"),
        ("DATABASE_URL", "mysql+aiomysql://me:canary@h/db"),
        ("DATABASE_URL", "postgresql+asyncpg://me:canary@h:99999/db"),
        ("DATABASE_URL", "sqlite:///canary.db"),
        ("DATABASE_URL", "postgresql+asyncpg://me:canary@h"),
        ("DATABASE_URL", "postgresql+asyncpg://me:canary@h/"),
        ("DATABASE_URL", "postgresql+asyncpg://me:canary@h/db?sslmode=on"),
        ("DATABASE_URL", "sqlite+aiosqlite:///"),
        ("DATABASE_URL", "sqlite+aiosqlite:///:memory:"),
        ("PROVIDER_BASE_URLS", "openai"),
        ("PROVIDER_BASE_URLS", "openai=canary"),
        ("PROVIDER_BASE_URLS", "openai=ftp://canary/v1"),
        ("PROVIDER_BASE_URLS", "openai=https://me:canary@h/v1"),
        ("PROVIDER_BASE_URLS", "openai=https://h/v1?key=canary"),
        ("PROVIDER_BASE_URLS", "openai=https://h:0/v1"),
        ("PROVIDER_BASE_URLS", "openai=http://[::1/v1"),
        ("METRICS_OPEN", "perhaps"),
        *(("KEK_COMMAND", text) for text in (" ", "pass show canary", "./x", "/x\0canary")),
        *(("KEK_TIMEOUT", text) for text in ("0", "-1", "nan", "soon")),
        *(("KEK_VAULT_KEY", text) for text in ("a/b", "..", "canary key", "a?b")),
        *(("KEK_VAULT_MOUNT", text) for text in ("/transit", "a//b", "a/../b", "a/.", "a#b")),
        *(("KEK_VAULT_NAMESPACE", text) for text in ("a b", "../x", "a\r\nx: canary")),
        *(("KEK_VAULT_AUTH", text) for text in ("ldap", "Token", "token|approle")),
        *(("KEK_VAULT_URL", text) for text in ("vault:8200", "https://me:canary@h", "ftp://h")),
        *(("KEK_AWS_REGION", text) for text in ("eu west", "x.evil", "EU")),
        *(("KEK_AWS_KEY", text) for text in ("a b", 'x"canary')),
        *(("KEK_AWS_ENDPOINT", text) for text in ("kms.example", "https://h/?canary")),
    ],
)
def test_value_that_cannot_be_meant_is_refused(name: str, text: str) -> None:
    with pytest.raises(StartRefused, match=f"^WARDGATE_{name} cannot be read: ") as caught:
        Settings.from_env({f"WARDGATE_{name}": text})
    assert "canary" not in str(caught.value)
    assert re.search("use |needs ", str(caught.value))


def test_values_at_the_edges_are_taken() -> None:
    env = {"PORT": "65535", "WORKERS": "256", "HEARTBEAT": "0", "DRAIN_TIMEOUT": "0"}
    env |= {"IDLE_TIMEOUT": "0.05", "LOG_LEVEL": "INFO", "METRICS_PORT": "0"}
    env["PROVIDER_BASE_URLS"] = "openai=http://[::1]:9/v1/,custom:a=https://h"
    env["DATABASE_URL"] = "postgresql+asyncpg:///db?host=/run/postgresql&sslmode=verify-full"
    env["REDIS_AWAY"] = "config=deny, client=allow"
    settings = Settings.from_env({f"WARDGATE_{name}": text for name, text in env.items()})
    assert settings.redis_away == {"config": "deny", "client": "allow"}
    every = Settings.from_env({"WARDGATE_REDIS_AWAY": "deny"}).redis_away
    assert every == {"client": "deny", "gateway": "deny", "config": "deny"}
    assert settings.store_url == env["DATABASE_URL"]
    assert (settings.port, settings.workers, settings.heartbeat) == (65535, 256, 0.0)
    assert (settings.idle_timeout, settings.log_level) == (0.05, "info")
    assert Settings.from_env({"WARDGATE_KEK_COMMAND": "/x 'a b'"}).kek_command == "/x 'a b'"
    assert settings.provider_base_urls == {"openai": "http://[::1]:9/v1", "custom:a": "https://h"}


def test_no_secret_is_in_what_a_traceback_would_show() -> None:
    canary = "canary-of-the-settings"
    env = {
        "WARDGATE_DATABASE_URL": f"postgresql+asyncpg://wardgate:{canary}@host/wardgate",
        "WARDGATE_REDIS_URL": f"redis+sentinel://:{canary}@host/limits?sentinel_password={canary}",
        "WARDGATE_KEK_COMMAND": f"/usr/bin/unseal {canary}",
        **dict.fromkeys(secret_names(), canary),
    }
    settings = Settings.from_env(env)
    assert canary in settings.redis_url
    assert canary not in repr(settings)
    assert "data_dir=" in repr(settings)
