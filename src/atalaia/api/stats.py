"""The statistics of a query's answer, as Loki gives them (grafana/loki pkg/logqlmodel/stats/stats.proto)."""

from __future__ import annotations

import time
from collections.abc import Sequence

import orjson

from atalaia.query.scheduler import Question
from atalaia.store.relation import Reading


def statistics(question: Question, returned: int) -> bytes:
    """JSON. Segments stand for Loki's chunks in the store: `chunks` are row groups; memory tables for the ingester.

    What this store does not count (metadata's bytes, duplicates, the time of single reads) is 0.
    """
    ticket = question.ticket
    memory = [reading for reading in ticket.readings if not reading.file_bytes]
    segments = [reading for reading in ticket.readings if reading.file_bytes]
    seconds = time.monotonic() - question.began if question.began is not None else 0.0
    size, lines = sum(r.line_bytes for r in ticket.readings), sum(r.rows for r in ticket.readings)
    rate = 1 / seconds if seconds > 0 else 0.0
    summary = {
        "bytesProcessedPerSecond": int(size * rate),
        "linesProcessedPerSecond": int(lines * rate),
        "totalBytesProcessed": size,
        "totalLinesProcessed": lines,
        "execTime": round(seconds, 6),
        "queueTime": round(question.waited, 6),
        "subqueries": 0,
        "totalEntriesReturned": returned,
        "splits": 0,
        "shards": 0,
        "totalPostFilterLines": ticket.passed,
        "totalStructuredMetadataBytesProcessed": 0,
    }
    ingester = {
        "totalReached": int(bool(memory)),
        "totalChunksMatched": len(memory),
        "totalBatches": len(memory),
        "totalLinesSent": sum(reading.rows for reading in memory),
        "store": _store([], memory),
    }
    return orjson.dumps({"summary": summary, "querier": {"store": _store(segments, [])}, "ingester": ingester})


def _store(segments: Sequence[Reading], memory: Sequence[Reading]) -> dict[str, object]:
    chunk = {
        "headChunkBytes": sum(reading.line_bytes for reading in memory),
        "headChunkLines": sum(reading.rows for reading in memory),
        "decompressedBytes": sum(reading.line_bytes for reading in segments),
        "decompressedLines": sum(reading.rows for reading in segments),
        "compressedBytes": sum(reading.file_bytes for reading in segments),
        "totalDuplicates": 0,
        "postFilterLines": 0,
        "headChunkStructuredMetadataBytes": 0,
        "decompressedStructuredMetadataBytes": 0,
    }
    return {
        # A segment without an index is read as a whole.
        "totalChunksRef": sum(reading.groups or 1 for reading in segments),
        "totalChunksDownloaded": sum(reading.read if reading.groups else 1 for reading in segments),
        "chunksDownloadTime": 0,
        "queryReferencedStructuredMetadata": False,
        "chunk": chunk,
        "chunkRefsFetchTime": 0,
        "congestionControlLatency": 0,
        "pipelineWrapperFilteredLines": 0,
    }
