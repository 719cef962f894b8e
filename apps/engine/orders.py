"""The life of an order as a table: (status, event) -> status. What is not in the table cannot happen.

An order is DENIED by us and REJECTED by a venue. UNKNOWN is a status of its own: the venue may or may not have the
order, and only its answer to a question tells.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import Final


class Status(StrEnum):
    INITIALIZED = "INITIALIZED"
    DENIED = "DENIED"
    SUBMITTING = "SUBMITTING"
    SUBMITTED = "SUBMITTED"
    ACCEPTED = "ACCEPTED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    UNKNOWN = "UNKNOWN"


class Event(StrEnum):
    DENY = "DENY"  # we do not send it
    SUBMIT = "SUBMIT"  # we are about to send it
    RECEIVE = "RECEIVE"  # the venue has it, and has not yet said whether it accepts
    ACCEPT = "ACCEPT"  # the venue works it
    REJECT = "REJECT"  # the venue refused it
    LOSE = "LOSE"  # no answer, or none that can be understood
    FILL = "FILL"  # a part was executed
    COMPLETE = "COMPLETE"  # the last part was executed
    ASK_CANCEL = "ASK_CANCEL"  # we want it back; what becomes of it is still the venue's to say
    CANCEL = "CANCEL"
    EXPIRE = "EXPIRE"  # its time was over, unsent or at the venue; or the venue never received it


class StateError(ValueError):
    """An event that this status cannot have."""


ENDED: Final = frozenset({Status.DENIED, Status.FILLED, Status.CANCELED, Status.REJECTED, Status.EXPIRED})
AT_VENUE: Final = frozenset({Status.SUBMITTED, Status.ACCEPTED, Status.PARTIALLY_FILLED})
UNSETTLED: Final = frozenset({Status.SUBMITTING, Status.UNKNOWN})

_WORKING: Final = {
    Event.FILL: Status.PARTIALLY_FILLED,
    Event.COMPLETE: Status.FILLED,
    Event.CANCEL: Status.CANCELED,
    Event.EXPIRE: Status.EXPIRED,
}
_ANSWERS: Final = {
    **_WORKING,  # a report of the fill may overtake the answer to the request
    Event.RECEIVE: Status.SUBMITTED,
    Event.ACCEPT: Status.ACCEPTED,
    Event.REJECT: Status.REJECTED,
}


def _late(status: Status) -> dict[Event, Status]:
    """The answer to the request comes after something that tells more: it changes nothing."""
    return {Event.RECEIVE: status, Event.ACCEPT: status}


_ROWS: Final[dict[Status, dict[Event, Status]]] = {
    Status.INITIALIZED: {
        Event.DENY: Status.DENIED,
        Event.SUBMIT: Status.SUBMITTING,
        Event.CANCEL: Status.CANCELED,
        Event.EXPIRE: Status.EXPIRED,
    },
    Status.SUBMITTING: {**_ANSWERS, Event.LOSE: Status.UNKNOWN, Event.ASK_CANCEL: Status.SUBMITTING},
    # Asking may fail too: then UNKNOWN stays what it is, and the question is put again.
    Status.UNKNOWN: {**_ANSWERS, Event.LOSE: Status.UNKNOWN, Event.ASK_CANCEL: Status.UNKNOWN},
    Status.SUBMITTED: {
        **_WORKING,
        Event.RECEIVE: Status.SUBMITTED,
        Event.ACCEPT: Status.ACCEPTED,
        Event.REJECT: Status.REJECTED,
        Event.ASK_CANCEL: Status.SUBMITTED,
    },
    # Some venues accept first and look at the money afterwards.
    Status.ACCEPTED: {
        **_WORKING,
        **_late(Status.ACCEPTED),
        Event.REJECT: Status.REJECTED,
        Event.ASK_CANCEL: Status.ACCEPTED,
    },
    Status.PARTIALLY_FILLED: {
        **_WORKING,
        **_late(Status.PARTIALLY_FILLED),
        Event.ASK_CANCEL: Status.PARTIALLY_FILLED,
    },
    # A fill may cross our cancel, or reach us after the venue's expiry: the money has moved, so it is booked. The order
    # has ended all the same.
    Status.CANCELED: {**_late(Status.CANCELED), Event.FILL: Status.CANCELED, Event.COMPLETE: Status.FILLED},
    Status.EXPIRED: {**_late(Status.EXPIRED), Event.FILL: Status.EXPIRED, Event.COMPLETE: Status.FILLED},
    Status.FILLED: _late(Status.FILLED),
    # Nothing was sent, or the venue refused it: any further event is an error worth a look.
    Status.DENIED: {},
    Status.REJECTED: {},
}

TABLE: Final = MappingProxyType(
    {(status, event): after for status, row in _ROWS.items() for event, after in row.items()}
)


def next_status(status: Status, event: Event) -> Status:
    """The status after `event`. Raises `StateError` for a pair that is not in the table."""
    try:
        return TABLE[status, event]
    except KeyError:
        raise StateError(f"an order that is {status} cannot have {event}") from None
