"""Our Celery application with our settings, and the tasks of these tests.

`STACK_VISIBILITY_SECONDS` shortens the one number that a test cannot wait for.
"""

from __future__ import annotations

import os

from cdb_project.celery import app
from tests.stack.tasks import register

register(app)
if visibility := os.environ.get("STACK_VISIBILITY_SECONDS"):
    app.conf.broker_transport_options = {**app.conf.broker_transport_options, "visibility_timeout": int(visibility)}
