"""The Loki HTTP API over store and logql: pushes, queries, labels, series, readiness.

Answers have Loki's form; see docs/logql.md for what of the language is built.
"""
