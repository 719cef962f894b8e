"""Composition root: settings, routes, Celery application, ASGI application, URLs."""
