"""Strategies, their signals, and the drain that finds them."""
