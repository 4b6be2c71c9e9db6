"""Physical backups: a server's files over the replication protocol, with the WAL that makes them consistent.
Full or incremental; restored in parallel, recovered to their end or to a moment after it.
"""
