"""The ASGI application: pages over HTTP, live updates over WebSocket."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cdb_project.settings")

from django.core.asgi import get_asgi_application

http_application = get_asgi_application()  # sets Django up; what follows needs its models

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import WebsocketDenier  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from apps.live.consumers import LiveConsumer  # noqa: E402
from apps.live.frame import SOCKET_PATH  # noqa: E402
from apps.live.origin import OriginGuard  # noqa: E402

sockets = URLRouter([path(SOCKET_PATH.lstrip("/"), LiveConsumer.as_asgi()), re_path("", WebsocketDenier.as_asgi())])
websocket_application = OriginGuard(AuthMiddlewareStack(sockets))
application = ProtocolTypeRouter({"http": http_application, "websocket": websocket_application})
