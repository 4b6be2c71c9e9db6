"""Entries in files: Parquet and JSON Lines, as `store export` or another program wrote them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb
import orjson
import pyarrow as pa

from atalaia.environment.errors import InputError
from atalaia.store.batch import METADATA, SCHEMA, canonical

_PIECE_BYTES = 8 << 20
_BATCH = 2048
_JSON_COLUMNS = "{tenant: 'VARCHAR', ts: 'BIGINT', labels: 'JSON', line: 'VARCHAR', metadata: 'MAP(VARCHAR, VARCHAR)'}"
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "512MB",
    "temp_directory": "",
    # Nothing is downloaded at run time.
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}


def rows_of(path: Path) -> Iterator[pa.Table]:
    """The rows of a file in their order, in tables of some MiB: batch.SCHEMA and `tenant` (null for none).

    ts: ns since 1970, or a Parquet timestamp; labels: JSON, a map or a struct. Raises InputError naming the file.
    """
    try:
        with duckdb.connect(config=_CONFIG) as connection:
            reader = connection.sql(f"SELECT {_columns(connection, path)}").to_arrow_reader(_BATCH)
            row, waiting, size = 0, [], 0
            for batch in reader:
                waiting.append(batch)
                size += batch.nbytes
                if size >= _PIECE_BYTES:
                    yield _checked(waiting, path, row)
                    row += sum(map(len, waiting))
                    waiting, size = [], 0
            if waiting:
                yield _checked(waiting, path, row)
    except (duckdb.Error, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _columns(connection: duckdb.DuckDBPyConnection, path: Path) -> str:
    """What to select, and FROM where."""
    name = "'" + str(path).replace("'", "''") + "'"
    if not path.name.endswith(".parquet"):
        return f"* FROM read_json({name}, format = 'newline_delimited', columns = {_JSON_COLUMNS})"
    found = connection.sql(f"FROM read_parquet({name})")
    types = {column: str(kind) for column, kind in zip(found.columns, found.types, strict=True)}
    if missing := {"ts", "labels", "line"} - types.keys():
        raise InputError(f"{path} has no column {', '.join(sorted(missing))}", "an entry has ts, labels and line")
    columns = [
        "tenant::VARCHAR AS tenant" if "tenant" in types else "NULL::VARCHAR AS tenant",
        "epoch_ns(ts) AS ts" if types["ts"].startswith("TIMESTAMP") else "ts::BIGINT AS ts",
        "labels" if types["labels"] == "VARCHAR" else "to_json(labels) AS labels",
        "line::VARCHAR AS line",
        f"{'metadata' if 'metadata' in types else 'NULL'}::MAP(VARCHAR, VARCHAR) AS metadata",
    ]
    return f"{', '.join(columns)} FROM read_parquet({name})"


def _checked(batches: list[pa.RecordBatch], path: Path, row: int) -> pa.Table:
    """The rows in the columns' types; `row` is the number of the first."""
    table = pa.Table.from_batches(batches).combine_chunks()
    for name in ("ts", "labels", "line"):
        column = table.column(name)
        if column.null_count:
            at = row + column.is_null().index(True).as_py()
            raise InputError(f"row {at + 1} of {path} has no {name}", "an entry has ts, labels and line")
    labels = table.column("labels").combine_chunks().dictionary_encode()
    labels = labels.chunk(0) if isinstance(labels, pa.ChunkedArray) else labels
    texts = pa.array([_canonical(text) for text in labels.dictionary.to_pylist()], pa.utf8())
    columns = [
        table.column("ts").combine_chunks(),
        pa.DictionaryArray.from_arrays(labels.indices, texts),
        table.column("line").combine_chunks(),
        table.column("metadata").cast(METADATA).combine_chunks(),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA).append_column("tenant", table.column("tenant"))


def _canonical(text: str) -> str:
    """The canonical spelling; what is not an object of strings stays, and the store says what is wrong with it."""
    try:
        labels = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    good = isinstance(labels, dict) and all(isinstance(value, str) for value in labels.values())
    return canonical(labels) if good else text
