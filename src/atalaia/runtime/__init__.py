"""Starts, stops and inspects operating-system processes, and decides under which account servers run.

A process is known by its PID and its start time, so that a PID used again is never mistaken for it.
"""
