"""What Loki's clients send, as Arrow: protobuf and JSON pushes, their bounds, label texts and times.

Knows no HTTP: the store's API and the collector's push listener read bodies with it.
"""
