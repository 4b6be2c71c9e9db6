"""The repository's inside: places that keep objects, chunks compressed and sealed, packs, manifests, keys.
It knows nothing of PostgreSQL: a backup is a set of named members, written as streams and read back.
"""
