"""Reads and queries any Loki-compatible server over HTTP; pushes imported files to a store of Atalaia.

`entries.LogEntry` is what everybody who reads logs is handed; nothing here knows where the server runs.
"""
