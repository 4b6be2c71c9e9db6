"""Tests of queries' queue, threads and ends."""
