"""Every number of apps/engine/timeouts.py stands in a relation, and past its neighbour it breaks that relation."""

from __future__ import annotations

import re

import pytest

from apps.engine import timeouts

NUMBERS = {name: value for name, value in vars(timeouts).items() if name.isupper() and not name.startswith("_")}
NAMED_IN = {words: set(holds.__code__.co_names) for words, holds in timeouts._RELATIONS}
# Counts, not times.
WITHOUT_NEIGHBOUR = {"EXCHANGE_SUBSCRIPTIONS_MAX", "FEED_SYMBOL_SILENCE_GAPS"}
PLACES = [(words, name) for words, names in NAMED_IN.items() for name in sorted(names)]


def test_the_numbers_are_in_order() -> None:
    assert not timeouts.broken_relations()


@pytest.mark.parametrize(("words", "name"), PLACES, ids=lambda value: value.replace(" ", "-"))
def test_a_number_past_its_neighbour_is_named(words: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_by = []
    for value in (0, 10**9):
        monkeypatch.setattr(timeouts, name, value)
        broken_by.append(words in timeouts.broken_relations())
    assert any(broken_by), f"{words!r} holds whatever {name} is"


def test_every_number_stands_in_a_relation() -> None:
    assert set(NUMBERS) - set().union(*NAMED_IN.values()) == WITHOUT_NEIGHBOUR


def test_relations_say_different_things() -> None:
    assert len(NAMED_IN) == len(timeouts._RELATIONS)


def test_every_name_carries_its_unit() -> None:
    assert {name for name in NUMBERS if not re.search(r"_(SECONDS|MS)$", name)} == WITHOUT_NEIGHBOUR
