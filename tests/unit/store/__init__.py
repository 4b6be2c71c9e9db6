"""Tests of the log store that need no files."""
