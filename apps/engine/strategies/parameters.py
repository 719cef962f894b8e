"""Parameters of a strategy: each with its unit and bounds, and one way to check them.

A version stores what `validate` gave: every parameter by name, defaults filled in, in one form (whole numbers as int,
exact ones as decimal text, all others as float). So two versions are equal exactly when they judge alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

DECIMALS_MAX: Final = 6  # of an exact parameter

MINUTES: Final = "minutes"
BARS: Final = "bars"
PER_CENT: Final = "per cent"
POINTS: Final = "points from 0 to 100"
QUOTE_UNITS: Final = "quote units"
FACTOR: Final = "times"
DEVIATIONS: Final = "standard deviations"
YES_OR_NO: Final = "1 for yes, 0 for no"


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    """One parameter. `default` None: it must be given. `exact`: money is computed from it, so it is never a float."""

    name: str
    unit: str
    minimum: float
    maximum: float
    whole: bool
    default: int | float | str | None
    words: str
    exact: bool = False

    def read(self, value: object) -> int | float | str:
        """The value in the form in which it is stored. Raises ValueError naming parameter, unit and bounds."""
        if isinstance(value, bool) and self.unit == YES_OR_NO:
            value = int(value)
        try:
            if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
                raise TypeError(value)
            number = Decimal(str(value).strip())
            in_bounds = Decimal(str(self.minimum)) <= number <= Decimal(str(self.maximum))
        except (TypeError, InvalidOperation) as error:  # InvalidOperation: no number at all, or NaN in a comparison
            raise ValueError(f"{self.name}={str(value)[:40]!r} is not a number of {self.unit}") from error
        if not in_bounds:
            raise ValueError(
                f"{self.name}={str(value)[:40]} is not from {self.minimum:g} to {self.maximum:g} ({self.unit})"
            )
        return self._stored(number + 0)  # minus zero is zero

    def _stored(self, number: Decimal) -> int | float | str:
        if self.whole:
            if number != number.to_integral_value():
                raise ValueError(f"{self.name}={number} must be a whole number ({self.unit})")
            return int(number)
        if not self.exact:
            return float(number)
        if number != round(number, DECIMALS_MAX):
            raise ValueError(f"{self.name}={number} has more than {DECIMALS_MAX} decimals ({self.unit})")
        return format(number.normalize(), "f")


# What ends a position, the same for every strategy (apps.engine.exits reads them).
EXIT_PARAMETERS: Final = (
    ParameterSpec(
        "stop_loss_pct", PER_CENT, 0.01, 99, False, "2", "Sell when the price is this far below the entry.", exact=True
    ),
    ParameterSpec(
        "take_profit_pct", PER_CENT, 0, 1000, False, "6", "Sell when it is this far above it; 0 is off.", exact=True
    ),
    ParameterSpec(
        "trailing_stop_pct", PER_CENT, 0, 99, False, "0",
        "Sell when it is this far below its highest since the entry; 0 is off.", exact=True,
    ),
    ParameterSpec("max_holding_minutes", MINUTES, 1, 10_080, True, 240, "Sell when the position is this old."),
    ParameterSpec(
        "exit_on_signal", YES_OR_NO, 0, 1, True, 1, "Sell when the strategy says that the entry's reason is gone."
    ),
)  # fmt: skip


def validate(specs: Sequence[ParameterSpec], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in the form in which a version stores them, in the order of `specs`.

    Raises ValueError for a name that is not declared, for a missing one without a default, and for a value that is not
    a number or out of its bounds; the words name the parameter, its unit and its bounds.
    """
    unknown = sorted(set(parameters) - {spec.name for spec in specs})
    if unknown:
        raise ValueError(f"there is no parameter {unknown[0]} (there are: {', '.join(spec.name for spec in specs)})")
    return {spec.name: spec.read(_given(spec, parameters)) for spec in specs}


def numbers(specs: Sequence[ParameterSpec], parameters: Mapping[str, Any]) -> dict[str, float]:
    """The values of these parameters as floats for a kernel; other names are passed over, defaults are not filled in.

    Raises ValueError as `validate` does: a version was stored with every value, so a missing one is an error.
    """
    found = {}
    for spec in specs:
        if spec.name not in parameters:
            raise ValueError(f"{spec.name} is missing ({spec.unit})")
        found[spec.name] = float(spec.read(parameters[spec.name]))
        assert math.isfinite(found[spec.name])
    return found


def _given(spec: ParameterSpec, parameters: Mapping[str, Any]) -> object:
    if spec.name in parameters:
        return parameters[spec.name]
    if spec.default is None:
        raise ValueError(f"{spec.name} is missing: from {spec.minimum:g} to {spec.maximum:g} ({spec.unit})")
    return spec.default
