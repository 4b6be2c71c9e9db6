"""Go's text/template with Loki's functions: text, tree, and what a template makes of an entry's labels.
Source of the language: https://pkg.go.dev/text/template; of the functions: Loki's documentation of LogQL templates.
"""
