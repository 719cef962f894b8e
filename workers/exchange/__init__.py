"""The local exchange: a stand-in for MEXC spot that speaks its WebSocket and public REST, see docs/exchange.md."""
