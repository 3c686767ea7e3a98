"""Whether traces are exported: what OpenTelemetry's own variables say of it, read at start.

Decides and refuses; imports nothing of OpenTelemetry. What else those variables say is read by its
SDK, in the workers. Called by the parent.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import StartRefused

PREFIX: Final = "OTEL_"
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_NEEDED: Final = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http", "requests")
# Spans: how many may wait, how many leave together; and milliseconds between two exports.
_QUEUE: Final = ("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
_BATCH: Final = ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
_DELAY: Final = ("OTEL_BSP_SCHEDULE_DELAY", 5000)


def spans_that_wait(env: Mapping[str, str]) -> int:
    """How many spans a worker keeps for the collector at the most; 0: no traces are wanted.

    Raises StartRefused where they are wanted and cannot be had.
    """
    if not _wanted(env):
        return 0
    name, endpoint = _first(env, _ENDPOINTS)
    if not _is_http(endpoint):
        # Not repeated: it may hold a password.
        raise StartRefused(f"{name} cannot be read: use http://host:port or https://host:port")
    name, protocol = _first(env, _PROTOCOLS)
    if protocol not in ("", "http/protobuf"):
        raise StartRefused(f"{name} must be http/protobuf: traces leave in no other protocol")
    queue, batch = _number(env, *_QUEUE), _number(env, *_BATCH)
    _number(env, *_DELAY)
    if batch > queue:
        raise StartRefused(f"{_BATCH[0]} must not be more than {_QUEUE[0]}")
    if not _installed():
        raise StartRefused(
            "an OTLP endpoint for traces is set, but OpenTelemetry is not installed: "
            "pip install 'wardgate[otel]', or unset the endpoint"
        )
    return queue


def variables(env: Mapping[str, str]) -> dict[str, str]:
    """What a worker's SDK reads, credentials for the collector included."""
    return {name: value for name, value in env.items() if name.startswith(PREFIX)}


def _wanted(env: Mapping[str, str]) -> bool:
    off = env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    exporter = env.get("OTEL_TRACES_EXPORTER", "").strip().lower() or "otlp"
    if off or exporter == "none" or not any(map(env.get, _ENDPOINTS)):
        return False
    if exporter != "otlp":
        raise StartRefused("OTEL_TRACES_EXPORTER must be otlp or none")
    return True


def _first(env: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str]:
    return next(((name, env[name].strip()) for name in names if env.get(name)), (names[0], ""))


def _is_http(endpoint: str) -> bool:
    try:
        parts = urlsplit(endpoint)
        return bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        return False


def _number(env: Mapping[str, str], name: str, usual: int) -> int:
    raw = env.get(name, str(usual))
    if not (raw.isascii() and raw.isdigit() and int(raw[:9]) > 0 and len(raw) <= 9):
        raise StartRefused(f"{name} cannot be read: use a whole number from 1")
    return int(raw)


def _installed() -> bool:
    try:
        return all(find_spec(name) is not None for name in _NEEDED)
    except ModuleNotFoundError:  # not even what it would stand in
        return False
