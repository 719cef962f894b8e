"""Damaged frames through the decoder and the checks of trades: `make fuzz N=1000000`."""
