"""The dialects by name. Nothing is decided here.

Used by whoever talks to a provider or answers a client; hands out the types they need too.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.dialects import anthropic, azure, bedrock, gemini, openai
from gateway.dialects.dialect import Dialect, ModelEntry
from gateway.shapes import DialectName

__all__ = ["DIALECTS", "Dialect", "ModelEntry", "speaks"]

DIALECTS: Final[Mapping[DialectName, Dialect]] = MappingProxyType(
    {
        "openai": openai,
        "azure": azure,
        "anthropic": anthropic,
        "gemini": gemini,
        "bedrock": bedrock,
    }
)


def speaks(dialect: DialectName, endpoint: DialectName) -> bool:
    """True when a config of `dialect` serves an endpoint's protocol as it is.

    An Azure resource serves OpenAI's paths (its v1) beside its own.
    """
    return dialect == endpoint or (dialect == "azure" and endpoint == "openai")
