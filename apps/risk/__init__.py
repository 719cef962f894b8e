"""Limits, risk state, decisions with every check, order intents."""
