"""The ingest worker: the exchange's frames in, checked trades, quotes and watermarks on the stream out."""
