"""Parameters of strategies: units and bounds, one stored form, and words that name what is wrong."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from apps.engine.strategies import STRATEGIES
from apps.engine.strategies.parameters import EXIT_PARAMETERS, ParameterSpec, validate

SPECS = (
    ParameterSpec("window", "minutes", 1, 120, True, 15, "A whole number."),
    ParameterSpec("rise", "per cent", 0.01, 100, False, None, "A number that must be given."),
    ParameterSpec("stop", "per cent", 0, 99, False, "2", "An exact number.", exact=True),
    ParameterSpec("flag", "1 for yes, 0 for no", 0, 1, True, 1, "Yes or no."),
)

STORED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"rise": 2}, {"window": 15, "rise": 2.0, "stop": "2", "flag": 1}),
    ({"rise": "2.50", "window": "30"}, {"window": 30, "rise": 2.5, "stop": "2", "flag": 1}),
    ({"rise": 0.01, "window": 120.0}, {"window": 120, "rise": 0.01, "stop": "2", "flag": 1}),
    ({"rise": 100, "stop": "2.00"}, {"window": 15, "rise": 100.0, "stop": "2", "flag": 1}),
    ({"rise": 1, "stop": Decimal("0.100")}, {"window": 15, "rise": 1.0, "stop": "0.1", "flag": 1}),
    ({"rise": 1, "stop": "-0"}, {"window": 15, "rise": 1.0, "stop": "0", "flag": 1}),
    ({"rise": 1, "flag": False}, {"window": 15, "rise": 1.0, "stop": "2", "flag": 0}),
]


@pytest.mark.parametrize(("given", "stored"), STORED)
def test_values_are_stored_in_one_form_with_every_default(given: dict[str, Any], stored: dict[str, Any]) -> None:
    values = validate(SPECS, given)
    assert values == stored
    assert [type(value) for value in values.values()] == [int, float, str, int]
    assert validate(SPECS, values) == values


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, r"rise is missing: from 0.01 to 100 \(per cent\)"),
    ({"rise": 1, "rises": 2}, r"there is no parameter rises \(there are: window, rise, stop, flag\)"),
    ({"rise": 0}, r"rise=0 is not from 0.01 to 100 \(per cent\)"),
    ({"rise": 100.1}, r"rise=100.1 is not from 0.01 to 100 \(per cent\)"),
    ({"rise": "2 %"}, r"rise='2 %' is not a number of per cent"),
    ({"rise": None}, "rise='None' is not a number of per cent"),
    ({"rise": True}, "rise='True' is not a number of per cent"),
    ({"rise": float("nan")}, "rise='nan' is not a number of per cent"),
    ({"rise": float("inf")}, "rise=inf is not from"),
    ({"rise": 10**400}, "rise=1000000000000000000000000000000000000000 is not from"),
    ({"rise": [2]}, "is not a number of per cent"),
    ({"rise": 1, "window": 15.5}, r"window=15.5 must be a whole number \(minutes\)"),
    ({"rise": 1, "window": True}, "window='True' is not a number of minutes"),
    ({"rise": 1, "stop": "1.0000001"}, r"stop=1.0000001 has more than 6 decimals \(per cent\)"),
    ({"rise": 1, "stop": "1e-999999"}, "has more than 6 decimals"),
    ({"rise": 1, "flag": 2}, "flag=2 is not from 0 to 1"),
]


@pytest.mark.parametrize(("given", "words"), REFUSED)
def test_what_is_refused_is_named_with_its_unit_and_bounds(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        validate(SPECS, given)


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_defaults_that_it_can_judge_with_and_the_exits_of_all(name: str) -> None:
    module = STRATEGIES[name]
    values = module.validate({})
    assert list(values)[-len(EXIT_PARAMETERS) :] == [spec.name for spec in EXIT_PARAMETERS]
    assert module.pack(values).dtype == float
    assert 0 < module.window_minutes(values) <= module.bars_needed(values)
    assert all(spec.words.endswith(".") and spec.unit for spec in module.parameters)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_kernel_is_never_given_a_value_that_validation_would_refuse(name: str) -> None:
    module = STRATEGIES[name]
    own = [spec for spec in module.parameters if spec not in EXIT_PARAMETERS]
    for spec in own:
        for wrong in (spec.minimum - 1, spec.maximum + spec.maximum / 8 + 1, "many"):
            with pytest.raises(ValueError, match=spec.name):
                module.pack({**module.validate({}), spec.name: wrong})


def test_an_entry_that_would_be_sold_where_it_is_bought_is_refused() -> None:
    given = {"entry_deviations": 2, "exit_deviations": 2}
    with pytest.raises(ValueError, match=r"exit_deviations=2\.0 must be below entry_deviations=2\.0"):
        STRATEGIES["mean_reversion"].validate(given)
    values = {**STRATEGIES["mean_reversion"].validate({}), **given}
    with pytest.raises(ValueError, match="must be below"):
        STRATEGIES["mean_reversion"].pack(values)
