"""Typed readers of the process environment.

Every reader either returns a checked value or raises `SettingError` with one line that says which setting is wrong
and what it should look like. Secrets come from files: `NAME_FILE` first, then the data directory's `secrets/` folder.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from apps.bus import failpoints


class SettingError(Exception):
    """A setting is missing, unknown or malformed. The process must not start; exit code 2."""


@contextmanager
def exit_on_wrong_setting() -> Iterator[None]:
    """For the door of a process: one line and exit code 2 instead of a traceback."""
    try:
        yield
    except SettingError as error:
        print(f"cdb: {error}", file=sys.stderr)
        sys.exit(2)


def read_text(name: str, default: str | None = None) -> str:
    """The value of `name`, stripped. Without a default the setting is mandatory."""
    value = os.environ.get(name, "").strip()
    if value:
        return value
    if default is None:
        raise SettingError(f"{name} is not set")
    return default


def read_int(name: str, default: int, *, minimum: int, maximum: int) -> int:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not re.fullmatch(r"-?[0-9]{1,12}", text) or not minimum <= int(text) <= maximum:
        raise SettingError(f"{name}={text!r} is not a whole number from {minimum} to {maximum}")
    return int(text)


def read_bool(name: str, default: bool) -> bool:
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if text not in ("true", "false"):
        raise SettingError(f"{name}={text!r} is neither true nor false")
    return text == "true"


def read_choice(name: str, default: str, choices: Iterable[str]) -> str:
    text = os.environ.get(name, "").strip() or default
    allowed = tuple(choices)
    if text not in allowed:
        raise SettingError(f"{name}={text!r} is not one of {', '.join(allowed)}")
    return text


def read_url(name: str, default: str, schemes: Iterable[str]) -> str:
    """An address of a server. The message never quotes it, because it may hold a password."""
    url = read_text(name, default)
    allowed = tuple(schemes)
    try:
        parts = urlsplit(url)
        sound = parts.scheme in allowed and bool(parts.path.strip("/")) and parts.port != 0
    except ValueError:  # a port that is no number
        sound = False
    if not sound:
        raise SettingError(f"{name} is not an address such as {allowed[0]}://user:password@host:port/name")
    return url


def read_symbols(name: str, default: str, *, maximum: int) -> tuple[str, ...]:
    """A comma-separated list of exchange symbols (upper case, no separator inside)."""
    symbols = tuple(part.strip() for part in read_text(name, default).split(",") if part.strip())
    for symbol in symbols:
        if not re.fullmatch(r"[A-Z0-9]{4,20}", symbol):
            hint = f": write {symbol.upper()}" if re.fullmatch(r"[A-Za-z0-9]{4,20}", symbol) else ""
            raise SettingError(f"{name}: {symbol!r} is not a symbol such as BTCUSDT{hint}")
    if not symbols:
        raise SettingError(f"{name} names no symbol: list some, such as BTCUSDT,ETHUSDT, or unset it")
    if len(symbols) > maximum:
        raise SettingError(f"{name} names {len(symbols)} symbols, at most {maximum} can be followed: name fewer")
    if twice := [symbol for symbol in symbols if symbols.count(symbol) > 1][:1]:
        raise SettingError(f"{name} names {twice[0]} twice")
    return symbols


def read_screener(name: str, *, unless: str, maximum: int) -> tuple[str, int, str] | None:
    """(mode, how many, quote asset) of a text such as `turnover:20:USDT`; None if it is not set.

    `unless` is the setting that says the same in another way: both together contradict each other.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if os.environ.get(unless, "").strip():
        raise SettingError(f"{name} and {unless} are both set: choose one")
    found = re.fullmatch(r"(turnover|movement):([0-9]{1,9}):([A-Z0-9]{2,16})", text)
    if not found:
        raise SettingError(f"{name}={text!r} is not such as turnover:20:USDT or movement:10:USDT")
    count = int(found[2])
    if not 1 <= count <= maximum:
        raise SettingError(f"{name}={text!r}: {count} symbols cannot be followed, ask for 1 to {maximum}")
    return found[1], count, found[3]


def read_secret(name: str, folder: Path) -> str:
    """The secret `name`: from the file that `<name>_FILE` names, else from `folder/<name in lower case>`.

    There is no default and no plain variable: a secret in the environment shows in process listings.
    """
    named = os.environ.get(f"{name}_FILE", "").strip()
    path = Path(named) if named else folder / name.lower()
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingError(f"secret {name}: cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingError(f"secret {name}: {path} is not text") from error
    if not secret:
        raise SettingError(f"secret {name}: {path} is empty")
    return secret


def read_secret_amount(name: str, folder: Path) -> Decimal | None:
    """An amount of money above 0 in a secret file; None if there is no such file and none is named."""
    if not os.environ.get(f"{name}_FILE", "").strip() and not (folder / name.lower()).exists():
        return None
    text = read_secret(name, folder)
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,6})?", text, re.ASCII) or not Decimal(text):
        raise SettingError(f"secret {name} is not an amount above 0 such as 5000 or 2500.50")
    return Decimal(text)


def refuse_unknown(prefix: str, known: Iterable[str]) -> None:
    """A misspelt setting must not be ignored: any variable with our prefix that nobody reads stops the start."""
    allowed = set(known)
    unknown = sorted(name for name in os.environ if name.startswith(prefix) and name not in allowed)
    if unknown:
        raise SettingError(f"unknown setting {unknown[0]} (known: {', '.join(sorted(allowed))})")


def arm_failpoints() -> None:
    """Off unless `CDB_FAIL` names some; see apps/bus/failpoints.py."""
    try:
        failpoints.arm_from(os.environ)
    except failpoints.FailpointError as error:
        raise SettingError(str(error)) from error


def read_runtime(path: Path) -> Mapping[str, Any]:
    """What the running stack wrote about itself (port, addresses, mode); empty if no stack was ever started there."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from error
    try:
        runtime = json.loads(content)
    except ValueError as error:
        raise SettingError(f"{path} is not readable as JSON ({error}); remove it and start the stack again") from error
    if not isinstance(runtime, dict):
        raise SettingError(f"{path} does not hold an object; remove it and start the stack again")
    port = runtime.get("port", 8000)
    if type(port) is not int or not 1 <= port <= 65535:
        raise SettingError(f"{path}: port {port!r} is not a port; remove the file and start the stack again")
    return runtime
