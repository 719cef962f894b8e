"""Where the venue is called and with whose key. Only this machine, only keys that the local exchange has made."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from apps.execution.venues.mexc.signing import signature_of

TEST_KEY_PREFIX: Final = "mx0test"
_OTHERS: Final = 0o077


class VenueRefused(ValueError):
    """An address, a key or a file that is not used; one line that says why."""


class Access:
    """Address and key. The secret signs and is never shown: not in a repr, not by an attribute of that name."""

    __slots__ = ("__secret", "key", "url")

    def __init__(self, url: str, key: str, secret: str) -> None:
        """Raises `VenueRefused` for another machine and for a key that the local exchange did not make."""
        self.url = _of_this_machine(url)
        if not key.startswith(TEST_KEY_PREFIX):
            raise VenueRefused(f"only keys of the local exchange are used; they begin with {TEST_KEY_PREFIX}")
        if not secret:
            raise VenueRefused("the secret is empty")
        self.key = key
        self.__secret = secret

    def sign(self, payload: str) -> str:
        return signature_of(payload, self.__secret)

    def __repr__(self) -> str:
        return f"Access({self.url})"


def read_access(url: str, key_file: Path, secret_file: Path) -> Access:
    """Key and secret from files that nobody else may read. Raises `VenueRefused`; it never quotes what they hold."""
    return Access(url, _kept(key_file), _kept(secret_file))


def _of_this_machine(url: str) -> str:
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname or "", parts.port
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # neither an address nor a port
        parts, local = urlsplit(""), False
    sound = parts.scheme == "http" and not parts.username and parts.path in ("", "/") and not parts.query
    if not local or not sound:
        raise VenueRefused(f"{url.split('?')[0][:100]} is not this machine: the venue calls the local exchange only")
    return url.rstrip("/")


def _kept(path: Path) -> str:
    try:
        if path.stat().st_mode & _OTHERS:
            raise VenueRefused(f"{path}: others may read it; its mode must be 0600")
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise VenueRefused(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise VenueRefused(f"{path}: is not plain text") from None
