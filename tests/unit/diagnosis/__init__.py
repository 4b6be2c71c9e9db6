"""Diagnosis: knowledge against real messages, time patterns, and whole stories over a small in-memory LogQL reader.

messages.json holds texts of PostgreSQL 16.14 and 15.18 servers ("server", "stderr") and of their source ("source").
"""
