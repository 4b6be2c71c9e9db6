"""Tests of what LogQL means: stages as SQL and in Python, windows, aggregations.
`sqlcheck` runs a query's pipeline over a few entries in DuckDB."""
