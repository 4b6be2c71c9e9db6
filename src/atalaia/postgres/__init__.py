"""One PostgreSQL server is one `Cluster`: its binaries, place, settings, connection, start and stop.

Nothing here knows what supervises a server or reads its logs. Binaries are found, never downloaded.
"""
