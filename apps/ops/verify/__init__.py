"""Checking the invariants against what is stored: each check says how many things it compared; none is not enough."""
