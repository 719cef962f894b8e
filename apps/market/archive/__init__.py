"""The archive: trades, quotes and coverage as Parquet files by UTC day and symbol, written from the raw segments.

layout      where files lie and how they are written
tables      their columns, and the one way to merge rows into them
collecting  entries of a stream -> rows, without a clock or a database
segments    entries of one shard from where the archive stands
moving      slices into parts, parts into day files
covering    the ledger of a day
recordings  CSV files
carrying    import and export
reading     tapes for simulations
pruning     retention
standing    what is there
"""
