"""An OTLP/HTTP collector on a real socket: keeps every byte it was sent, and reads the spans in it.

It answers what it is told to: a status, a redirect, or nothing at all. Called by tests only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from gateway.logs import request_logger
from gateway.process.otel import OtelTraces
from tests.world import settings

PATIENCE = 10.0
SERVER, CLIENT = 2, 3
ERROR = 2


@dataclass(frozen=True)
class Seen:
    """One span as it came; ids in hex, times in nanoseconds."""

    name: str
    kind: int
    trace: str
    id: str
    parent: str
    started: int
    ended: int
    failed: bool
    said: Mapping[str, Any]
    resource: Mapping[str, Any]


@dataclass
class Collector:
    """`status` is its answer; 0: it never answers. `wire` is all it was sent."""

    port: int = 0
    status: int = 200
    wire: bytearray = field(default_factory=bytearray)
    bodies: list[bytes] = field(default_factory=list)
    spans: list[Seen] = field(default_factory=list)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def wait(self, count: int) -> list[Seen]:
        """The spans, once there are `count`; servers' spans first, then by their start."""
        await self.wait_for(lambda: len(self.spans) >= count)
        assert len(self.spans) == count
        return sorted(self.spans, key=lambda one: (one.kind, one.started))

    async def wait_for(self, condition: Any) -> None:
        async with asyncio.timeout(PATIENCE), self._came:
            await self._came.wait_for(condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                self.wire += head + body
                await self._keep(body)
                if not self.status:
                    await reader.read()  # until the other side has had enough
                    break
                writer.write(
                    b"HTTP/1.1 %d X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
                    % self.status
                )
                await writer.drain()
        writer.close()

    async def _keep(self, body: bytes) -> None:
        async with self._came:
            self.bodies.append(body)
            if self.status == 200:
                self.spans += _spans(body)
            self._came.notify_all()


def _length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return next(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length"))


def _spans(body: bytes) -> Iterator[Seen]:
    for group in ExportTraceServiceRequest.FromString(body).resource_spans:
        resource = _table(group.resource.attributes)
        for scope in group.scope_spans:
            assert scope.scope.name == "wardgate"
            for span in scope.spans:
                assert not any((span.events, span.links, span.trace_state))
                yield Seen(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == ERROR,
                    _table(span.attributes),
                    resource,
                )


def _table(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair) for pair in pairs}


def _value(pair: KeyValue) -> Any:
    kind = pair.value.WhichOneof("value")
    assert kind in ("string_value", "int_value", "double_value", "bool_value")
    return getattr(pair.value, str(kind))


@contextlib.asynccontextmanager
async def collecting(status: int = 200) -> AsyncIterator[Collector]:
    made = Collector(status=status)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made
        server.close()


@contextlib.asynccontextmanager
async def exporting(
    endpoint: str, *, most: int = 2048, host: str = "127.0.0.1", **variables: str
) -> AsyncIterator[OtelTraces]:
    """A worker's traces as OpenTelemetry's variables say; they leave at once."""
    os.environ |= {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": str(min(most, 512)),
        **variables,
    }
    made = OtelTraces(settings(host=host), most, request_logger())
    yield made
    await made.aclose()
