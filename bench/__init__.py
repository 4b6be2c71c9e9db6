"""Speeds: `make bench` prints one table, with wc, grep and zstd on the same file in the same run for scale.

`python -m bench --help` lists what can be chosen. Nothing here is asserted by a test.
"""
