"""Listeners: sources that are not files (syslog, journal, Docker, pushes, GELF, stdin).

What they receive goes to a spool on disk, which is then read as any file is.
"""
