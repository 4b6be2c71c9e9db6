"""Checks against collections of cases that are not ours; each is skipped where its collection is absent."""
