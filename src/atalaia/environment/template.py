"""The atalaia.toml that `atalaia init` writes: the seed's environment, with every default said."""

TEXT = """\
# One file describes the environment. Paths are meant from this file's folder; state lies in .atalaia/ beside it.

[servers.postgres_a]
version = 16
# port = 5432                      # without it: the next free port from 5432, remembered
# listen = ["127.0.0.1", "::1"]
# settings = { work_mem = "16MB" } # any PostgreSQL setting
# binaries = "/usr/lib/postgresql/16/bin"

[servers.postgres_b]
version = 16

[collection]
targets = ["/var/log/*log"]        # the servers' own logs are always collected
# promtail = "promtail.yaml"       # its jobs are collected too
# max_line_size = "256KiB"         # longer lines are cut there, and reported

[logs]
# directory = ".atalaia/store"
# port = 3100                      # Loki's; without it: the next free port from 3100, remembered
# retention_age = "30d"            # without it: any age
# retention_size = "10GiB"         # the oldest go first; whichever bound is met first
# url = "http://127.0.0.1:3100"    # a Loki to use in place of the embedded store

[backups]
# repository = ".atalaia/backups"

[runtime]
kind = "process"
# account = "postgres"             # who runs the servers when Atalaia runs as root
"""
