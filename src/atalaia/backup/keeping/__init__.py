"""Keeping backups: what retention removes, what runs when, what is promised and when its absence is an alarm.
The decisions are pure functions; `prune`, `gather` and `serving` carry them out.
"""
