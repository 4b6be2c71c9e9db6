"""SQL that plans call by name, so that they stay short."""

from __future__ import annotations

from .scan_json import IS_OBJECT

MACROS = (f"CREATE MACRO is_json_object(line) AS ({IS_OBJECT})",)
