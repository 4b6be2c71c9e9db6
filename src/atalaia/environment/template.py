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
# redact = "literals"              # values in PostgreSQL's statements become ? before they are sent

# [[collection.postgres]]          # a server that Atalaia does not run; docs/postgres-logs.md says more
# name = "main"
# logs = "/var/log/postgresql/*.log"

[logs]
# directory = ".atalaia/store"
# port = 3100                      # Loki's; without it: the next free port from 3100, remembered
# retention_age = "30d"            # without it: any age
# retention_size = "10GiB"         # the oldest go first; whichever bound is met first
# listen = "127.0.0.1"             # other machines reach it at "0.0.0.0", once `atalaia access add` says who may
# rules = "rules/*.yaml"           # alerting and recording rules over LogQL; docs/rules.md says more
# url = "http://127.0.0.1:3100"    # a Loki to use in place of the embedded store
# tenant = "team"                  # what `url` is told, and what lets us in there
# token_file = "loki.token"        # or: user = "NAME", password_file = "FILE"
# ca = "ca.pem"                    # who signed the store's certificate; without it, those that the system trusts

# [[logs.retention]]               # bounds of some streams alone; the first rule for a stream counts
# selector = '{job="varlogs"}'     # and, or, tenant = "NAME"
# age = "7d"                       # and, or, size = "1GiB"

[logs.alerts]
# urls = ["http://127.0.0.1:9093"] # Alertmanagers that are told of alerts
# remote_write = "http://127.0.0.1:9090/api/v1/write"   # where recorded samples go

[logs.limits]                      # what the embedded store takes and spends; docs/limits.md says more
# labels = 30                      # of a stream
# label_name_size = "1KiB"
# label_value_size = "2KiB"
# line_size = "1MiB"
# metadata_size = "64KiB"          # keys and values of an entry's structured metadata
# metadata_keys = 128
# clock_ahead = "24h"              # how far ahead of the store's clock an entry's time may be
# memory_table = "48MiB"           # entries in memory before they become a segment
# query_memory = "1GiB"            # of all queries together; one may take half of it
# query_time = "60s"
# queries_running = 0              # at once; 0: two a core, from 4 to 8
# queries_waiting = 10000          # of a tenant
# query_wait = "10m"               # for their turn
# answer_size = "128MiB"           # what one query may answer
# disk_floor = "256MiB"            # with less free on the store's disk, pushes are refused

[logs.tls]                         # PEM files; docs/access.md says more about these three
# certificate = "server.pem"
# key = "server.key"

[logs.access]
# file = ".atalaia/secrets/access.json"

[logs.http]                        # slow clients
# connections = 2000
# header_time = "10s"              # until a request's head is there
# body_idle = "30s"                # between two pieces of its body
# body_time = "10m"                # until all of it is there
# answer_idle = "60s"              # between two pieces of an answer that the client takes
# answer_time = "30m"
# answer_memory = "256MiB"         # of all answers that wait for their clients
# keep_alive = "75s"
# push_rate = "0"                  # bytes a second of a tenant's pushes; 0: any

[backups]
# repository = ".atalaia/backups"  # or "s3://bucket/prefix", gs://, az://; docs/backup-repositories.md
# copies = ["/mnt/nas/atalaia"]    # each backup is copied there too
# options_file = "store.toml"      # the stores' options and secrets; chmod 600
# patience = "3m"                  # for how long a store that does not answer is asked again
# encryption = true                # after `atalaia backup key new`
# kind = "logical"                 # what `backup now` makes; or "physical", "plain": docs/backup.md
# jobs = 2                         # databases' tables, or a server's files, at a time
# compression = "zstd"             # or "lz4", "none"; level = 1
# passwords = true                 # false: logical backups are without the roles' passwords
# databases = ["shop"]             # only these; so too schemas, tables, exclude_databases, exclude_tables, exclude_data
# port = 3120                      # of the metrics, on 127.0.0.1; without it: the next free port from 3120, remembered

[backups.wal]
# stream = true                    # any moment can be had back; docs/backup-pitr.md
# keep = "4GiB"                    # what a server keeps at most for a receiver that is away
# spool = "4GiB"                   # what is kept here while the repository is away

# [[backups.check]]                # SQL that a restored server must answer with true
# database = "shop"
# sql = "SELECT count(*) > 0 FROM orders"

[backups.schedule]                 # cron expressions in local time; docs/backup-keeping.md says more about these three
# logical = "0 3 * * *"            # every server, every night at three; so too plain, physical, incremental
# verify = "0 5 * * 0"             # prove the last backup of each server again
# prune = "0 6 * * *"              # retention is applied after each backup, too
# jitter = "0"                     # starts are spread over as long, such as 10m

[backups.retention]                # what any of these keeps, stays; without any, nothing is ever removed
# last = 7                         # backups of each server and kind
# age = "30d"                      # younger ones
# daily = 7                        # one a day, of so many days; so too weekly, monthly, yearly
# wal = "7d"                       # how far back a moment can be recovered to

[backups.promise]                  # red in status, doctor and metrics when it is not kept
# verified = "2d"                  # age of the newest verified backup; without it: two intervals of the schedule
# wal = "10m"                      # age of the newest archived WAL
# change = 50                      # percent by which a backup's data may shrink or grow against those before it; 0: any

[runtime]
kind = "process"
# account = "postgres"             # who runs the servers when Atalaia runs as root
"""
