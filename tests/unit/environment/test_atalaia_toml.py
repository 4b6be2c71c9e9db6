from __future__ import annotations

import re
from pathlib import Path

import pytest

from atalaia.environment.errors import ConfigurationError
from atalaia.environment.load import parse
from atalaia.environment.locate import key_lines
from atalaia.environment.settings import LimitsSettings, RetentionRule, Settings
from atalaia.environment.template import TEXT

FILE = Path("/x/atalaia.toml")
RULE = '[[logs.retention]]\nage = "1d"\n'


def problems(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, FILE)
    assert all(p.file == FILE for p in caught.value.problems)
    assert caught.value.exit_code == 2
    return [(p.line, p.message, p.remedy) for p in caught.value.problems]


@pytest.mark.parametrize("text", ["", TEXT])
def test_nothing_and_the_template_are_the_seeds_environment(text: str) -> None:
    settings, _ = parse(text, FILE)
    assert settings == Settings()
    assert {name: s.version for name, s in settings.servers.items()} == {"postgres_a": 16, "postgres_b": 16}
    assert settings.collection.targets == ("/var/log/*log",)


def test_every_commented_line_of_the_template_is_its_default_or_valid() -> None:
    settings, _ = parse(re.sub(r"^# (?=\[\[|\w+ = )", "", TEXT, flags=re.MULTILINE), FILE)
    assert settings.servers["postgres_a"].settings == {"work_mem": "16MB"}
    assert settings.logs.port == 3100
    assert settings.logs.retention == (RetentionRule(selector='{job="varlogs"}', age="7d"),)
    assert settings.logs.limits.model_fields_set == set(LimitsSettings.model_fields)
    assert settings.logs.limits == LimitsSettings()


def test_a_full_file() -> None:
    settings, lines = parse(
        """
        servers.one = { version = 18, port = 5433, listen = ["*"], settings = { work_mem = "1MB", fsync = false } }
        [servers.two]
        binaries = "/opt/pg"
        [servers.two.settings]
        max_connections = 50
        seq_page_cost = 1.5
        "auto_explain.log_min_duration" = 100
        [logs]
        retention_age = "1w"
        url = "https://loki.example/"
        """,
        FILE,
    )
    assert settings.servers["one"].settings == {"work_mem": "1MB", "fsync": False}
    two = settings.servers["two"].settings
    assert two == {"max_connections": 50, "seq_page_cost": 1.5, "auto_explain.log_min_duration": 100}
    assert [type(v) for v in two.values()] == [int, float, int]
    assert settings.logs.url == "https://loki.example"
    assert lines["servers", "two", "settings", "auto_explain.log_min_duration"] == 8


@pytest.mark.parametrize(
    ("text", "line", "message", "remedy"),
    [
        ("[server.a]", 1, "unknown key 'server'", "did you mean 'servers'?"),
        ("\n[servers.a]\nprot = 1", 3, "unknown key 'servers.a.prot'", "did you mean 'port'?"),
        ("[servers.a]\nx = 1", 2, "unknown key 'servers.a.x'", "known here: version, port, listen, settings, binaries"),
        ("[collection]\ntarget = []", 2, "unknown key 'collection.target'", "did you mean 'targets'?"),
        ("servers = 5", 1, "servers = 5", "write [servers.NAME]"),
        ("servers.a = 5", 1, "servers.a = 5: not a table", "write [servers.a]"),
        ("logs = []", 1, "logs = []: not a table", "write [logs]"),
        ("[servers.a]\nport = 0", 2, "servers.a.port = 0", "from 1 to 65535"),
        ("[servers.a]\nport = 65536", 2, "servers.a.port = 65536", "from 1 to 65535"),
        ('[servers.a]\nport = "5432"', 2, "servers.a.port = '5432'", "from 1 to 65535"),
        ("[servers.a]\nport = true", 2, "servers.a.port = True", "from 1 to 65535"),
        ("[servers.a]\n\nversion = 13", 3, "servers.a.version = 13", "a major version such as 16"),
        ('[servers.a]\nversion = "16"', 2, "servers.a.version = '16'", "without quotes"),
        ('[servers.a]\nlisten = "::1"', 2, "servers.a.listen = '::1'", "give a list of addresses"),
        ("[servers.a]\nlisten = []", 2, "servers.a.listen = []: an empty list", "give a list of addresses"),
        (
            '[servers.a]\nlisten = ["localhost"]',
            2,
            "servers.a.listen = 'localhost': 'localhost' is not an IP",
            "give a",
        ),
        ('[servers.a]\nlisten = [\n  "::1",\n  "x",\n]', 2, "servers.a.listen = 'x'", "give a list of addresses"),
        (
            "[servers.a.settings]\nfsync = false\nport = 1",
            3,
            "servers.a.settings.port: 'port' is managed",
            "another name",
        ),
        ("[servers.a]\nsettings = { Port = 1 }", 2, "servers.a.settings.Port: 'Port' is managed", "another name"),
        ('[servers.a.settings]\n"x y" = 1', 2, "servers.a.settings.x y: 'x y' is not the name", "another name"),
        ("[servers.a.settings]\n\nx = [1]", 3, "servers.a.settings.x = [1]: a setting is a text", "correct the value"),
        ("[servers.a]\nsettings = 5", 2, "servers.a.settings = 5", "give a table of PostgreSQL settings"),
        ("[servers.good]\n[servers.Bad]\n", 2, "servers.Bad: 'Bad' is not a server name", "another name"),
        ('servers."a-b".port = 1', 1, "servers.a-b: 'a-b' is not a server name", "another name"),
        ("[servers]\na = { version = 16, port = 99999 }", 2, "servers.a.port = 99999", "from 1 to 65535"),
        ("servers = { a = { port = -1 } }", 1, "servers.a.port = -1", "from 1 to 65535"),
        ('[collection]\ntargets = "/var/log"', 2, "collection.targets = '/var/log'", "give a list of globs"),
        (
            '[collection]\nmax_line_size = "1"',
            2,
            "collection.max_line_size = '1': '1' is not from 128 B",
            "a size such",
        ),
        ('[collection]\nmax_line_size = "4MiB"', 2, "collection.max_line_size = '4MiB'", "give a size such as 256KiB"),
        ('[logs]\nretention_age = "soon"', 2, "logs.retention_age = 'soon': 'soon' is not a duration", "such as 30d"),
        ('[logs]\nretention_age = "-30d"', 2, "logs.retention_age = '-30d': '-30d' is not longer", "such as 30d"),
        ('[logs]\nretention_age = "0"', 2, "logs.retention_age = '0'", "such as 30d"),
        ("[logs]\nretention_age = 30", 2, "logs.retention_age = 30", "such as 30d"),
        ('[logs]\nretention_size = "0"', 2, "logs.retention_size = '0'", "such as 10GiB"),
        ('[logs]\nretention_size = "big"', 2, "logs.retention_size = 'big': 'big' is not a size", "such as 10GiB"),
        (RULE + 'size = "0"', 3, "logs.retention.size = '0': '0' is not larger than nothing", "such as 10GiB"),
        (RULE * 2 + 'tenant = ""', 5, "logs.retention.tenant = ''", "the name of a tenant"),
        (RULE + "selector = 5", 3, "logs.retention.selector = 5", "a selector of streams"),
        (RULE * 2 + "for = 5", 5, "unknown key 'logs.retention.for'", "known here: tenant, selector, age, size"),
        ('[[logs.retention]]\ntenant = "x"', 1, "logs.retention = {'tenant': 'x'}: neither an age", "age or size"),
        ("[logs.retention]\nage = '1d'", 1, "logs.retention = {'age': '1d'}: ", "write [[logs.retention]]"),
        ("[logs.limits]\nlabel = 5", 2, "unknown key 'logs.limits.label'", "did you mean 'labels'?"),
        ("[logs]\nlimit = 5", 2, "unknown key 'logs.limit'", "did you mean 'limits'?"),
        ("[logs]\nlimits = 5", 2, "logs.limits = 5: not a table", "write [logs.limits]"),
        ("[logs.limits]\n\nlabels = 0", 3, "logs.limits.labels = 0", "such as 30, or leave it out"),
        ('[logs.limits]\nlabels = "30"', 2, "logs.limits.labels = '30'", "such as 30"),
        (
            '[logs.limits]\nline_size = "64"',
            2,
            "logs.limits.line_size = '64': '64' is not from 128 B",
            "such as '1MiB'",
        ),
        ("[logs.limits]\nline_size = 4096", 2, "logs.limits.line_size = 4096", "such as '1MiB'"),
        ('[logs.limits]\nclock_ahead = "0"', 2, "logs.limits.clock_ahead = '0': '0' is not from 1s", "such as '24h'"),
        ('[logs.limits]\nquery_time = "2d"', 2, "logs.limits.query_time = '2d'", "such as '60s'"),
        ('logs.limits = { query_memory = "1MB" }', 1, "logs.limits.query_memory = '1MB'", "such as '1GiB'"),
        ('[logs]\nlimits.memory_table = "9GiB"', 2, "logs.limits.memory_table = '9GiB'", "such as '48MiB'"),
        (
            '[logs.limits]\ndisk_floor = "-1"',
            2,
            "logs.limits.disk_floor = '-1': '-1' is not a size",
            "such as '256MiB'",
        ),
        ('[logs]\ntoken = "secret"', 1, "logs: token is for a Loki elsewhere, and there is no url", "correct"),
        ('[logs]\nurl = "http://l"\nuser = "u"', 1, "logs: user and password_file go together", "correct"),
        ('[logs.tls]\nkey = "k"', 1, "logs.tls = {'key': 'k'}: certificate and key go together", "correct"),
        ('[logs.http]\nheader_time = "1ms"', 2, "logs.http.header_time = '1ms': '1ms' is not from", "'10s'"),
        ("[logs.access]\nfiel = 1", 2, "unknown key 'logs.access.fiel'", "file"),
        ('[logs]\nlisten = "here"', 2, "logs.listen = 'here': 'here' is not an IP address", "addresses"),
        ('[logs]\nurl = "loki:3100"', 2, "logs.url = 'loki:3100'", "the address of a Loki"),
        ('[runtime]\nkind = "docker"', 2, "runtime.kind = 'docker' is not available", "process"),
        (
            "[backups]\nrepository = 1979-05-27",
            2,
            "backups.repository = datetime.date(1979, 5, 27)",
            "correct the value",
        ),
        (
            '[backups.schedule]\nplain = "0 3 * *"',
            2,
            "backups.schedule.plain = '0 3 * *': '0 3 * *' is not a cron",
            "0 3",
        ),
        ('[backups.schedule]\nlogical = "61 3 * * *"', 2, "backups.schedule.logical = '61", "0 3 * * *"),
        ("[backups.schedule]\nincremental = 3", 2, "backups.schedule.incremental = 3", "0 3 * * *"),
        ('[backups.schedule]\njitter = "2d"', 2, "backups.schedule.jitter = '2d': '2d' is not from 0 to 1d", "10m"),
        ('[backups.schedule]\nnightly = "0 3 * * *"', 2, "unknown key 'backups.schedule.nightly'", "logical, plain"),
        ("[backups.retention]\nlast = 0", 2, "backups.retention.last = 0", "a number such as 7"),
        ('[backups.retention]\ndaily = "7"', 2, "backups.retention.daily = '7'", "without quotes"),
        ('[backups.retention]\nage = "0"', 2, "backups.retention.age = '0': '0' is not longer than", "such as 30d"),
        ('[backups.retention]\nwal = "x"', 2, "backups.retention.wal = 'x'", "such as 7d"),
        ("[backups.retention]\ndayly = 7", 2, "unknown key 'backups.retention.dayly'", "did you mean 'daily'"),
        ('[backups.promise]\nverified = "x"', 2, "backups.promise.verified = 'x'", "such as 25h"),
        ("[backups.promise]\nchange = -1", 2, "backups.promise.change = -1", "percent such as 50"),
        ("[backups]\nretention = 7", 2, "backups.retention = 7: not a table", "write [backups.retention]"),
        ('[backups.wal]\nstream = "yes"', 2, "backups.wal.stream = 'yes'", "true or false"),
        ('[backups.wal]\nkeep = "0"', 2, "backups.wal.keep = '0'", "such as 4GiB"),
        ("[backups.wal]\nkep = 1", 2, "unknown key 'backups.wal.kep'", "did you mean 'keep'"),
        ("[backups]\nport = 0", 2, "backups.port = 0", "a free port"),
        ('[backups]\nkind = "dump"', 2, "backups.kind = 'dump'", '"logical", "physical"'),
        ('[backups]\ncompression = "gzip"', 2, "backups.compression = 'gzip'", '"zstd", "lz4"'),
        ("[backups]\nlevel = 20", 2, "backups.level = 20", "from 1, the fastest, to 19"),
        ('[backups]\njobs = "2"', 2, "backups.jobs = '2'", "from 1 to 64"),
        ('[backups]\ntables = "t"', 2, "backups.tables = 't'", "a list of names"),
        ('[backups]\ncopies = "s3://b"', 2, "backups.copies = 's3://b'", "a list of folders or addresses"),
        (
            '[backups]\ncopies = ["ftp://b"]',
            2,
            "backups.copies = 'ftp://b': 'ftp://b' is neither a folder",
            "a list of",
        ),
        ('[[backups.check]]\nsql = "SELECT true"\nsq = 1', 3, "unknown key 'backups.check.sq'", "did you mean 'sql'"),
        ("[servers.a\nport = 1", 1, "not TOML", "atalaia init --print"),
        ("[logs]\nport = 1\nport = 2", 3, "not TOML", "atalaia init --print"),
        ("a = 1\nb =\n", 2, "not TOML", "atalaia init --print"),
        ("[logs]\n[logs]", 2, "not TOML", "atalaia init --print"),
    ],
)
def test_each_problem_has_its_line_value_and_remedy(text: str, line: int, message: str, remedy: str) -> None:
    ((found_line, found_message, found_remedy),) = problems(text)
    assert found_line == line
    assert found_message.startswith(message)
    assert remedy in found_remedy


def test_all_problems_come_at_once_in_the_order_of_their_lines() -> None:
    text = """\
[servers.a]
version = 9
port = "x"
listen = ["one", "::1", "two"]
[servers.a.settings]
port = 1
log_destination = "stderr"
[servers.B]
prot = 5
[logs]
retention_age = "x"
"""
    found = problems(text)
    assert [line for line, _, _ in found] == [2, 3, 4, 4, 6, 7, 8, 9, 11]
    with pytest.raises(ConfigurationError, match=r"atalaia\.toml has 9 problems; nothing was started") as caught:
        parse(text, FILE)
    assert "atalaia.toml:9: unknown key 'servers.B.prot'" in str(caught.value)


def test_lines_of_keys() -> None:
    text = '''\
a.b = 1
[t]   # comment
s = """
[no]
x = 1
"""
"q.k" = {in = 1, 'x' = 2}
[t.'u v']
k = "[not]"
[[arr]]
y = 1
[[arr]]
y = 1
'''
    lines = key_lines(text)
    assert lines["a",] == lines["a", "b"] == 1
    assert lines["t",] == 2
    assert lines["t", "s"] == 3
    assert ("no",) not in lines
    assert lines["t", "q.k"] == lines["t", "q.k", "in"] == 7
    assert lines["t", "u v"] == 8
    assert lines["t", "u v", "k"] == 9
    assert lines["arr",] == 10
    assert lines["arr", "0", "y"] == 11
    assert lines["arr", "1"] == 12
    assert lines["arr", "1", "y"] == 13
