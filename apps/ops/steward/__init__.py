"""The steward: what keeps the road moving when a message is lost. Not a Celery task, because it watches Celery."""
