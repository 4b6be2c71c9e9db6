"""Writes the environment's document anew from what really runs: configuration, backups, problems seen.

A pure function of facts; whoever asks for it (the command line) collects them.
"""
