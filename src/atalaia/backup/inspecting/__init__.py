"""The truth about dumps that people already have: what is in one, what is wrong with it, how it restores.
A repaired copy where that is possible. Nothing here needs an environment; only `--prove` starts a server.
"""
