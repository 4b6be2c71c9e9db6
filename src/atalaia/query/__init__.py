"""Runs LogQL over a store: DuckDB, what a query may spend and when it ends, the first entries, the series.

Knows no HTTP. api/ answers with it, and rules/ evaluates with it.
"""
