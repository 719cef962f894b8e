"""Composition root: settings, routes, Celery application, ASGI application, URLs."""

from cdb_project.celery import app as celery_app  # every Django process sends its tasks through this application

__all__ = ["celery_app"]
