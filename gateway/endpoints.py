"""Every endpoint the gateway serves: the tables that paths looks a request up in.

Data and its reading, nothing else; no request comes here. Names of tables say where a client finds
those endpoints. Read by paths, which also hands out `Endpoint`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from gateway.shapes import DialectName

BodyKind = Literal["none", "json", "multipart", "raw"]
ModelIn = Literal["body", "path", "form", "none"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the table.

    `operation` is gen_ai.operation.name; `family` the provider whose own endpoint this is;
    `terminal` names the rule that ends a stream here (None: HTTP framing alone); `local` ones are
    answered by us; `template` is the only form of the path a metric may carry.
    """

    name: str
    dialect: DialectName
    operation: str
    family: str
    body: BodyKind = "none"
    model_in: ModelIn = "none"
    terminal: str | None = None
    local: bool = False
    template: str = ""


Methods = dict[str, Endpoint]  # by HTTP method

# Below the version segment; {} is any one segment. A family's whole API in the order of its docs:
# pattern, method, name, gen_ai.operation.name, then body, where the model is, what ends a stream.
_OPENAI_ROWS: Final = """
chat/completions            POST   chat              chat              json       body  chat
chat/completions            GET    stored_chats      chat              none       none  -
chat/completions/{}         GET    stored_chats      chat              none       none  -
chat/completions/{}         POST   stored_chats      chat              raw        none  -
chat/completions/{}         DELETE stored_chats      chat              none       none  -
chat/completions/{}/messages GET   stored_chats      chat              none       none  -
responses                   POST   responses         chat              json       body  responses
responses/compact           POST   responses_compact chat              json       body  -
responses/input_tokens      POST   count_tokens      count_tokens      json       body  -
responses/{}                GET    stored_responses  chat              none       none  responses
responses/{}                DELETE stored_responses  chat              none       none  -
responses/{}/cancel         POST   stored_responses  chat              raw        none  -
responses/{}/input_items    GET    stored_responses  chat              none       none  -
completions                 POST   completions       text_completion   json       body  chat
embeddings                  POST   embeddings        embeddings        json       body  -
moderations                 POST   moderations       moderation        json       body  -
rerank                      POST   rerank            rerank            json       body  -
images/generations          POST   images            image_generation  json       body  -
images/edits                POST   image_edits       image_generation  multipart  form  -
images/variations           POST   image_edits       image_generation  multipart  form  -
images/{}                   GET    images_other      image_generation  none       none  -
images/{}                   POST   images_other      image_generation  raw        none  -
audio/speech                POST   speech            speech            json       body  -
audio/transcriptions        POST   transcriptions    transcription     multipart  form  -
audio/translations          POST   transcriptions    transcription     multipart  form  -
audio/{}                    GET    audio_other       audio             none       none  -
audio/{}                    POST   audio_other       audio             raw        none  -
files                       POST   files             files             raw        none  -
files                       GET    files             files             none       none  -
files/{}                    GET    files             files             none       none  -
files/{}                    DELETE files             files             none       none  -
files/{}/content            GET    files             files             none       none  -
batches                     POST   batches           batches           raw        none  -
batches                     GET    batches           batches           none       none  -
batches/{}                  GET    batches           batches           none       none  -
batches/{}/cancel           POST   batches           batches           raw        none  -
uploads                     POST   uploads           files             raw        none  -
uploads/{}/parts            POST   uploads           files             raw        none  -
uploads/{}/complete         POST   uploads           files             raw        none  -
uploads/{}/cancel           POST   uploads           files             raw        none  -
"""
_ANTHROPIC_ROWS: Final = """
messages                    POST   messages          chat              json       body  anthropic
messages/count_tokens       POST   count_tokens      count_tokens      json       body  -
"""
_GEMINI_ACTIONS: Final = """
generateContent             POST   generate          generate_content  json       path  gemini
streamGenerateContent       POST   generate_stream   generate_content  json       path  gemini
countTokens                 POST   count_tokens      count_tokens      json       path  -
embedContent                POST   embeddings        embeddings        json       path  -
batchEmbedContents          POST   embeddings        embeddings        json       path  -
"""
_BEDROCK_ACTIONS: Final = """
converse                    POST   converse          chat              json       path  -
converse-stream             POST   converse_stream   chat              json       path  bedrock
invoke                      POST   invoke            generate_content  json       path  -
invoke-with-response-stream POST   invoke_stream     generate_content  json       path  -
count-tokens                POST   count_tokens      count_tokens      json       path  -
"""
Table = dict[tuple[bytes, ...], Methods]


def _table(rows: str, dialect: DialectName, family: str, prefix: str, at: str = "") -> Table:
    """Rows as endpoints under `prefix`; `at` replaces where the model stands."""
    table: Table = {}
    for line in rows.strip().splitlines():
        pattern, method, name, operation, body, model_in, terminal = line.split()
        endpoint = Endpoint(
            name,
            dialect,
            operation,
            family,
            cast(BodyKind, body),
            cast(ModelIn, at or model_in),
            None if terminal == "-" else terminal,
            template=prefix + pattern.replace("{}", "{id}"),
        )
        table.setdefault(tuple(pattern.encode().split(b"/")), {})[method] = endpoint
    return table


def local(name: str, dialect: DialectName, template: str, *methods: str) -> Methods:
    families = {"gemini": "google", "azure": "azure", "bedrock": "amazon-bedrock"}
    family = families.get(dialect, "openai")
    endpoint = Endpoint(name, dialect, name, family, local=True, template=template)
    return dict.fromkeys(methods, endpoint)


_DEPLOYMENT: Final = "/openai/deployments/{deployment}/"
SCOPED: Final = "/v1/{account}/{gateway}/{provider}/"
OPENAI: Final = _table(_OPENAI_ROWS, "openai", "openai", "/v1/")
ANTHROPIC: Final = _table(_ANTHROPIC_ROWS, "anthropic", "anthropic", "/v1/")
PLAIN: Final = OPENAI | ANTHROPIC
GEMINI: Final = _table(_GEMINI_ACTIONS, "gemini", "google", "/v1beta/models/{model}:")
BEDROCK: Final = _table(_BEDROCK_ACTIONS, "bedrock", "amazon-bedrock", "/model/{model}/")
AZURE_V1: Final = _table(_OPENAI_ROWS, "openai", "azure", "/openai/v1/")
AZURE_DEPLOYED: Final = _table(_OPENAI_ROWS, "azure", "azure", _DEPLOYMENT, at="path")
AZURE_RESOURCE: Final = {
    path: row
    for path, row in _table(_OPENAI_ROWS, "azure", "azure", "/openai/").items()
    if path[0] in (b"responses", b"files", b"batches", b"uploads")
}
NATIVE: Final[dict[str, Table]] = {
    "openai": _table(_OPENAI_ROWS, "openai", "openai", SCOPED),
    "anthropic": _table(_ANTHROPIC_ROWS, "anthropic", "anthropic", SCOPED),
}
NATIVE_GEMINI: Final = _table(_GEMINI_ACTIONS, "gemini", "google", SCOPED + "models/{model}:")
NATIVE_BEDROCK: Final = _table(
    _BEDROCK_ACTIONS, "bedrock", "amazon-bedrock", SCOPED + "model/{model}/"
)
COMPAT: Final = {
    "POST": replace(
        OPENAI[b"chat", b"completions"]["POST"],
        template="/v1/{account}/{gateway}/compat/chat/completions",
    )
}
PROBE: Final = local("probe", "openai", "/", "GET", "HEAD")
OURS: Final[dict[bytes, Methods]] = {
    **dict.fromkeys(
        (b"", b"/", b"/v1", b"/v1/", b"/v1beta", b"/v1beta/", b"/openai", b"/openai/v1"), PROBE
    ),
}
