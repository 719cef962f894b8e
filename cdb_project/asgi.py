"""The ASGI application: pages over HTTP, live updates over WebSocket."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")

from django.core.asgi import get_asgi_application  # noqa: E402

application = get_asgi_application()
