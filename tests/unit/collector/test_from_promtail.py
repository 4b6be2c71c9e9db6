"""What docs/from-promtail.md says is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

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
        assert f"`-{name}" in TEXT or f"`{own}" in TEXT, name


def test_the_example_of_pods_is_good(tmp_path: Path) -> None:
    examples = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.S)]
    (jobs,) = [example["scrape_configs"] for example in examples if "scrape_configs" in example]
    path = tmp_path / "promtail.yaml"
    path.write_text(yaml.safe_dump({"clients": [{"url": "http://h/loki/api/v1/push"}], "scrape_configs": jobs}))
    (job,) = read(path).plan.jobs
    assert [stage.name for stage in job.stages] == ["cri", "regex", "labels", "labeldrop"]
