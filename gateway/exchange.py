"""What is known of one request so far: filled in by the steps, read once by record.py.

One object a request; nothing here decides anything. Times are `perf_counter`'s: uvloop's clock
ticks in whole milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from gateway.paths import Match, caller
from gateway.shapes import Candidate, Client, DialectName, Headers, ProviderConfig, Unread, Usage

Outcome = Literal["ok", "refused", "upstream_error", "incomplete", "client_gone", "failed"]


@dataclass(slots=True)
class Attempt:
    """One try at one target of a route that failed, so that the next one was tried.

    `status` and `answered` are None where the upstream did not answer. `code` is as the exchange
    has it: `http_503`, or our own. What was never sent has the time of its failure in `sent`, and
    so `ended` no later. `model` is the one its target names.
    """

    config: ProviderConfig
    sent: float
    status: int | None = None
    code: str | None = None
    answered: float | None = None
    model: str | None = None
    ended: float = 0.0


@dataclass(slots=True)
class Exchange:
    """One request on its way through the corridor."""

    id: str
    method: str
    raw_path: bytes
    headers: Headers
    started: float
    match: Match | None = None
    client: Client | None = None
    candidate: Candidate | None = None  # of the attempt that is made or was made last
    abandoned: Sequence[Attempt] = ()  # what was tried before it, in that order
    model: str | None = None  # as the client named it
    stream: bool = False
    hide_usage: bool = False  # we asked for the usage chunk, the client did not
    upstream_id: bytes | None = None
    sent: float | None = None  # the upstream request began
    answered: float | None = None  # the upstream's head was there
    first_byte: float | None = None
    status: int = 0
    answering: bool = False  # a response has begun; nothing else may be sent
    outcome: Outcome = "failed"
    code: str | None = None  # our error code, or the kind of upstream failure
    policy: str | None = None  # which of our limits refused it
    usage: Usage | Unread | None = None
    partial: bool = False  # the answer ended early, so usage is what was seen until then

    @property
    def attempts(self) -> int:
        """How many targets were tried, the one that is tried now included."""
        return len(self.abandoned) + 1

    @property
    def first_sent(self) -> float | None:
        """When the request first left for an upstream."""
        return self.abandoned[0].sent if self.abandoned else self.sent

    @property
    def caller(self) -> DialectName:
        """Whose words the client understands; any path has an answer."""
        return caller(self.raw_path, self.headers)

    @property
    def template(self) -> str:
        return self.match.endpoint.template if self.match else "unknown"


@dataclass(slots=True)
class Traced(Exchange):
    """One that becomes a trace. `parent`: its traceparent as it came; two of them are none."""

    parent: bytes = field(init=False)

    def __post_init__(self) -> None:
        self.parent = b",".join([value for name, value in self.headers if name == b"traceparent"])
