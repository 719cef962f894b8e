"""`python -m tests.faults.matrix_prepare REST_URL SEED`: migrate, make the session, and tell what the tests need of it.

A slow machine must not turn every signal into a stale one, so what staleness means is widened as far as limits allow.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any, Final

WIDE: Final[dict[str, Any]] = {
    "signal_age_max_ms": 60_000,
    "feed_age_max_ms": 60_000,
    "feed_silence_max_ms": 60_000,
    "reconcile_orders_age_max_ms": 3_600_000,  # the road has no beat: nobody reconciles on it
    "reconcile_full_age_max_ms": 3_600_000,
    "orders_per_second_max": 1_000,
    "orders_per_minute_max": 1_000,
    "orders_per_day_max": 100_000,
    "repeat_max": 1_000,
    "heartbeat_age_max_ms": 600_000,
    "open_orders_max": 1_000,
}


def main(rest_url: str, seed: str) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    os.environ["CDB_PROCESS_ROLE"] = "web"  # its statements may take longest: a busy machine makes tables slowly
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.sessions.backends.db import SessionStore
    from django.core.management import call_command

    from apps.engine.strategies import warm_up_kernels
    from apps.portfolio.models import Account
    from apps.risk.services import change_limits

    call_command("migrate", verbosity=0)
    call_command("prepare_session", "--mode", "demo", "--rest-url", rest_url, "--seed", seed, stdout=io.StringIO())
    account = Account.objects.select_related("session").latest("id")
    change_limits(account_id=account.pk, changes=WIDE, set_by="tester", reason="a slow machine is no fault")
    user = get_user_model()._default_manager.create_superuser("tester", password="not used: " + os.urandom(8).hex())
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    warm_up_kernels()  # as the stack does before its workers: compiling takes longer than a task may
    told = {
        "epoch": account.session.epoch_id,
        "shards": settings.SHARD_COUNT,
        "session": account.session_id,
        "account": account.pk,
        "cookie": f"{settings.SESSION_COOKIE_NAME}={session.session_key}",
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
