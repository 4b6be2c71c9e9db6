"""Imports log files that people have in hand: finds what is in them, recognises each line, pushes entries once.

A file is a source of its uncompressed bytes; `importer.Importer` takes any store that counts them.
"""
