"""The runbook: complete in every language, nothing blank, nothing that was not in the facts, safe Markdown."""
