"""Outputs: where batches go, and the promise that each keeps.

Atalaia's store counts bytes (exactly once); any other Loki gets the same timestamps again (at least once).
"""
