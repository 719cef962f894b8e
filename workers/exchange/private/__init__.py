"""Accounts, orders and the private stream: the half of the exchange that needs a key."""
