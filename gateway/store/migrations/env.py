"""What Alembic runs for every command: the connection comes in ready, in a transaction of ours.

Never opens a database itself. Loaded by Alembic on behalf of gateway/store/migrate.py.
"""

from __future__ import annotations

from alembic import context

from gateway.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
