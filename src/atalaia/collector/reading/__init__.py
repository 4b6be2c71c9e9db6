"""Reads files: found by globs, known by device, inode and fingerprint, read in blocks of whole lines.

Positions (what is acknowledged, per file) live here as well.
"""
