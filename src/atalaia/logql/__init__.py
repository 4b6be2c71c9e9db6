"""LogQL, Loki's query language: text, grammar, syntax tree, and the way back to text.
It knows nothing of files, storage or HTTP; import from its modules (`parse`, `tree`, `printer`)."""
