from __future__ import annotations

from atalaia.backup.model import logfmt
from atalaia.backup.plain.contents import Contents, Reader, database_name, differences, role_created
from atalaia.backup.plain.head import Head, relocated, tolerant

DUMP = rb"""--
-- PostgreSQL database cluster dump
--

SET client_encoding = 'UTF8';

CREATE ROLE aa;
COMMENT ON ROLE aa IS 'x
CREATE ROLE postgres;
\connect trap
';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER PASSWORD 'SCRAM';
CREATE TABLESPACE "my space" OWNER aa LOCATION '/var/my ''space';

\connect template1

\connect -reuse-previous=on "dbname='a \'b\' ""c'"

--
-- Name: t; Type: TABLE; Schema: public; Owner: aa
--

CREATE TABLE public.t (
    a integer NOT NULL,
    b text DEFAULT 'x'::text,
    CONSTRAINT c CHECK ((b = ANY (ARRAY['x'::text])))
);

--
-- Data for Name: t; Type: TABLE DATA; Schema: public; Owner: aa
--

COPY public.t (a, b) FROM stdin;
1	x
2	y
\.

--
-- Data for Name: BLOBS; Type: BLOBS; Schema: -; Owner: -
--

SELECT pg_catalog.lo_create('1');
SELECT pg_catalog.lowrite(0, '\x616263');

--
-- Name: s; Type: SEQUENCE SET; Schema: public; Owner: aa
--

SELECT pg_catalog.setval('public.s', 5, true);

--
-- PostgreSQL database cluster dump complete
--

"""


def read(text: bytes, size: int = 7) -> Contents:
    reader = Reader()
    for start in range(0, len(text), size):
        reader.feed(text[start : start + size])
    return reader.contents


def test_what_is_in_a_dump() -> None:
    contents = read(DUMP)
    assert contents.whole
    assert contents.roles == {"aa", "postgres"}
    assert set(contents.databases) == {"template1", "a 'b' \"c"}
    database = contents.databases["a 'b' \"c"]
    assert database.tables == {"public.t": (2, 8)}
    assert (database.large_objects, database.large_object_bytes) == (1, 3)
    assert (contents.rows, contents.tables) == (2, 1)
    assert sorted(line.split(" owner")[0] for line in database.objects) == ["SEQUENCE SET public.s", "TABLE public.t"]


def test_a_dump_is_whole_only_when_its_closing_line_is_its_end() -> None:
    closing = DUMP.rindex(b"-- PostgreSQL database cluster dump complete")
    assert not read(DUMP[:closing]).whole
    assert not read(DUMP + b"SELECT 1;\n").whole
    assert not read(DUMP + b"SELECT 'a\n").whole


def test_differences_are_told_in_words() -> None:
    one = read(DUMP)
    assert differences(one, read(DUMP)) == []
    assert differences(one, read(DUMP.replace(b"2\ty\n", b""))) == [
        "a 'b' \"c: table public.t has 1 rows in place of 2"
    ]
    assert "have 9 bytes in place of 8" in differences(one, read(DUMP.replace(b"2\ty\n", b"2\tyy\n")))[0]
    assert "2 bytes in place of 1 of 3" in differences(one, read(DUMP.replace(b"616263", b"6162")))[0]
    assert "role aa is missing" in differences(one, read(DUMP.replace(b"ROLE aa;", b"ROLE bb;")))
    assert any("SEQUENCE SET public.s" in line for line in differences(one, read(DUMP.replace(b"5, true", b"6, true"))))
    assert any("TABLE public.t" in line for line in differences(one, read(DUMP.replace(b"a integer", b"a bigint"))))
    assert differences(one, read(DUMP.replace(b"'SCRAM'", b"'other'"))) == [
        "roles' attributes, memberships or tablespaces differ"
    ]


def test_what_dumps_print_differently_is_no_difference() -> None:
    again = DUMP.replace(b"(ARRAY['x'::text])", b"((ARRAY['x'::varchar])::text[])").replace(
        b"/var/my ''space", b"/else"
    )
    assert differences(read(DUMP), read(again)) == []


def edited(text: bytes, edit: Head, size: int) -> bytes:
    parts = [edit.feed(text[start : start + size]) for start in range(0, len(text), size)]
    return b"".join([*parts, edit.finish()])


def test_only_the_statement_that_makes_the_superuser_is_edited() -> None:
    for size in (1, 10, 100_000):
        text = edited(DUMP, Head(tolerant("postgres")), size)
        assert text.count(b"EXCEPTION WHEN duplicate_object") == 1
        before, _, after = text.partition(b"DO $atalaia$BEGIN CREATE ROLE postgres; EXCEPTION WHEN duplicate_object")
        assert DUMP.startswith(before)
        assert after.endswith(DUMP[DUMP.index(b"ALTER ROLE") :])
        assert differences(read(DUMP), read(text)) == []
        assert read(text).whole


def test_a_dump_without_databases_passes_whole() -> None:
    assert edited(b"CREATE ROLE postgres;\nSELECT", Head(lambda s: s), 3) == b"CREATE ROLE postgres;\nSELECT"


def test_tablespaces_move() -> None:
    text = edited(DUMP, Head(relocated(lambda number: f"/new/{number}")), 50)
    assert text == DUMP.replace(b"'/var/my ''space'", b"'/new/0'")


def test_names_of_databases_and_roles() -> None:
    assert database_name(b"\\connect plain") == "plain"
    assert database_name(b'\\connect "Upper"') == "Upper"
    assert database_name(b"\\connect -reuse-previous=on \"dbname='back\\\\slash'\"") == "back\\slash"
    assert role_created(b'CREATE ROLE "Bob ""B"" Smith";') == 'Bob "B" Smith'
    assert role_created(b"GRANT a TO b;") == ""


def test_logfmt_quotes_what_needs_it() -> None:
    assert logfmt("x", a=1, b='two "words"\n', c="") == 'event=x a=1 b="two \\"words\\"\\n" c=""'
