"""Collects logs: sources -> lines -> stages -> sink, in Arrow batches; positions move after acknowledgement.

Reads promtail.yaml, PostgreSQL's jsonlog and plain files; pushes to Atalaia's store or to any Loki.
"""
