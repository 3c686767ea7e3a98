"""The `wardgate` command: puts the groups together, and turns refusals into one line on stderr.

Exit codes: 0 done, 1 refused or failed, 2 called wrongly. Commands import what they need when
they run, so that `--help` and `serve` start at once.
"""

from __future__ import annotations

from typing import Any

import click

from admin.cli.audit import audit
from admin.cli.catalog import catalog
from admin.cli.configs import config
from admin.cli.doctor import doctor
from admin.cli.explain import explain
from admin.cli.keys import keys
from admin.cli.manifest import apply, export, plan
from admin.cli.serve import demo_upstream, serve
from admin.cli.tokens import tokens
from admin.configure.refusals import Refusal
from gateway import __version__
from gateway.errors import WardgateError


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


for command in (serve, keys, tokens, audit, config, catalog, explain, doctor, demo_upstream):
    wardgate.add_command(command)
for command in (plan, apply, export):
    config.add_command(command)


def main() -> None:
    """The console script."""
    wardgate(prog_name="wardgate")
