"""promtail.yaml -> Plan: every key is understood or refused with its line, all problems at once.

Stages build themselves from their nodes (`stages/registry.py`).
"""
