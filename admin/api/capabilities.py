"""What models are for, in the words of surface 2, as far as their names tell.

Pure. Called by connections.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal, get_args

from gateway.catalog import Catalog

Capability = Literal["Chat", "Embedding", "Media", "Moderation", "SpeechToText"]
CAPABILITIES: tuple[Capability, ...] = get_args(Capability)

# First hit wins; what nothing here names is for chat. Surface 2 has no word for reranking.
_BY_NAME: tuple[tuple[re.Pattern[str], Capability | None], ...] = (
    (re.compile(r"rerank"), None),
    (re.compile(r"embed|bge-|gte-|e5-|voyage-\d"), "Embedding"),
    (re.compile(r"moderation|llama-guard|shieldgemma"), "Moderation"),
    (re.compile(r"whisper|transcribe|speech-to-text|\bstt\b|scribe"), "SpeechToText"),
    (
        re.compile(r"dall-e|imagen|imagine|gpt-image|chatgpt-image|flux|stable-|sora|veo-|lyria"),
        "Media",
    ),
    (re.compile(r"(?:^|[-/.])tts|-image(?:$|-)|image-gen|video-gen|ideogram|recraft"), "Media"),
)


def read(text: str) -> Capability | None:
    """A capability's name in any case, or None."""
    return next((known for known in CAPABILITIES if known.lower() == text.lower()), None)


def of_model(model: str) -> tuple[Capability, ...]:
    """What one model is for; empty for what surface 2 has no word for."""
    name = model.lower()
    named = (known for pattern, known in _BY_NAME if pattern.search(name))
    found: Capability | None = next(named, "Chat")
    return () if found is None else (found,)


def of_provider(provider: str, catalog: Catalog) -> frozenset[Capability]:
    """What a provider's catalog models are for; of one no catalog knows, chat."""
    known = catalog.providers.get(provider)
    if known is None or not known.models:
        return frozenset(("Chat",))
    return frozenset(what for model in known.models for what in of_model(model))


def ordered(found: Iterable[Capability]) -> list[Capability]:
    """In the order in which the surface names them."""
    present = set(found)
    return [known for known in CAPABILITIES if known in present]
