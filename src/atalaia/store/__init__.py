"""The log store: write-ahead log, memory table, segments, catalogue, retention. Knows no HTTP and no LogQL.

The format on disk is written down in docs/store-format.md.
"""
