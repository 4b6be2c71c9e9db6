"""What the messages of PostgreSQL mean, as data: one TOML file an area, each text in English and Portuguese.

`atalaia.diagnosis.load` reads and validates them; nothing here is code.
"""
