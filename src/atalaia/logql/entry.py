"""An entry on its way through a pipeline: its line, its labels by their origin, its error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .extract import DETAILS, ERROR


class Entry:
    """Labels named as a query sees them; no name is in two of `stream`, `metadata` and `parsed`.

    The stream comes first, then structured metadata, then parsed labels. A name that is taken gets the suffix
    _extracted, which a parsed label has before one of metadata; where even that is taken, the label is hidden.
    `fault` is the entry's error as labels; `value` the sample that unwrap took.
    """

    __slots__ = ("_given", "fault", "line", "metadata", "parsed", "stream", "ts", "value")

    def __init__(self, ts: int, line: str, stream: Mapping[str, str], metadata: Mapping[str, str]) -> None:
        self.ts = ts
        self.line = line
        self.stream = stream
        self.parsed: dict[str, str] = {}
        self.fault: dict[str, str] = {}
        self.value = 1.0
        self._given = (stream, metadata)
        self.metadata = {name: value for name, value in metadata.items() if name not in stream}
        if len(self.metadata) < len(metadata):
            for name, value in metadata.items():
                again = f"{name}_extracted"
                if name in stream and again not in stream:
                    self.metadata.setdefault(again, value)

    def get(self, name: str, default: str | None = None) -> str | None:
        """A label's value."""
        for labels in (self.parsed, self.metadata, self.stream, self.fault):
            if name in labels:
                return labels[name]
        return default

    def all(self) -> dict[str, str]:
        """All labels."""
        return {**self.stream, **self.metadata, **self.parsed, **self.fault}

    def parse(self, found: Mapping[str, str]) -> None:
        """Add what a parser found, its error included; what is there already stays."""
        stream, metadata = self._given
        taken = []
        for name, value in found.items():
            if name in (ERROR, DETAILS):
                self.fault[name] = value
            elif name in stream or name in metadata:
                taken.append(name)
            elif name not in self.parsed:
                self._put(name, value)
        for name in taken:
            again = f"{name}_extracted"
            if again not in stream and again not in metadata and again not in self.parsed:
                self._put(again, found[name])

    def fill(self, names: Iterable[str]) -> None:
        """Make labels empty that nobody has."""
        stream, metadata = self._given
        for name in names:
            if name not in stream and name not in metadata and name not in self.parsed:
                self._put(name, "")

    def _put(self, name: str, value: str) -> None:
        self.metadata.pop(name, None)
        self.parsed[name] = value

    def set(self, name: str, value: str) -> None:
        """Give a label a value, wherever it came from."""
        self.remove((name,))
        self.parsed[name] = value

    def rename(self, source: str, name: str) -> None:
        """Call a label otherwise, if there is one; it is a parsed label from now on."""
        for labels in (self.parsed, self.metadata, self.stream):
            if source in labels:
                self.set(name, labels[source])
                self.remove((source,))
                return

    def remove(self, names: Iterable[str]) -> None:
        """Remove labels."""
        for name in names:
            self.parsed.pop(name, None)
            self.metadata.pop(name, None)
            self.fault.pop(name, None)
            if name in self.stream:
                self.stream = {label: value for label, value in self.stream.items() if label != name}
