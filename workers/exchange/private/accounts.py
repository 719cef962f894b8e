"""Accounts and their keys. Keys are made here, for tests alone, and live in files that only their owner can read."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Final

from workers.exchange.private.values import plain_decimal

KEY: Final = re.compile(r"mx0[A-Za-z0-9]{13,37}")
TEST_KEY_PREFIX: Final = "mx0test"
FEE_ASSETS: Final = ("quote", "received", "MX")
_OPTIONS: Final = {
    "name", "balances", "maker_fee", "taker_fee", "fee_asset", "mx_price", "symbols", "can_trade", "api_key_file",
    "secret_file",
}  # fmt: skip


class AccountFileError(Exception):
    """An account that cannot be used; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Account:
    """What is agreed with one customer. Fees are fractions, None for the instrument's own."""

    name: str
    api_key: str
    secret: str = field(repr=False)
    balances: Mapping[str, Decimal] = field(default_factory=lambda: {"USDT": Decimal(100_000)})
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None
    fee_asset: str = "quote"  # "quote", "received" (base for a buy), or "MX" as long as there is enough of it
    mx_price: Decimal = Decimal(2)  # what one MX costs in any quote asset
    symbols: frozenset[str] | None = None  # those the key may trade, None for all
    can_trade: bool = True


def read_account(path: Path) -> Account:
    """An account from its JSON file; makes key and secret beside it if they do not exist. Raises AccountFileError."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AccountFileError(f"{path}: cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise AccountFileError(f"{path}: must be an object")
    if unknown := set(document) - _OPTIONS:
        raise AccountFileError(f"{path}: unknown: {', '.join(sorted(unknown))}")
    try:
        return _account(path, document)
    except (ValueError, TypeError, AttributeError) as error:
        raise AccountFileError(f"{path}: {error}") from None


def _account(path: Path, document: Mapping[str, object]) -> Account:
    balances = document.get("balances", {"USDT": "100000"})
    symbols = document.get("symbols")
    if not isinstance(balances, dict) or not (symbols is None or isinstance(symbols, list)):
        raise ValueError("balances must be an object, symbols a list")
    fee_asset = str(document.get("fee_asset", "quote"))
    if fee_asset not in FEE_ASSETS:
        raise ValueError(f"fee_asset must be one of {', '.join(FEE_ASSETS)}")
    key_path = path.parent / str(document.get("api_key_file", f"{path.stem}.key"))
    secret_path = path.parent / str(document.get("secret_file", f"{path.stem}.secret"))
    return Account(
        name=str(document.get("name", path.stem)),
        api_key=_test_key(key_path),
        secret=_kept(secret_path, secrets.token_hex(16)),
        balances={str(asset): _amount("balances", amount) for asset, amount in balances.items()},
        maker_fee=_rate(document, "maker_fee"),
        taker_fee=_rate(document, "taker_fee"),
        fee_asset=fee_asset,
        mx_price=_amount("mx_price", document.get("mx_price", "2")),
        symbols=None if symbols is None else frozenset(map(str, symbols)),
        can_trade=document.get("can_trade", True) is True,
    )


def _amount(name: str, value: object) -> Decimal:
    amount = plain_decimal(value) if isinstance(value, str) else None
    if amount is None:
        raise ValueError(f"{name}: {value!r} must be a decimal number written as text")
    return amount


def _rate(document: Mapping[str, object], name: str) -> Decimal | None:
    if document.get(name) is None:
        return None
    rate = _amount(name, document[name])
    if rate >= 1:
        raise ValueError(f"{name}: {rate} must be a fraction below 1")
    return rate


def _test_key(path: Path) -> str:
    """The key of a file. One that was not made here is refused, so that no real key is ever shown to a stand-in."""
    key = _kept(path, TEST_KEY_PREFIX + secrets.token_hex(6))
    if not key.startswith(TEST_KEY_PREFIX) or not KEY.fullmatch(key):
        raise AccountFileError(f"{path}: only keys that were made here are used; they begin with {TEST_KEY_PREFIX}")
    return key


def _kept(path: Path, fresh: str) -> str:
    """The text of a file that only its owner may read; made with `fresh` if it does not exist."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            raise AccountFileError(f"{path}: others may read it; its mode must be 0600") from None
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise AccountFileError(f"{path}: cannot be made: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{fresh}\n")
    return fresh
