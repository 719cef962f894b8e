"""Backtest: the engine of the live road over recorded trades, what-if and sweeps of parameters."""
