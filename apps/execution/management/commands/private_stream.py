"""Listen to the venue's private stream, for the session that runs."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from apps.execution.services.listening import NothingToHear, private_stream_of
from apps.execution.venues.exchange import VenueRefused
from apps.portfolio.selectors import current_session


class Command(BaseCommand):
    help = "Become the process that hears from the local exchange which order has changed, and rings for it."

    def handle(self, *_: Any, **__: Any) -> None:
        session = current_session()
        if session is None:
            raise CommandError("no session is running: start one with `make demo` or `make up`", returncode=2)
        try:
            private_stream_of(session)
        except (NothingToHear, VenueRefused) as refused:
            raise CommandError(str(refused), returncode=2) from refused
        os.execv(sys.executable, [sys.executable, "-m", "cdb_project.private_stream"])  # noqa: S606  (no shell)
