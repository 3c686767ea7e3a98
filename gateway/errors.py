"""The one error tree: facts only (status, code, retry_after); each dialect renders them itself.

    WardgateError
    ├── StartRefused            the process must not start; the message says what to do
    ├── SealBroken              a sealed value does not open: wrong key, wrong row, edited bytes
    ├── CatalogBroken           what should be a model catalog is none
    └── GatewayError            a request ends here, with a status and a code
        ├── Malformed      400  ├── Unauthorized   401  ├── Forbidden     403
        ├── NotFound       404  ├── WrongMethod    405  ├── SlowClient    408
        ├── TooLarge       413  ├── RateLimited    429  ├── HeadTooLarge  431
        ├── LimitsAway     503  ├── ClientGone     499  (logged, never sent)
        └── UpstreamError  502  ── TlsFailed 502, UpstreamTimeout 504, Unavailable 503

Nothing here knows HTTP libraries or dialects. Raised everywhere, rendered only in app.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


class WardgateError(Exception):
    """Root of the tree; never raised itself."""


class StartRefused(WardgateError):
    """The process must not start. The message is one line that says what to do."""


class SealBroken(WardgateError):
    """A sealed value does not open. The message names the row, never the value."""


class CatalogBroken(WardgateError):
    """What should be a model catalog is none: damaged, of another shape, too large."""


@dataclass(frozen=True)
class LimitFacts:
    """What a rate-limit answer tells the caller. Times are seconds."""

    policy: str
    limit: int
    remaining: int
    reset_after: float
    window: int


class GatewayError(WardgateError):
    """Ends a request: an HTTP `status`, a stable `code`, a `message` for people."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "gateway_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        limit: LimitFacts | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after = retry_after
        self.limit = limit


class Malformed(GatewayError):
    status = 400
    default_code = "malformed_request"


class Unauthorized(GatewayError):
    status = 401
    default_code = "invalid_api_key"


class Forbidden(GatewayError):
    status = 403
    default_code = "forbidden"


class NotFound(GatewayError):
    status = 404
    default_code = "not_found"


class WrongMethod(GatewayError):
    status = 405
    default_code = "method_not_allowed"


class SlowClient(GatewayError):
    status = 408
    default_code = "request_timeout"


class TooLarge(GatewayError):
    status = 413
    default_code = "body_too_large"


class RateLimited(GatewayError):
    status = 429
    default_code = "rate_limit_exceeded"


class LimitsAway(GatewayError):
    """Nobody can count for all workers now, and this limit is not to be passed uncounted."""

    status = 503
    default_code = "unavailable"


class HeadTooLarge(GatewayError):
    status = 431
    default_code = "headers_too_large"


class ClientGone(GatewayError):
    """The client left; nobody reads an answer. Only ever logged and counted."""

    status = 499
    default_code = "client_closed_request"


class UpstreamError(GatewayError):
    """`sent`: something of the request may have reached the provider, which may act on it."""

    status = 502
    default_code = "upstream_failed"
    sent = True


class TlsFailed(UpstreamError):
    """The provider was there, but no TLS connection to be trusted could be made."""


class UpstreamTimeout(UpstreamError):
    status = 504
    default_code = "upstream_timeout"


class Unavailable(UpstreamError):
    status = 503
    default_code = "unavailable"


# Every code a client may see: docs/errors.md documents each, and a test compares the two.
CODES: dict[str, str] = {
    "malformed_request": "The request line, a header or the path is not acceptable.",
    "invalid_json": "The body is not JSON, or not a JSON object.",
    "model_required": "The endpoint needs a model and neither the body nor the key names one.",
    "conflicting_credentials": "Two different Wardgate keys in one request.",
    "dialect_not_supported": "The provider does not speak this endpoint's protocol.",
    "provider_not_supported": "The provider is in the catalog, but Wardgate cannot reach it yet.",
    "missing_api_key": "No Wardgate key in the request.",
    "invalid_api_key": "The Wardgate key is unknown, revoked or mistyped.",
    "expired_api_key": "The Wardgate key has expired.",
    "forbidden": "The key may not do this.",
    "config_inactive": "The nearest scope has configs of that provider, but none is usable.",
    "agent_disabled": "The agent that owns the key is disabled.",
    "model_not_allowed": "The key's list of allowed models does not contain this one.",
    "not_found": "No such path.",
    "model_not_found": "No provider config of this key's scopes serves the model.",
    "model_not_enabled": "The model is switched off in the key's scope or in one above it.",
    "method_not_allowed": "The path exists, the method does not.",
    "request_timeout": "The request's head or body did not arrive in time.",
    "body_too_large": "The body is larger than WARDGATE_MAX_BODY_BYTES.",
    "rate_limit_exceeded": "A limit of the key, the gateway or the provider config is used up.",
    "headers_too_large": "More than 64 headers or 32 KiB of them.",
    "upstream_failed": "The provider could not be reached, or broke off before answering.",
    "upstream_redirect": "The provider answered with a redirect; redirects are never followed.",
    "upstream_denied": "The provider's address is not one Wardgate may connect to.",
    "upstream_incomplete": "The provider's stream ended before it was complete.",
    "upstream_timeout": "The provider did not answer in time.",
    "secret_unavailable": "The stored key of the provider config cannot be opened or resolved.",
    "unavailable": "Wardgate has no routing table yet, or a dependency is away.",
    "internal_error": "A defect of Wardgate; its log has the request id.",
    "client_closed_request": "The client closed the connection (logged only).",
}
