"""Reading what a client sent: JSON bodies and query strings, checked by pydantic models.

Nothing here knows a surface or the desk. Every way a body can be wrong ends in a BadRequest
with one problem per field; no message repeats a value, which may be a key.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from gateway.errors import Malformed, SlowClient, TooLarge

MAX_BODY = 1024 * 1024
# Larger than any count or time a person means, and inside every database's 64-bit integers.
MOST = 1_000_000_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong and where: `path` begins with `body`, `query` or `path`."""

    path: tuple[str, ...]
    message: str


class BadRequest(Malformed):
    """400 with every problem found; `problems` is never empty."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(_sentence(problems[0]), param=".".join(problems[0].path))
        self.problems = problems


class Strict(BaseModel):
    """A body: JSON types as they are, unknown fields refused."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    def __repr_args__(self) -> list[tuple[str | None, object]]:
        """Which fields were sent, never what stood in them: one may be a key."""
        return [(None, name) for name in sorted(self.model_fields_set)]


class Shown(BaseModel):
    """An answer: what a handler shows, under the names of its surface (aliases)."""

    model_config = ConfigDict(extra="forbid", validate_by_name=True, serialize_by_alias=True)


class Query(BaseModel):
    """A query string: text is converted, unknown parameters are left alone."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


def _whole(value: Any) -> Any:
    # Generated clients type every JSON number as a float and send 10.0 for 10.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, str) and _CONTROL.search(value):
        raise ValueError("no control characters")
    return value


Count = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=MOST)]
Positive = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=MOST)]
Text = Annotated[str, BeforeValidator(_plain), Field(min_length=1, max_length=200)]
Words = Annotated[str, BeforeValidator(_plain), Field(max_length=200)]
Url = Annotated[str, BeforeValidator(_plain), Field(min_length=1, max_length=500)]
# 64 KiB: service-account files are keys too.
Key = Annotated[str, Field(min_length=1, max_length=65536)]


async def read(request: Request, model: type[T], *, patience: float) -> T:
    """The request's JSON body as `model`.

    `patience` is how many seconds the whole body may take. Raises BadRequest, TooLarge (over
    1 MiB), SlowClient.
    """
    sent = await raw(request, patience=patience)
    try:
        return model.model_validate_json(sent)
    except ValidationError as error:
        raise BadRequest(*_problems(error, "body")) from None


async def raw(request: Request, *, patience: float) -> bytes:
    """The request's body; who asks again gets it again. Raises TooLarge, SlowClient."""
    if not hasattr(request.state, "body"):
        try:
            async with asyncio.timeout(patience):
                request.state.body = await _collect(request)
        except TimeoutError:
            raise SlowClient("the body did not arrive in time") from None
    return bytes(request.state.body)


def query(request: Request, model: type[T]) -> T:
    """The query string as `model`; of a repeated parameter the last counts. Raises BadRequest."""
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise BadRequest(*_problems(error, "query")) from None


async def _collect(request: Request) -> bytes:
    chunks = bytearray()
    async for chunk in request.stream():
        chunks += chunk
        if len(chunks) > MAX_BODY:
            raise TooLarge(f"the body is larger than {MAX_BODY} bytes")
    return bytes(chunks)


def _problems(error: ValidationError, root: str) -> Iterable[Problem]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [Problem((root, *_names(item)), _message(item)) for item in found[:20]]


def _names(item: ErrorDetails) -> list[str]:
    # An unknown field is named by whoever sent it.
    return [str(part)[:64] for part in item["loc"]]


def _message(item: ErrorDetails) -> str:
    match item["type"]:
        case "missing":
            return "Required"
        case "extra_forbidden":
            return "Unknown field"
        case "json_invalid":
            return "The body is not JSON"
        case _:
            return item["msg"].removeprefix("Value error, ")


def _sentence(problem: Problem) -> str:
    where = ".".join(problem.path[1:])
    return f"{where}: {problem.message}" if where else problem.message
