"""Tests of templates: text/template and the functions that Loki adds.
One module a concern."""
