"""The data of a template: an entry's labels."""

from __future__ import annotations


class LabelMap(dict[str, str]):
    """A map of texts, where what is absent is empty."""
