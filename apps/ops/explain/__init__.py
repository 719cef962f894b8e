"""Why each order was placed and each other one was not: the chain from the trades on the stream to the ledger."""
