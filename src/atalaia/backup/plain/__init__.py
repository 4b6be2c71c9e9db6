"""Plain backups: pg_dumpall's text, read while it streams, restored by psql, compared by dumping again.
Anyone can restore one without Atalaia.
"""
