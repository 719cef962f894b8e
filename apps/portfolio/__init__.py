"""Sessions, accounts, reservations, the ledger, positions, equity."""
