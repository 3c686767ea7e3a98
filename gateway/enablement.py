"""Which models are switched off, and which of a config's names mean the same model.

Nothing recorded means on; a switch thrown anywhere on a scope's way up counts. Pure. Used by
walk.py and resolve.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.catalog import Catalog
from gateway.shapes import ProviderConfig
from gateway.snapshot import Snapshot

Off = frozenset[tuple[str, str]]  # (provider, model), as `folded` writes them
# The part of the world in front of an inference profile of Bedrock's: `us.anthropic.…`.
_REGIONAL: Final = re.compile(r"(?:global|apac|us-gov|[a-z]{2})\.(?=[a-z0-9-]+\.)")
_BEDROCK: Final = "amazon-bedrock"


def switched_off(snapshot: Snapshot, scopes: tuple[str, ...]) -> Off:
    """What is off for requests that look for their config in these scopes."""
    if not snapshot.disabled:
        return frozenset()
    known: Off | None = snapshot.memo.get(("off", scopes))
    if known is None:
        known = folded(pair for s in scopes for pair in snapshot.disabled.get(s, ()))
        snapshot.memo["off", scopes] = known
    return known


def folded(pairs: Iterable[tuple[str, str]]) -> Off:
    """Models in the one spelling that all of theirs are compared in."""
    return frozenset((provider, _plain(model)) for provider, model in pairs)


def is_off(off: Off, provider: str, model: str) -> bool:
    """Whether it is off in any spelling that the provider may take for the same model."""
    return any((provider, name) in off for name in _spellings(provider, _plain(model)))


def is_enabled(off: Off, catalog: Catalog, config: ProviderConfig, model: str) -> bool:
    """Whether `config` may be asked for `model`: not off, and listed where only listed ones are.

    Switching a model off also closes the deployment it has on this config, and the other way round.
    """
    names = _names(config, model)
    if off and any(is_off(off, config.provider, name) for name in names):
        return False
    if config.allow_unlisted or any(catalog.lists(config.provider, name) for name in names):
        return True
    # Whoever entered a deployment has listed it.
    return model in config.deployments or model in config.deployments.values()


def judges(off: Off, config: ProviderConfig) -> bool:
    """Whether it matters at all which model this config is asked for."""
    return not config.allow_unlisted or any(provider == config.provider for provider, _ in off)


def _plain(model: str) -> str:
    # Some providers do not care about case, or cut at a control character; no two models of one
    # differ in that alone.
    return "".join(filter(str.isprintable, model)).strip().casefold()


def _spellings(provider: str, model: str) -> Iterator[str]:
    """The name itself, and what is left of it without what providers put in front."""
    yield model
    yield model.rpartition("models/")[2]  # Google: models/{id}, publishers/google/models/{id}
    if provider == _BEDROCK:
        bare = model.rpartition("/")[2] if model.startswith("arn:") else model
        yield bare
        yield _REGIONAL.sub("", bare, count=1)


def _names(config: ProviderConfig, model: str) -> set[str]:
    """The model, its deployment, and the models that deployment is of."""
    table = config.deployments
    if not table:
        return {model}
    sent = table.get(model, model)
    # Azure finds a deployment whatever the case of its name.
    called = _plain(sent)
    return {model, sent} | {name for name, own in table.items() if _plain(own) == called}
