"""One account's desk: what is decided, ordered, filled and booked, without a database. Live and simulated alike."""
