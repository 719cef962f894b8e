"""Listening to what the exchange says of our own orders. It only rings: what became of an order is always asked for."""
