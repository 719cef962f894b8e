"""What a start does inside Django, before the workers run: settings, migrations, static files, staff user, session.

Django is set up in the starting process itself and only here: each command in a process of its own would cost its
imports again. Nothing of Django is imported before `load_settings`, because the settings read what the start wrote.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apps.ops.embedded.home import Home, Refusal, write_private
from apps.ops.stack.progress import Progress
from apps.ops.stack.runtime import Runtime

USERNAME = "admin"
START_FILE = "start.json"
"""The steps of the last start that went through, for `stack status`."""


def load_settings(home: Home, runtime: Runtime) -> None:
    """Set Django up with the addresses of this stack. A wrong setting raises the settings' own error."""
    os.environ["CDB_DATA_DIR"] = str(home.root)
    os.environ["PORT"] = str(runtime.port)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")
    import django

    django.setup()


def refuse_unknown_tier(tier: str | None) -> None:
    if tier is None:
        return
    from apps.engine.tiers import LADDER

    if tier not in LADDER:
        raise Refusal(f"tier {tier} is not one of {', '.join(LADDER)}")


def migrate() -> None:
    from django.core.management import call_command

    call_command("migrate", interactive=False, verbosity=0)


def collect_static_files() -> bool:
    """Collect and compress the static files, unless none changed since the last time. True if something was done."""
    from django.conf import settings
    from django.contrib.staticfiles.finders import get_finders
    from django.core.management import call_command

    digest = hashlib.sha256(str(settings.STATIC_ROOT).encode())
    for finder in get_finders():
        for name, storage in finder.list([]):
            facts = Path(storage.path(name)).stat()
            digest.update(f"{name} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    stamp = Path(settings.DATA_DIR) / "run" / "static-files"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == digest.hexdigest() and settings.STATIC_ROOT.is_dir():
        return False
    call_command("collectstatic", interactive=False, clear=True, verbosity=0)
    stamp.write_text(digest.hexdigest(), encoding="utf-8")
    return True


def end_unfit_session(runtime: Runtime, *, new_session: bool) -> None:
    """End the session of the last start if this one asks for another. Before the exchange, which goes on from it."""
    from apps.ops.services.sessions import FIRST_TIERS, end_unfit

    end_unfit(tier=runtime.tier or FIRST_TIERS[runtime.mode], new_session=new_session)


def prepare_session(runtime: Runtime, *, name: str = "", days: int | None = None) -> None:
    """Make or continue the session that will trade; `name` and `days` are those of a new one.

    Raises Refusal with the command's own reason.
    """
    from django.core.management import CommandError, call_command

    options = ["--mode", runtime.mode, "--rest-url", str(runtime.exchange["rest_url"])]
    options += [part for path in runtime.replay_files for part in ("--replay-file", path)]
    options += ["--tier", runtime.tier] if runtime.tier else []
    options += ["--seed", str(runtime.seed)] if runtime.seed is not None else []
    options += ["--name", name] if name else []
    options += ["--days", str(days)] if days is not None else []
    try:
        call_command("prepare_session", *options, stdout=io.StringIO())
    except CommandError as error:
        raise Refusal(f"the session could not be prepared: {error}") from error


def start_trading(home: Home, runtime: Runtime, progress: Progress) -> None:
    """Hold, rebuild, drain, reconcile, prove, resume, before any worker runs. Raises Refusal; trading stays HALTED."""
    from django.conf import settings

    from apps.bus import clients
    from apps.ops.services.starting import StartFailed, Tools, start_trading

    tools = Tools(
        reader=clients.reader(runtime.redis_url),
        writer=clients.writer(runtime.redis_url),
        segments=settings.SEGMENTS_DIR,
        engine_hash=settings.ENGINE_HASH,
        clock=lambda: time.time_ns() // 1_000_000,
        elapsed=time.monotonic,
        wait=time.sleep,
        shown=lambda name: progress.phase(f"  {name}"),
    )
    try:
        with _log_kept_in(home.root / "logs" / "start.log"):
            row = start_trading(tools=tools)
    except StartFailed as failed:
        raise Refusal(f"trading stays HALTED: {failed}") from failed
    facts = {"at": row.started_at.isoformat(), "reason": row.reason, "steps": row.steps}
    write_private(home.root / "run" / START_FILE, json.dumps(facts))
    if row.reason:
        progress.console.print(f"  trading is {row.reason}", highlight=False)


@contextmanager
def _log_kept_in(path: Path) -> Iterator[None]:
    """The lines of a step go to a file: the terminal shows how far the start is."""
    root = logging.getLogger()
    handlers, file = root.handlers, logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(handlers[0].formatter if handlers else None)
    root.handlers = [file]
    try:
        yield
    finally:
        root.handlers = handlers
        file.close()


def ask_workers(queues: dict[str, str]) -> None:
    """Send a task to every worker's queue (name -> queue). Their answers are read by `silent_workers`.

    The kernels are compiled here first, once: workers that did so all at the same time would be slow to answer.
    """
    from celery import current_app

    from apps.engine.strategies import warm_up_kernels

    warm_up_kernels()
    for name, queue in queues.items():
        kwargs = {"name": name, "engine": queue.startswith("shard.")}
        current_app.send_task("ops.answer", kwargs=kwargs, queue=queue)


def silent_workers(names: list[str], since_ms: int) -> list[str]:
    """Those that have not answered since then. Raises the broker's error if it cannot be asked."""
    from django.conf import settings

    from apps.bus import clients, streams

    found = clients.reader(settings.REDIS_URL).mget([streams.heartbeat_key(name) for name in names])
    return [name for name, at in zip(names, found, strict=True) if at is None or int(at) < since_ms]


def ensure_staff_user(home: Home, runtime: Runtime) -> dict[str, Any]:
    """The content of credentials.json, with a staff superuser that can log in with it."""
    from django.contrib.auth import get_user_model

    path = home.root / "credentials.json"
    users = get_user_model()._default_manager
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    password = str(known.get("password") or secrets.token_urlsafe(16))
    user = users.filter(username=USERNAME).first()
    if user is None:
        user = users.model(username=USERNAME, is_staff=True, is_superuser=True)
    if not known or user.pk is None:
        user.set_password(password)
        user.save()
    credentials = {
        "url": runtime.url,
        "username": USERNAME,
        "password": password,
        "flower_url": runtime.flower_url,
        "flower_username": "cdb",
        "flower_password": home.secret("flower_password"),
        "exchange": {name: runtime.exchange.get(name) for name in ("ws_url", "rest_url")},
    }
    write_private(path, json.dumps(credentials, indent=2))
    return credentials


def write_flower_configuration(home: Home, runtime: Runtime) -> None:
    """Everything in a private file: arguments show in the list of processes."""
    options = {
        "address": "127.0.0.1",
        "port": runtime.flower_port,
        "basic_auth": [f"cdb:{home.secret('flower_password')}"],
        "cookie_secret": home.secret("flower_cookie_secret"),
        "read_only": True,
        "max_tasks": 5_000,
    }
    write_private(home.root / "run" / "flower.py", "\n".join(f"{name} = {value!r}" for name, value in options.items()))


def close_connections() -> None:
    from django.db import connections

    connections.close_all()
