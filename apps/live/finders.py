"""Static files that come from npm packages, under the names that unfold's pages ask for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from django.conf import settings
from django.contrib.staticfiles.finders import BaseFinder
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage

PACKAGED: Final = {"unfold/js/alpine/alpine.js": "@alpinejs/csp/dist/cdn.min.js"}
"""What pages ask for -> the file in node_modules. unfold's own Alpine evaluates strings, which the policy forbids."""


class NamedFile(FileSystemStorage):
    """A folder of which one file is offered, under another name."""

    def __init__(self, source: Path, name: str) -> None:
        super().__init__(location=source.parent)
        self.prefix = ""
        self._source, self._name = source, name

    def path(self, name: str) -> str:
        if name != self._name:
            raise FileNotFoundError(name)
        return str(self._source)


class NpmFinder(BaseFinder):
    """First in STATICFILES_FINDERS, so that its files win over those of the same name in an app."""

    def __init__(self, *_: Any, **__: Any) -> None:
        folder = Path(settings.NODE_MODULES)
        self._files = {name: folder / packaged for name, packaged in PACKAGED.items()}

    def find(self, path: str, find_all: bool = False, **_: Any) -> Any:
        source = self._files.get(path)
        found = [str(source)] if source is not None and source.is_file() else []
        return found if find_all else (found[0] if found else [])

    def list(self, _ignore_patterns: Iterable[str] | None) -> Iterable[tuple[str, NamedFile]]:
        """Raises `ImproperlyConfigured` if a file is missing: without it every page would be half dead."""
        for name, source in self._files.items():
            if not source.is_file():
                raise ImproperlyConfigured(f"{name} is not installed; run `npm ci --prefix requirements/npm`")
            yield name, NamedFile(source, name)
