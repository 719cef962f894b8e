"""`python -m cdb_project.private_stream`: the listener of the running session, put together here.

Apps know no worker and workers know no app but the lowest, so the place that knows both joins them.
"""

from __future__ import annotations

import os
import random
import signal
import sys

import django

from workers.ingest.clock import Clock
from workers.private_stream.listener import Listener


def listener() -> Listener:
    """For the session that runs. Raises what `private_stream_of` raises, and `LookupError` without a session."""
    from apps.execution.services.listening import private_stream_of
    from apps.portfolio.selectors import current_session

    session = current_session()
    if session is None:
        raise LookupError("no session is running")
    heard = private_stream_of(session)
    return Listener(
        heard.url,
        heard.keys,
        ring=heard.ring,
        ring_all=heard.ring_all,
        trouble=heard.trouble,
        clock=Clock(),
        dice=random.Random(),
    )


def main() -> int:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    django.setup()
    try:
        one = listener()
    except (LookupError, ValueError) as refused:
        sys.stderr.write(f"{refused}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: one.stop())
    one.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
