"""Rows of tables: what is read, and what is refused with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_diffclf.data.table_rows import Row, read_rows


@pytest.fixture
def write(tmp_path):
    def write_table(content: str | bytes) -> Path:
        path = tmp_path / "table.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_table


def test_rows_know_their_first_line(write):
    text = 'key, view ,note\n\na,CC,"two\nlines, and ""more"""\r\n,, \nb , MLO,\n'
    rows = list(read_rows(write(text), ["view", "key"]))
    assert [row.line for row in rows] == [3, 5, 6]
    assert [(row["key"], row["view"]) for row in rows] == [("a", "CC"), ("", ""), ("b", "MLO")]
    assert rows[0]["note"] == 'two\nlines, and "more"'
    assert rows[2].fields == {"key": "b ", "view": " MLO", "note": ""}
    assert rows[1].where.endswith("table.csv, line 5")


@pytest.mark.parametrize(("mark", "delimiter"), [(b"", ","), (b"\xef\xbb\xbf", ";"), (b"\xef\xbb\xbf", "\t")])
def test_marks_and_delimiters(write, mark, delimiter):
    table = write(mark + delimiter.join(["key", "name"]).encode() + b"\n" + delimiter.join(["a", "Müller"]).encode())
    (row,) = read_rows(table, ["key"], delimiter=delimiter)
    assert (row["key"], row["name"], row.get("name"), row.get("age"), row.get("age", "?")) == (
        "a",
        "Müller",
        "Müller",
        "",
        "?",
    )


def test_a_header_alone_has_no_rows(write):
    assert list(read_rows(write("key,label\n"), ["key"])) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "csv: expected a CSV table with a header, but the file is empty"),
        ("\n \n", "csv: expected a CSV table with a header, but the file is empty"),
        ("key:label\na:1\n", r"csv: expected the columns .* but \['key', 'label'\] is missing from \['key:label'\]"),
        ("key,label,x,x\na,1,2,3\n", r"csv: expected each column once, got \['x'\] more than once"),
        ("key,class\na,1\n", r"csv: expected the columns .* but \['label'\] is missing from \['key', 'class'\]"),
        ("key,label, label\na,1,1\n", r"csv: expected each column once, got \['label'\] more than once"),
        ("key,label\na,1\n\nb\n", "csv, line 4: expected 2 fields, as many as the header has, got 1; texts with ','"),
        ("key,label\na,1,2\n", "csv, line 2: expected 2 fields, as many as the header has, got 3"),
        ('key,label\na,1\n"b,1\nc,0\n', "csv, line 3: expected a row of a CSV table: unexpected end of data"),
        ('key,label\n"a"b,1\n', "csv, line 2: expected a row of a CSV table: ',' expected after '\"'"),
        (b"key,label\n\x81,1\n", "csv, line 2: expected text in UTF-8, UTF-16 or Windows-1252 .*, got the byte 0x81"),
    ],
)
def test_what_is_no_table_is_refused_with_its_place(write, content, message):
    with pytest.raises(ValueError, match=message):
        list(read_rows(write(content), ["key", "label"]))


def test_notes_are_rows(write):
    content = b'key,label\na,1\nsee the readme\nb,0,x,y\nk\xe4,"1"2\n'
    rows = [dict(row.fields) for row in read_rows(write(content), ["key"], notes=True)]
    assert rows == [
        {"key": "a", "label": "1"},
        {"key": "see the readme", "label": ""},
        {"key": "b", "label": "0"},
        {"key": "k\ufffd", "label": "12"},
    ]


def test_fields_are_checked():
    row = Row(Path("t.csv"), 7, {"key": " ", "age": "61.5", "label": " 2", "view": "CC "})
    assert (row.number("age"), row.integer("label"), row.text("view")) == (61.5, 2, "CC")
    for check, message in (
        (lambda: row.text("key"), r"^t\.csv, line 7: expected a text in 'key', it is empty$"),
        (lambda: row.number("view"), r"^t\.csv, line 7: expected a number in 'view', got 'CC'$"),
        (lambda: row.integer("age"), r"^t\.csv, line 7: expected a whole number in 'age', got '61\.5'$"),
        (lambda: row.integer("key"), r"^t\.csv, line 7: expected a whole number in 'key', got ''$"),
        (lambda: row.one_of("view", {"L": 0}), r"^t\.csv, line 7: expected 'view' to be one of L, got 'CC'$"),
    ):
        with pytest.raises(ValueError, match=message):
            check()
