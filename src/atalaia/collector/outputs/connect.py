"""Which kind of server stands at an output's address: Atalaia's store, or any other Loki."""

from __future__ import annotations

import httpx

from atalaia.collector.meters import Meters
from atalaia.collector.outputs.atalaia import AtalaiaSink
from atalaia.collector.outputs.client import client
from atalaia.collector.outputs.kind import is_ours
from atalaia.collector.outputs.loki import LokiSink
from atalaia.collector.outputs.sink import Sink
from atalaia.collector.plan import Output


def connect(output: Output, meters: Meters | None = None) -> Sink:
    """The sink that fits the server. Raises Unreachable while there is none, InputError for files that are bad."""
    http: httpx.Client = client(output)
    try:
        ours = is_ours(output, http)
    except BaseException:
        http.close()
        raise
    meters = meters or Meters()
    return AtalaiaSink(output, http, meters) if ours else LokiSink(output, http, meters)
