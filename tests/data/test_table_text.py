"""Tables in all common encodings, with all common delimiters; what is no table is called what it is."""

from __future__ import annotations

import warnings

import pytest

from monai_diffclf.data.table_rows import read_rows
from monai_diffclf.data.table_text import find_delimiter

TEXT = "image,label,note\nÜ.png,krank,ä €\nb.png,gesund,\n"


@pytest.fixture
def rows(tmp_path):
    def read(data: bytes, columns=("image", "label")):
        path = tmp_path / "table.csv"
        path.write_bytes(data)
        return [(row.line, *(row[name] for name in columns)) for row in read_rows(path, columns)]

    return read


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"], ids=lambda name: name
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_unicode_is_recognised(rows, encoding, end):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rows(TEXT.replace("\n", end).encode(encoding))
    assert found == [(2, "Ü.png", "krank"), (3, "b.png", "gesund")]


def test_utf16_with_the_mark_of_the_other_order(rows):
    assert rows(b"\xfe\xff" + TEXT.encode("utf-16-be"))[0] == (2, "Ü.png", "krank")


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1"])
def test_other_encodings_are_named(rows, encoding):
    with pytest.warns(
        UserWarning, match=r"table\.csv: is not in UTF-8 and was read as Windows-1252.*line 2 is 'Ü\.png,krank"
    ):
        assert rows(TEXT.replace(" €", "").encode(encoding))[0] == (2, "Ü.png", "krank")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a CSV table with a header, but the file is empty"),
        (b"\r\n \n", "the file is empty"),
        (b"PK\x03\x04xl/worksheets", "got an Excel or OpenDocument workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", r"got an old Excel workbook \(\.xls\)"),
        (b"\x1f\x8b\x08", "got a gzip file"),
        (b"\x89PNG\r\n", "got a PNG image"),
        (b" <!DOCTYPE html><html>", "got an HTML or XML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "got a Git LFS pointer"),
        (b"image,label\na.png,x\x00y\n", "line 2: expected text, got a NUL byte"),
        (b"image,label\n\x8d.png,x\n", "line 2: expected text in UTF-8, UTF-16 or Windows-1252 .* byte 0x8d"),
        (b"\xff\xfeimage,label\n\x00", "expected text in UTF-16, as its first bytes say"),
    ],
)
def test_what_is_no_table_is_called_what_it_is(rows, data, message):
    with pytest.raises(ValueError, match=rf"table\.csv.*{message}"):
        rows(data)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_are_found(rows, delimiter):
    text = delimiter.join(["image", "label", "a note"]) + "\n" + delimiter.join(["a.png", "x", '"1,5; 2|3\t4"'])
    assert rows(text.encode()) == [(2, "a.png", "x")]
    said = f"sep={delimiter}\r\n{text}"
    assert rows(said.encode()) == [(3, "a.png", "x")]


def test_the_columns_decide_where_signs_are_mixed(tmp_path):
    assert find_delimiter(tmp_path, "image,label;split,a\n", ["image"]) == ","
    assert find_delimiter(tmp_path, "a,b,c;image;label\n", ["image", "label"]) == ";"
    assert find_delimiter(tmp_path, "key\n", ["key"]) == ","
    with pytest.raises(ValueError, match="that ',' and ';' split alike: 'a,b;c'"):
        find_delimiter(tmp_path, "a,b;c\n", ["image"])


def test_line_breaks_within_quotes_stay(rows):
    data = b'image,note\r\na.png,"one\r\ntwo"\r\nb.png,x\r\n'
    assert rows(data, ("image", "note")) == [(2, "a.png", "one\r\ntwo"), (4, "b.png", "x")]


def test_a_large_field_is_an_error_with_its_line(rows):
    with pytest.raises(ValueError, match=r"line 2: .*field larger than field limit .*; is a quote not closed"):
        rows(b'image,label\n"' + b"x\n" * 100_000)
