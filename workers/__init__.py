"""Long-running processes that speak to the outside: the ingest and the local exchange."""
