"""Speeds: `make bench` prints one table, with wc, rg and zstd on the same file in the same run for scale.

docs/benchmarks.md says how to read it, `python -m bench --help` what can be chosen. No test asserts a speed.
"""
