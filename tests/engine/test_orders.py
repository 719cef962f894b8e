"""The life of an order: every pair of status and event, those that are allowed written out here by hand."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.engine.orders import AT_VENUE, ENDED, TABLE, UNSETTLED, Event, StateError, Status, next_status

# (status, events that are allowed and what they lead to); everything else must raise.
ALLOWED = {
    "INITIALIZED": "DENY>DENIED SUBMIT>SUBMITTING CANCEL>CANCELED EXPIRE>EXPIRED",
    "SUBMITTING": "RECEIVE>SUBMITTED ACCEPT>ACCEPTED REJECT>REJECTED LOSE>UNKNOWN FILL>PARTIALLY_FILLED "
    "COMPLETE>FILLED ASK_CANCEL>SUBMITTING CANCEL>CANCELED EXPIRE>EXPIRED",
    "UNKNOWN": "RECEIVE>SUBMITTED ACCEPT>ACCEPTED REJECT>REJECTED LOSE>UNKNOWN FILL>PARTIALLY_FILLED "
    "COMPLETE>FILLED ASK_CANCEL>UNKNOWN CANCEL>CANCELED EXPIRE>EXPIRED",
    "SUBMITTED": "RECEIVE>SUBMITTED ACCEPT>ACCEPTED REJECT>REJECTED FILL>PARTIALLY_FILLED COMPLETE>FILLED "
    "ASK_CANCEL>SUBMITTED CANCEL>CANCELED EXPIRE>EXPIRED",
    "ACCEPTED": "RECEIVE>ACCEPTED ACCEPT>ACCEPTED REJECT>REJECTED FILL>PARTIALLY_FILLED COMPLETE>FILLED "
    "ASK_CANCEL>ACCEPTED CANCEL>CANCELED EXPIRE>EXPIRED",
    "PARTIALLY_FILLED": "RECEIVE>PARTIALLY_FILLED ACCEPT>PARTIALLY_FILLED FILL>PARTIALLY_FILLED COMPLETE>FILLED "
    "ASK_CANCEL>PARTIALLY_FILLED CANCEL>CANCELED EXPIRE>EXPIRED",
    "FILLED": "RECEIVE>FILLED ACCEPT>FILLED",
    "CANCELED": "RECEIVE>CANCELED ACCEPT>CANCELED FILL>CANCELED COMPLETE>FILLED",
    "EXPIRED": "RECEIVE>EXPIRED ACCEPT>EXPIRED FILL>EXPIRED COMPLETE>FILLED",
    "DENIED": "",
    "REJECTED": "",
}
EXPECTED = {
    (status, step.split(">")[0]): step.split(">")[1] for status, steps in ALLOWED.items() for step in steps.split()
}


@pytest.mark.parametrize(("status", "event"), list(product(Status, Event)))
def test_every_pair_of_status_and_event_leads_where_the_list_says_or_raises(status: Status, event: Event) -> None:
    expected = EXPECTED.get((status.value, event.value))
    if expected is None:
        with pytest.raises(StateError, match=f"{status} cannot have {event}"):
            next_status(status, event)
    else:
        assert next_status(status, event) == expected


def test_the_list_above_names_every_status_and_the_table_nothing_else() -> None:
    assert set(ALLOWED) == {status.value for status in Status}
    assert len(TABLE) == len(EXPECTED)


def test_every_status_is_either_ours_unsettled_at_the_venue_or_ended() -> None:
    groups = [{Status.INITIALIZED}, UNSETTLED, AT_VENUE, ENDED]
    assert set().union(*groups) == set(Status)
    assert sum(len(group) for group in groups) == len(Status)


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_no_sequence_of_events_leaves_an_ended_order_alive(events: list[Event]) -> None:
    status, ended = Status.INITIALIZED, False
    for event in events:
        try:
            status = next_status(status, event)
        except StateError:
            continue
        ended = ended or status in ENDED
        assert not ended or status in ENDED


@given(st.lists(st.sampled_from(Event), max_size=12))
def test_nothing_reaches_a_venue_without_having_been_submitting(events: list[Event]) -> None:
    status, seen = Status.INITIALIZED, []
    for event in events:
        try:
            status = next_status(status, event)
        except StateError:
            continue
        seen.append(status)
        if status in AT_VENUE | {Status.UNKNOWN, Status.REJECTED}:
            assert Status.SUBMITTING in seen
