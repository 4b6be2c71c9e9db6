"""Promtail's pipeline stages, each working on a whole batch of entries at once.

A stage is a plain callable: entries in, entries out. What a stage cannot do to a row, it leaves that row without.
"""
