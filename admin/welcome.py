"""What a start says to the person in front of it: addresses, keys shown once, curls to paste.

Pure text. Called by `wardgate serve`, which writes it to stderr before the first log line.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.catalog import Catalog, Model
from gateway.settings import Settings
from gateway.shapes import DialectName

if TYPE_CHECKING:
    from admin.take_in import Taken

# What a newcomer may expect to be there for a small sum; else the cheapest the catalog lists.
FAVOURITES = {
    "anthropic": "claude-haiku-4-5",
    "azure": "gpt-4.1-mini",
    "deepseek": "deepseek-chat",
    "google": "gemini-2.5-flash",
    "groq": "llama-3.1-8b-instant",
    "mistral": "mistral-small-latest",
    "openai": "gpt-4.1-mini",
}
_MUTE = (
    *("asr", "audio", "embed", "guard", "image", "moderation"),
    *("ocr", "rerank", "safety", "transcribe", "tts", "whisper"),
)
_SAY = "Say hello in five words."
_RULE = "─" * 78


@dataclass(frozen=True)
class Welcome:
    """What this start made. `token`, `key`: texts that are never shown again."""

    token: str | None = None
    key: str | None = None
    taken: Sequence[Taken] = ()
    store_away: bool = False


def words(settings: Settings, catalog: Catalog, welcome: Welcome, serving: Sequence[str]) -> str:
    """The whole text; `serving` names what runs, of `gateway` and `admin`."""
    lines = [_RULE, *_addresses(settings, serving)]
    if welcome.store_away:
        lines += ["", "The store is away: requests are served as before, changes have to wait."]
    for taken in welcome.taken:
        lines += _took(taken)
    if welcome.token is not None:
        lines += ["", "Admin token (superadmin), shown this once:", f"  {welcome.token}"]
    if welcome.key is not None:
        lines += _curls(settings, catalog, welcome)
    elif "gateway" in serving and not welcome.store_away:
        lines += ["", f"A key for an application:  {called()} keys create my-app"]
    return "\n".join(["", *lines, _RULE, "", ""])


def _addresses(settings: Settings, serving: Sequence[str]) -> Iterator[str]:
    yield f"Wardgate {__version__}"
    if "gateway" in serving:
        yield f"  gateway  {url(settings.host, settings.port)}/v1    (OpenAI base_url)"
    if "admin" in serving:
        yield f"  admin    {url(settings.admin_host, settings.admin_port)}"
    yield f"  data     {settings.data_dir.resolve()}"


def _took(taken: Taken) -> Iterator[str]:
    names = " + ".join(taken.variables)
    if taken.earlier:
        yield f"  kept: the config of {taken.provider} in scope global; {names} is left alone"
    elif taken.why_not:
        yield f"  not taken in: {taken.provider} from {names}: {taken.why_not}"
    else:
        yield f"  taken in: {taken.provider}:default (scope global) from {names}"


def _curls(settings: Settings, catalog: Catalog, welcome: Welcome) -> Iterator[str]:
    from admin.quickstart import MODEL

    base, key = url(settings.host, settings.port), welcome.key or ""
    yield ""
    yield "Try it (the demo upstream answers; nobody's provider key is needed):"
    yield ""
    yield curl(base, key, "openai", MODEL)
    for taken in welcome.taken:
        model = suggestion(catalog, taken.provider) if not taken.why_not else None
        if model is not None:
            provider = catalog.providers[taken.provider]
            deployed = " (the model is your deployment's name)" if "azure" in provider.id else ""
            yield from ("", f"The same with {provider.name}{deployed}:", "")
            # A model in a path stands there without a prefix.
            prefix = "" if provider.dialect == "gemini" else f"{provider.id}/"
            yield curl(base, key, provider.dialect, prefix + model)
    yield ""
    yield f"In an SDK: base_url {base}/v1, api_key as in the curl."
    yield f"A key for an application:  {called()} keys create my-app"


def called() -> str:
    """This command as a person would write it here, ready to paste."""
    return spelled(sys.argv[0], shutil.which("wardgate"))


def spelled(script: str, found: str | None) -> str:
    """`wardgate` where that is `script` (what a shell finds), else how `script` was called."""
    path = Path(script)
    if path.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m admin.cli"
    if path.name != "wardgate" or (found and path.exists() and path.samefile(found)):
        return "wardgate"
    return shlex.quote(script)


def url(host: str, port: int) -> str:
    """Where a browser on this machine finds a listener."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def suggestion(catalog: Catalog, provider: str) -> str | None:
    """A model worth a first try; None when the catalog lists none for this provider."""
    models = catalog.providers[provider].models
    favourite = FAVOURITES.get(provider)
    if favourite in models:
        return favourite
    priced = [model for model in models.values() if model.output_price and _talks(model)]
    cheapest = min(priced, key=lambda model: (model.output_price, model.id), default=None)
    return cheapest.id if cheapest is not None else next(iter(models), None)


def _talks(model: Model) -> bool:
    """Whether a model answers a chat, as far as its name and status say."""
    return model.status != "deprecated" and not any(word in model.id.lower() for word in _MUTE)


def curl(base: str, key: str, dialect: DialectName | None, model: str) -> str:
    """A streamed request in the provider's own protocol, ready to paste into a shell."""
    messages = [{"role": "user", "content": _SAY}]
    if dialect == "anthropic":
        path, header = "/v1/messages", f"x-api-key: {key}"
        body: dict[str, object] = {"model": model, "max_tokens": 100}
        body |= {"stream": True, "messages": messages}
    elif dialect == "gemini":
        path = f"/v1beta/models/{model}:streamGenerateContent?alt=sse"
        header = f"x-goog-api-key: {key}"
        body = {"contents": [{"role": "user", "parts": [{"text": _SAY}]}]}
    else:
        path, header = "/v1/chat/completions", f"authorization: Bearer {key}"
        body = {"model": model, "stream": True, "messages": messages}
    return (
        f"curl -sN '{base}{path}' \\\n"
        f"  -H '{header}' -H 'content-type: application/json' \\\n"
        f"  -d '{json.dumps(body, separators=(',', ':'))}'"
    )
