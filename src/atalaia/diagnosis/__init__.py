"""Explains what the logs say: knowledge of PostgreSQL's messages, classification, incidents, and what to do.

It reads logs through LogQL only (`reader.LogReader`), so it works as well on a remote Loki as on the embedded
store.
"""
