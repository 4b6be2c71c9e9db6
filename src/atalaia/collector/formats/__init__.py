"""Formats: how a block of bytes becomes entries, before any stage: plain lines, PostgreSQL's logs, spool records.

A format is a function; `collector/pipeline.py` lists them by name.
"""
