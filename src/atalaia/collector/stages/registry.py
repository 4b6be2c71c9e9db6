"""The stages by their names in promtail.yaml, and how a pipeline is made of its nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from atalaia.collector.stages.cri import Cri
from atalaia.collector.stages.docker import Docker
from atalaia.collector.stages.drop import Drop
from atalaia.collector.stages.events import EventLogMessage
from atalaia.collector.stages.geoip import GeoIP
from atalaia.collector.stages.json import Json
from atalaia.collector.stages.labels import LabelAllow, LabelDrop, Labels, StaticLabels, StructuredMetadata, Tenant
from atalaia.collector.stages.limit import Limit, Sampling
from atalaia.collector.stages.logfmt import Logfmt
from atalaia.collector.stages.match import Match
from atalaia.collector.stages.metrics import Metrics
from atalaia.collector.stages.multiline import Multiline
from atalaia.collector.stages.output import Decolorize, Output, Pack
from atalaia.collector.stages.regex import Regex
from atalaia.collector.stages.replace import Replace
from atalaia.collector.stages.stage import Builder, Stage, StageError
from atalaia.collector.stages.template import Template
from atalaia.collector.stages.timestamp import Timestamp
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.template.gotime import LayoutError

BUILDERS: Mapping[str, Builder] = {
    "cri": Cri.build,
    "decolorize": Decolorize.build,
    "docker": Docker.build,
    "drop": Drop.build,
    "eventlogmessage": EventLogMessage.build,
    "geoip": GeoIP.build,
    "json": Json.build,
    "labelallow": LabelAllow.build,
    "labeldrop": LabelDrop.build,
    "labels": Labels.build,
    "limit": Limit.build,
    "logfmt": Logfmt.build,
    "match": Match.build,
    "metrics": Metrics.build,
    "multiline": Multiline.build,
    "non_indexed_labels": StructuredMetadata.build,  # its name before Loki 2.9
    "output": Output.build,
    "pack": Pack.build,
    "regex": Regex.build,
    "replace": Replace.build,
    "sampling": Sampling.build,
    "static_labels": StaticLabels.build,
    "structured_metadata": StructuredMetadata.build,
    "template": Template.build,
    "tenant": Tenant.build,
    "timestamp": Timestamp.build,
}


def build_stages(reader: Reader, nodes: Sequence[Node]) -> tuple[Stage, ...]:
    """The stages of a pipeline; what is wrong with them is told to the reader, and left out."""
    return tuple(stage for node in nodes if (stage := _stage(reader, node)) is not None)


def _stage(reader: Reader, node: Node) -> Stage | None:
    entry = reader.mapping(node, "pipeline_stages", set(BUILDERS))
    if len(entry) != 1:
        reader.problem(
            node,
            f"a stage has one name, this one has {len(entry)}",
            "write `- regex:` and its settings below",
        )
        return None
    name, body = next(iter(entry.items()))
    if name not in BUILDERS:
        return None
    before = len(reader.problems)
    try:
        return BUILDERS[name](reader, body, lambda nodes: build_stages(reader, nodes))
    except (StageError, LayoutError) as error:
        if len(reader.problems) == before:
            remedy = "correct it as Promtail's documentation of the stage describes"
            reader.problem(body, f"the stage {name}: {error}", remedy)
        return None
