"""What the catalog does not say about its providers: ours, as data.

The dialect each speaks, base URLs where the catalog has none, what cannot be reached yet and why,
other dialects a provider offers below its base URL, foreign names, quirks. No look-ups of models
here. Read by catalog (which joins it with the snapshot of models.dev), paths and the dialects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from gateway.shapes import DialectName, Setting

# Everything that is not named here speaks OpenAI's protocol.
DIALECTS: Final[Mapping[str, DialectName]] = MappingProxyType(
    {
        "amazon-bedrock": "bedrock",
        "anthropic": "anthropic",
        "azure": "azure",
        "azure-cognitive-services": "azure",
        "freemodel": "anthropic",
        "google": "gemini",
        "kimi-for-coding": "anthropic",
        "minimax": "anthropic",
        "minimax-cn": "anthropic",
        "minimax-cn-coding-plan": "anthropic",
        "minimax-coding-plan": "anthropic",
    }
)

# Providers the catalog has no base URL for, and one whose URL there is a full endpoint.
BASE_URLS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "aihubmix": "https://aihubmix.com/v1",
        "anthropic": "https://api.anthropic.com/v1",
        "bailing": "https://api.tbox.cn/api/llm/v1",
        "cerebras": "https://api.cerebras.ai/v1",
        "cohere": "https://api.cohere.ai/compatibility/v1",
        "deepinfra": "https://api.deepinfra.com/v1/openai",
        "google": "https://generativelanguage.googleapis.com/v1beta",
        "groq": "https://api.groq.com/openai/v1",
        "merge-gateway": "https://api-gateway.merge.dev/v1/openai",
        "mistral": "https://api.mistral.ai/v1",
        "openai": "https://api.openai.com/v1",
        "perplexity": "https://api.perplexity.ai",
        "togetherai": "https://api.together.xyz/v1",
        "v0": "https://api.v0.dev/v1",
        "venice": "https://api.venice.ai/api/v1",
        "vercel": "https://ai-gateway.vercel.sh/v1",
        "xai": "https://api.x.ai/v1",
    }
)

_REGION: Final = r"[a-z]{2}(?:-[a-z]{2,16}){1,2}-[0-9]{1,2}"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,62}[A-Za-z0-9])?"


@dataclass(frozen=True, slots=True)
class Template:
    """A base URL with one hole, filled from the config's settings.

    The pattern keeps the filled URL on the provider's own domain; where no pattern can (Neon's
    gateway lives on a host of the customer's), `url` is "" and the config must carry a base_url.
    """

    url: str
    setting: str
    pattern: str

    def fill(self, settings: Mapping[str, Setting]) -> str | None:
        """The base URL, or None when the setting is missing or is not acceptable."""
        value = settings.get(self.setting, "")
        if not self.url or not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            return None
        return self.url.replace("{" + self.setting + "}", value)


TEMPLATES: Final[Mapping[str, Template]] = MappingProxyType(
    {
        "amazon-bedrock": Template(
            "https://bedrock-runtime.{region}.amazonaws.com", "region", _REGION
        ),
        "azure": Template(
            "https://{resourceName}.openai.azure.com/openai/v1", "resourceName", _LABEL
        ),
        "azure-cognitive-services": Template(
            "https://{resourceName}.cognitiveservices.azure.com/openai/v1", "resourceName", _LABEL
        ),
        "cloudflare-ai-gateway": Template(
            "https://gateway.ai.cloudflare.com/v1/{gateway}/compat",
            "gateway",
            r"[0-9a-f]{32}/[a-z0-9_]+(?:-[a-z0-9_]+)*",
        ),
        "cloudflare-workers-ai": Template(
            "https://api.cloudflare.com/client/v4/accounts/{accountId}/ai/v1",
            "accountId",
            r"[0-9a-f]{32}",
        ),
        "databricks": Template(
            "https://{host}/ai-gateway/mlflow/v1",
            "host",
            rf"(?:{_LABEL}\.){{1,3}}(?:cloud\.databricks\.com|gcp\.databricks\.com"
            r"|azuredatabricks\.net)",
        ),
        "neon": Template("", "base_url", ""),
        "snowflake-cortex": Template(
            "https://{account}.snowflakecomputing.com/api/v2/cortex/v1",
            "account",
            rf"{_LABEL}(?:\.{_LABEL}){{0,3}}",
        ),
    }
)

_VERTEX: Final = "needs Google access tokens made from a service account, which come later"
UNSUPPORTED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "github-copilot": "takes only short-lived tokens of a GitHub device login, not an API key",
        "gitlab": "takes only short-lived tokens GitLab hands out per user, not an API key",
        "google-vertex": _VERTEX,
        "google-vertex-anthropic": _VERTEX,
        "sap-ai-core": "takes only OAuth tokens made from a service key, not an API key",
    }
)

# Other dialects a provider speaks, and where: what is put behind its base URL.
COMPATIBLE: Final[Mapping[str, Mapping[DialectName, str]]] = MappingProxyType(
    {
        "anthropic": {"openai": ""},
        "azure": {"openai": ""},
        "azure-cognitive-services": {"openai": ""},
        "deepseek": {"anthropic": "/anthropic/v1"},
        "google": {"openai": "/openai"},
        "kimi-for-coding": {"openai": ""},
        "ollama-cloud": {"anthropic": ""},
        "openrouter": {"anthropic": ""},
        "vercel": {"anthropic": ""},
        "xai": {"anthropic": ""},
    }
)

# Keys that go neither into Authorization nor into the dialect's usual header.
AUTH_HEADERS: Final[Mapping[str, tuple[bytes, bytes]]] = MappingProxyType(
    {"cloudflare-ai-gateway": (b"cf-aig-authorization", b"Bearer ")}
)

# Answers 4xx to a `stream_options` it does not know; it reports usage without being asked.
NO_STREAM_OPTIONS: Final[frozenset[str]] = frozenset({"mistral"})

CLOUDFLARE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "aws-bedrock": "amazon-bedrock",
        "azure-openai": "azure",
        "google-ai-studio": "google",
        "google-vertex-ai": "google-vertex",
        "grok": "xai",
        "perplexity-ai": "perplexity",
        "workers-ai": "cloudflare-workers-ai",
    }
)
MODELUX: Final[Mapping[str, str]] = MappingProxyType(
    {"bedrock": "amazon-bedrock", "fireworks": "fireworks-ai", "together": "togetherai"}
)
CUSTOM: Final = "custom:"
_CUSTOM_SLUG: Final = re.compile(r"custom:[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


def known_as(slug: str) -> str:
    """The catalog's id for a foreign slug; any other slug comes back as it is.

    Cloudflare writes its own custom providers `custom-<slug>`.
    """
    if slug.startswith("custom-"):
        return CUSTOM + slug.removeprefix("custom-")
    return CLOUDFLARE.get(slug) or MODELUX.get(slug) or slug


def is_custom(provider: str) -> bool:
    """True for a well-formed `custom:<slug>`."""
    return _CUSTOM_SLUG.fullmatch(provider) is not None


def dialect_of(provider: str) -> DialectName | None:
    """The dialect a provider speaks; None for custom ones, whose config says it."""
    if provider.startswith(CUSTOM):
        return None
    return DIALECTS.get(provider, "openai")
