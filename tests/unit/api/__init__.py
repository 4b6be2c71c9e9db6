"""Tests of the HTTP API's parts that need no server: times, numbers, bodies of pushes, answers.
`bodies` makes pushes as Loki's clients do."""
