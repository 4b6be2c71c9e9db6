"""The stages by their names in promtail.yaml, and how a pipeline is made of its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atalaia.collector.stages.labels import Labels, StaticLabels, Timestamp
from atalaia.collector.stages.multiline import Multiline
from atalaia.collector.stages.stage import Builder, Stage, StageError
from atalaia.collector.stages.text import Json, Regex
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.template.gotime import LayoutError

BUILDERS: Mapping[str, Builder] = {
    "json": Json.build,
    "labels": Labels.build,
    "multiline": Multiline.build,
    "regex": Regex.build,
    "static_labels": StaticLabels.build,
    "timestamp": Timestamp.build,
}


def build_stages(reader: Reader, nodes: Sequence[Node]) -> tuple[Stage, ...]:
    """The stages of a pipeline; what is wrong with them is told to the reader, and left out."""
    return tuple(stage for node in nodes if (stage := _stage(reader, node)) is not None)


def _stage(reader: Reader, node: Node) -> Stage | None:
    entry = reader.mapping(node, "pipeline_stages")
    if len(entry) != 1:
        reader.problem(
            node,
            f"a stage has one name, this one has {len(entry)}",
            "write `- regex:` and its settings below",
        )
        return None
    name, body = next(iter(entry.items()))
    if name not in BUILDERS:
        reader.problem(body, f"the stage {name!r} is not built yet", f"built are: {', '.join(BUILDERS)}")
        return None
    before = len(reader.problems)
    try:
        return BUILDERS[name](reader, body, lambda nodes: build_stages(reader, nodes))
    except (StageError, LayoutError) as error:
        if len(reader.problems) == before:
            remedy = "correct it as Promtail's documentation of the stage describes"
            reader.problem(body, f"the stage {name}: {error}", remedy)
        return None
