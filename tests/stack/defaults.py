"""Celery as it comes, with what `STACK_OPTIONS` (JSON) sets: what our settings keep away from us."""

from __future__ import annotations

import json
import os

from celery import Celery

from tests.stack.tasks import register

app = Celery("defaults", broker=os.environ["REDIS_URL"])
app.conf.update(json.loads(os.environ.get("STACK_OPTIONS", "{}")))
register(app)
