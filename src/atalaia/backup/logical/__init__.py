"""Logical backups: globals and one `pg_dump -Fd` a database, read through pipes while workers write them,
restored by COPY on several connections, compared table by table. pg_restore can do it without Atalaia.
"""
