"""Writes of the market's rows."""
