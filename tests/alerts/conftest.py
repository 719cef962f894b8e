"""Pages of the admin, asked without a server."""

from __future__ import annotations

import pytest
from django.conf import settings


@pytest.fixture(scope="session", autouse=True)
def static_folder(servers: dict[str, str]) -> None:
    """The folder that `collectstatic` would fill; it must be there, these tests ask for no file in it."""
    settings.STATIC_ROOT.mkdir(parents=True, exist_ok=True)
