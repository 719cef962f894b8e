"""Instruments, bars, coverage, cursors, feed epochs; public REST of the exchange; raw segments."""
