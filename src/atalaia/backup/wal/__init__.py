"""Continuous WAL: streamed from servers into an archive of the repository, fed to recovery, to any point in time.
`receiving` streams, `archive` keeps, `feed` gives it back, `targets` and `statement` say where to stop.
"""
