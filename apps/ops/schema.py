"""The fence between code and schema: a worker starts only on the schema that its code was written for."""

from __future__ import annotations

from django.db import DatabaseError, InterfaceError, connection
from django.db.migrations.loader import MigrationLoader

NAMED_MAX = 3


def differing_schema() -> str:
    """What of the schema is newer or older than this code, in one line; "" if nothing is.

    A database that does not answer says nothing about its schema: "" too, because processes start in any order.
    """
    try:
        loader = MigrationLoader(connection)
    except (DatabaseError, InterfaceError):
        return ""
    finally:
        connection.close()
    known, applied = set(loader.disk_migrations), set(loader.applied_migrations)
    ours = {app for app, _ in known}
    newer = sorted(f"{app} {name}" for app, name in applied - known if app in ours and not _replaced(loader, app, name))
    older = sorted(f"{app} {name}" for app, name in known - applied)
    if newer:
        return f"the schema is newer than this code ({_few(newer)}): start the code that belongs to it"
    if older:
        return f"the schema is older than this code ({_few(older)}): run `manage.py migrate`"
    return ""


def _replaced(loader: MigrationLoader, app: str, name: str) -> bool:
    return any((app, name) in migration.replaces for migration in loader.disk_migrations.values())


def _few(names: list[str]) -> str:
    return ", ".join(names[:NAMED_MAX]) + (f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else "")
