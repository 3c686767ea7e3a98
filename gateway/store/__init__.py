"""The store: every SQL statement of Wardgate lives in this package, and no worker imports it.

engine (transactions) · tables · migrate and migrations/ · one file per noun · compile (the rows
as a snapshot) · places (where a config's requests go) · glance (its state, before all this).
"""
