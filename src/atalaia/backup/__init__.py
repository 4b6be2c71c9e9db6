"""Backups: dumps written safely, listed in a catalogue, proven by restoring them, restored to a new place.

`service` has what commands call; the other modules are its parts. docs/backup.md describes the repository.
"""
