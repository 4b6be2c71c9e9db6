"""static_configs and file_sd_configs -> Targets, relabelled as Promtail does it."""

from __future__ import annotations

import glob
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from atalaia.collector.plan import Target
from atalaia.collector.promtail.values import checked, labels_from
from atalaia.collector.relabel import Rule, relabelled
from atalaia.environment.errors import AtalaiaError, ConfigurationError
from atalaia.environment.units import parse_duration
from atalaia.environment.yamlfile import Node, Reader, read_text

log = logging.getLogger("atalaia.collector")
_LOOK = 1.0  # seconds between looks at the files of file_sd_configs
# As Prometheus': a `*` in the last part only, and these endings.
_NAMES = re.compile(r"[^*]*(\*[^/]*)?\.(json|yml|yaml|JSON|YML|YAML)")


@dataclass(frozen=True, slots=True)
class Group:
    """One group of targets: its labels and addresses, before relabelling. `line`: where it stands."""

    labels: Mapping[str, str]
    addresses: tuple[str, ...]
    line: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """The targets of groups. `dropped`: the lines of groups, each with why nothing of it is collected."""

    targets: tuple[Target, ...]
    dropped: tuple[tuple[int, str], ...]


def targets_of(groups: Sequence[Group], rules: Sequence[Rule]) -> Made:
    """The targets that relabelling leaves; labels that begin with `__` end here. Equal ones are one."""
    found: dict[tuple[object, ...], Target] = {}
    dropped = []
    for group in groups:
        for address in group.addresses:
            labels = relabelled(rules, {**group.labels, "__address__": address})
            if labels is None:
                dropped.append((group.line, "its labels are dropped by relabel_configs"))
            elif (host := labels.get("__host__", _host())) != _host():
                dropped.append((group.line, f"its __host__ {host!r} is not this host, {_host()!r}"))
            elif not (pattern := labels.get("__path__")):
                dropped.append((group.line, "it has no __path__"))
            else:
                kept = {name: value for name, value in labels.items() if not name.startswith("__")}
                exclude = labels.get("__path_exclude__")
                target = Target(_absolute(pattern), kept, _absolute(exclude) if exclude else None)
                found[target.pattern, target.exclude, *sorted(kept.items())] = target
    return Made(tuple(found.values()), tuple(dropped))


def _host() -> str:
    return os.environ.get("HOSTNAME") or socket.gethostname()


def _absolute(pattern: str) -> str:
    return pattern if pattern.startswith("/") else f"{Path.cwd()}/{pattern}"


def groups_of(reader: Reader, node: Node | None, what: str) -> list[Group]:
    """The target groups of static_configs, or of a file of file_sd_configs."""
    groups = []
    for one in reader.sequence(node, what):
        body = reader.mapping(one, what, {"targets", "labels"})
        labels = {name: value for name, value in labels_from(reader, body.get("labels"), "labels").items() if value}
        listed = reader.sequence(body.get("targets"), f"{what}.targets")
        addresses = tuple(text for target in listed if (text := reader.text(target, f"{what}.targets")))
        groups.append(Group(labels, addresses, one.line))
    return groups


@dataclass(slots=True)
class _File:
    """What a file of targets held when it was last read; `stamp`: its inode, size and time then."""

    stamp: tuple[int, int, int]
    groups: tuple[Group, ...] = ()


@dataclass(slots=True)
class Discovered(Sequence[Target]):
    """Fixed targets, and those of files of targets (globs), which are looked at anew by whoever goes through it.

    A file that cannot be read any more keeps the targets that it had, and that is told; one that is gone loses them.
    """

    fixed: tuple[Target, ...]
    files: tuple[str, ...]
    rules: tuple[Rule, ...]
    told: list[str] = field(default_factory=list)  # what was wrong with the files, as it was logged
    _read: dict[str, _File] = field(default_factory=dict)
    _now: tuple[Target, ...] = ()
    _looked: float = float("-inf")
    _lock: Any = field(default_factory=threading.Lock)

    def current(self) -> tuple[Target, ...]:
        """All targets as they are now."""
        with self._lock:
            if time.monotonic() - self._looked >= _LOOK:
                self._look()
                self._looked = time.monotonic()
            return self._now

    def __iter__(self) -> Iterator[Target]:
        return iter(self.current())

    def __len__(self) -> int:
        return len(self.current())

    @overload
    def __getitem__(self, index: int) -> Target: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Target]: ...
    def __getitem__(self, index: int | slice) -> Target | Sequence[Target]:
        return self.current()[index]

    def __deepcopy__(self, memo: object) -> Discovered:
        return Discovered(self.fixed, self.files, self.rules)

    def _look(self) -> None:
        paths = sorted({path for pattern in self.files for path in glob.glob(pattern)})
        gone = self._read.keys() - set(paths)
        for path in gone:
            del self._read[path]
        changed = [path for path in paths if self._look_at(path)]
        if changed or gone or self._looked == float("-inf"):
            groups = [group for path in paths if path in self._read for group in self._read[path].groups]
            self._now = (*self.fixed, *targets_of(groups, self.rules).targets)

    def _look_at(self, path: str) -> bool:
        known = self._read.get(path)
        try:
            status = os.stat(path)
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            if known is not None and known.stamp == stamp:
                return False
            self._read[path] = _File(stamp, known.groups if known else ())
            self._read[path].groups = read_groups(Path(path))
            return True
        except (AtalaiaError, OSError) as error:
            log.warning("event=targets_unreadable file=%s reason=%r", path, str(error))
            self.told.append(f"{path}: {error}")
            return False


def read_groups(path: Path) -> tuple[Group, ...]:
    """The groups of a file of targets, JSON or YAML, each with the label `__meta_filepath`. Raises AtalaiaError."""
    reader = Reader(path)
    text = read_text(path)
    if path.suffix.lower() == ".json":
        try:
            root = _node(json.loads(text))
        except ValueError as error:
            raise AtalaiaError(f"it is not JSON: {error}") from error
    else:
        root = reader.load(text)
    groups = groups_of(reader, root if root.value != {} else None, "targets")
    if reader.problems:
        raise ConfigurationError(reader.problems, "its targets stay as they were")
    return tuple(Group({**group.labels, "__meta_filepath": str(path)}, group.addresses, group.line) for group in groups)


def _node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({str(key): _node(one) for key, one in value.items()}, 0)
    return Node([_node(one) for one in value] if isinstance(value, list) else value, 0)


def files_of(reader: Reader, node: Node | None) -> tuple[str, ...]:
    """The globs of file_sd_configs."""
    found: list[str] = []
    for one in reader.sequence(node, "file_sd_configs"):
        body = reader.mapping(one, "file_sd_configs", {"files", "refresh_interval"})
        checked(reader, body.get("refresh_interval"), "refresh_interval", parse_duration)
        files = reader.sequence(body.get("files"), "file_sd_configs.files")
        if not files:
            reader.problem(one, "file_sd_configs: it names no files", 'add `files: ["/etc/promtail/targets/*.yaml"]`')
        for file in files:
            text = reader.text(file, "file_sd_configs.files") or ""
            if _NAMES.fullmatch(text):
                found.append(text)
            else:
                remedy = "name files that end in .json, .yml or .yaml, with a * in the last part only"
                reader.problem(file, f"file_sd_configs: {text!r} names no file of targets", remedy)
    return tuple(found)
