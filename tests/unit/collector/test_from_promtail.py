"""What docs/from-promtail.md says is what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from atalaia.collector import pipeline
from atalaia.collector.listeners.registry import KINDS
from atalaia.collector.promtail import flags, settings
from atalaia.collector.promtail.load import read
from atalaia.collector.promtail.refused import REFUSED
from atalaia.collector.relabel import ACTIONS

TEXT = (Path(__file__).resolve().parents[3] / "docs" / "from-promtail.md").read_text()


def test_every_block_action_kind_and_flag_is_told() -> None:
    for name in (*settings.TOP, *KINDS, *settings._SERVER - {"log_format"}):
        assert f"`{name}" in TEXT, name
    for name in (*ACTIONS, *(kind.removesuffix("_sd_configs") for kind in REFUSED if kind != "azure_event_hub")):
        assert name in TEXT, name
    for name, (own, _) in flags._OWN.items():
        if name == "environment":  # what `atalaia up` says
            continue
        assert f"`-{name}" in TEXT or f"`{own}" in TEXT, name


def test_the_example_of_pods_is_good(tmp_path: Path) -> None:
    examples = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]
    (jobs,) = [example["scrape_configs"] for example in examples if "scrape_configs" in example]
    path = tmp_path / "promtail.yaml"
    path.write_text(yaml.safe_dump({"clients": [{"url": "http://h/loki/api/v1/push"}], "scrape_configs": jobs}))
    (job,) = read(path).plan.jobs
    line = b"2024-01-02T03:04:05.6Z stdout F hello\n"
    name = "/var/log/pods/shop_web-7d4_0123-45/nginx/0.log"
    entries = pipeline.run(job, line, 0, {**job.targets[0].labels, "filename": name}, pipeline.ALL).entries
    assert entries.lines.to_pylist() == ["hello"]
    (labels,) = entries.record_batch().column("labels").to_pylist()
    expected = {"job": "pods", "namespace": "shop", "pod": "web-7d4", "container": "nginx", "stream": "stdout"}
    assert json.loads(labels) == expected
