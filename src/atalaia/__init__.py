"""Atalaia: PostgreSQL servers, their logs and their backups, watched over by one command.

The folders' order and the arrows between them are drawn in docs/architecture.md.
"""

__version__ = "0.1.0"
