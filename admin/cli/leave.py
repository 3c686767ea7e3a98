"""What a command leaves behind: the routing table of the store it worked on, for the next start.

Only where nobody serves from the data folder: a running parent makes the table itself, by its own
settings. What cannot be left is no error; the next start makes it. Called by session.py.
"""

from __future__ import annotations

from admin.configure.desk import Desk
from admin.opening import as_it_was_left, check_identities, check_overrides
from gateway.errors import WardgateError
from gateway.process.publish import Publisher, Source
from gateway.process.supervise import House, Plan, nobody_serves
from gateway.store.glance import glance


async def leave_table(desk: Desk) -> None:
    """Leave the table as a start would, which has then only to find it."""
    house = House(Plan(desk.settings, workers=1), {})
    visible = glance(desk.settings, house.catalog) is not None and not desk.catalog_flaw
    if not visible or as_it_was_left(house, desk.settings, desk.ring):
        return
    try:
        check_identities(desk.settings)
        check_overrides(desk.settings, desk.catalog)
        with nobody_serves(desk.settings.data_dir) as alone:
            if alone:
                source = Source(desk.settings, desk.ring, desk.catalog)
                await Publisher(house, source, desk.store).first()
    except (OSError, WardgateError):
        return
