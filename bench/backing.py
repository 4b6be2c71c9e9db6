"""Our own side of `--only backup`, as a process of its own: `python -m bench.backing FOLDER now|verify|restore WHAT`.

It does what `atalaia backup` does, but each part alone: a backup without its proof, a proof, a restore. Prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from atalaia.backup import service, site
from atalaia.environment.load import load
from atalaia.supervisor.layout import recall


def main() -> None:
    """Do one of them."""
    folder, action, what = sys.argv[1:]
    environment = load(Path(folder, "atalaia.toml"))
    place = site.of(environment)
    if action == "now":
        layout = recall(environment)
        assert layout
        made = service.backup_now(layout.clusters["bench"], place, _tell, kind=what, verify=False)
        print(json.dumps({"id": made.id, "size": made.size, "raw_size": made.raw_size}))
    elif action == "verify":
        (judged,) = service.verify(place, [what], _tell)
        last = judged.verifications[-1]
        print(json.dumps({"state": judged.state.value, "seconds": last.seconds, "detail": last.detail}))
    else:
        done = service.restore(place, what, progress=_tell)
        print(json.dumps({"seconds": done.seconds, "directory": str(done.cluster.directory)}))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
