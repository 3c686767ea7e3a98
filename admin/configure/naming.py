"""How a language model is named where the desk stores one: alone, or as `provider/model`. Pure."""

from __future__ import annotations

from admin.configure.refusals import Refusal
from gateway.catalog import Catalog

LONGEST = 300


def model(text: str, field: str = "model") -> str:
    """A model as its provider calls it; catalogs need not list it. Raises Refusal bad_model."""
    if not 1 <= len(text) <= LONGEST or not text.isprintable() or " " in text:
        message = f"a model's name is 1-{LONGEST} characters without spaces"
        raise Refusal("bad_model", message, field)
    return text


def bound(text: str, catalog: Catalog, field: str = "model") -> tuple[str, str]:
    """The provider's catalog id and the model of `provider/model`; the model may hold slashes.

    Raises Refusal: bad_model, unknown_provider.
    """
    slug, slash, rest = text.partition("/")
    if not slash:
        raise Refusal("bad_model", "a bound model is written provider/model", field)
    provider = catalog.canonical(slug)
    if provider is None:
        raise Refusal("unknown_provider", "it begins with no provider of the catalog", field)
    return provider, model(rest, field)
