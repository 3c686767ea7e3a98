"""The `wardgate` command: puts the groups together, and turns refusals into one line on stderr.

Exit codes: 0 done, 1 refused or failed, 2 called wrongly. A command is imported when it is called,
and imports what it needs when it runs, so that `serve` starts at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from typing import Any

import click

from admin.configure.refusals import Refusal
from gateway import __version__
from gateway.errors import WardgateError

# In the order docs show them: each command, and the file that has it.
_FILES = {
    "serve": "serve",
    "keys": "keys",
    "tokens": "tokens",
    "audit": "audit",
    "kek": "kek",
    "config": "configs",
    "catalog": "catalog",
    "store": "store",
    "explain": "explain",
    "doctor": "doctor",
    "demo-upstream": "serve",
}


class Commands(MutableMapping[str, click.Command]):
    """Commands by name, each imported when somebody looks at it."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._files = dict(files)

    def __getitem__(self, name: str) -> click.Command:
        module = import_module(f"admin.cli.{self._files[name]}")
        command: click.Command = getattr(module, name.replace("-", "_"))
        return command

    def __setitem__(self, name: str, command: click.Command) -> None:
        raise TypeError("commands are those in the table of files")

    def __delitem__(self, name: str) -> None:
        raise TypeError("commands are those in the table of files")

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


class OneLine(click.Group):
    """A group whose refusals end as `Error: …` and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except WardgateError as error:
            where = f"{error.field}: " if isinstance(error, Refusal) and error.field else ""
            raise click.ClickException(where + " ".join(str(error).split())) from None


@click.group(
    cls=OneLine,
    commands=Commands(_FILES),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="wardgate")
def wardgate() -> None:
    """Wardgate: a gateway that keeps your AI providers' keys.

    Applications hold a Wardgate key; the providers' keys never leave this house.

    \b
    A first walk:
      wardgate serve --demo                 gateway on :8080, admin on :8081, a curl to paste
      wardgate config add openai            asks for the key, hidden
      wardgate keys create my-app           a key for an application, shown once
      wardgate explain gpt-4.1-mini         which config a request would use, and why
      wardgate doctor                       checks the installation, says what to fix

    \b
    Settings are WARDGATE_… variables; the ones that matter first:
      WARDGATE_DATA_DIR        database, master key, routing table (default ./data)
      WARDGATE_KEK_FILE        the master key, 32 bytes in base64 (openssl rand -base64 32)
      WARDGATE_DATABASE_URL    postgresql+asyncpg://…; empty: SQLite in the data folder
      WARDGATE_REDIS_URL       limits shared by all workers; empty: each worker its part
    """


def main() -> None:
    """The console script."""
    wardgate(prog_name="wardgate")
