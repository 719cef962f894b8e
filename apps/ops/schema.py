"""The fence between code and schema: a worker starts, and goes on, only on the schema that its code was written for."""

from __future__ import annotations

from functools import cache

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

NAMED_MAX = 3
Names = frozenset[tuple[str, str]]


def differing_schema() -> str:
    """What of the schema is newer or older than this code, in one line; "" if nothing is.

    A database that does not answer says nothing about its schema: "" too, because processes start in any order.
    """
    known, replaced = own_migrations()
    try:
        applied = set(MigrationRecorder(connection).applied_migrations())
    except (DatabaseError, InterfaceError):
        return ""
    finally:
        connection.close()
    ours = {app for app, _ in known}
    newer = sorted(f"{app} {name}" for app, name in applied - known - replaced if app in ours)
    older = sorted(f"{app} {name}" for app, name in known - applied)
    if newer:
        return f"the schema is newer than this code ({_few(newer)}): start the code that belongs to it"
    if older:
        return f"the schema is older than this code ({_few(older)}): run `manage.py migrate`"
    return ""


@cache
def own_migrations() -> tuple[Names, Names]:
    """The migrations of this code, and those that they replace, as (app, name).

    Read once: a process runs what it has loaded, whatever is laid on its disk later.
    """
    found = MigrationLoader(None).disk_migrations
    return frozenset(found), frozenset(pair for migration in found.values() for pair in migration.replaces)


def _few(names: list[str]) -> str:
    return ", ".join(names[:NAMED_MAX]) + (f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else "")
