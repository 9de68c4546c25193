"""README and docs say what the result files say."""

from __future__ import annotations

import json
import re

import pytest

from tools import check_numbers
from tools.check_numbers import documents, faults, read_exceptions, read_passages, shown, unchecked, write


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text(json.dumps({"auc": {"value": 0.91234, "low": 0.9, "high": 0.95}, "rows": [4]}))
    (tmp_path / "page.md").write_text("The AUC is 0.9\n(0.8 to 0.95), of `4` images.\n\n| 4 | [x](b-1.5.md) | 7.5 |\n")
    (tmp_path / "numbers.txt").write_text(
        "[files]\na = a.json\n\n[page.md]\nThe AUC is {a#auc:ci .2f}, of\n| {a#rows/0} |\n"
    )
    monkeypatch.setattr(check_numbers, "ROOT", tmp_path)
    return tmp_path


def test_documents_say_what_their_files_say():
    found = faults(read_passages())
    assert not found, "run `python -m tools.check_numbers --write`, and read what changed:\n" + "\n".join(found)


@pytest.mark.parametrize("document", documents())
def test_what_looks_measured_has_a_file(document):
    """Numbers with decimals or units: each covered by a passage of numbers.txt, or named in not_measured.txt."""
    assert not unchecked(document, read_passages(), read_exceptions())


def test_readme_guides_cards_and_notebooks_are_looked_at():
    found = documents()
    assert {"README.md", "docs/results.md", "bundles/skin_lesion_diffusion/docs/README.md"} <= {*found}
    assert sum(name.endswith(".ipynb") for name in found) >= 5


def test_another_number_is_found_and_mended(project):
    passages = read_passages(project / "numbers.txt")
    assert faults(passages) == [
        "page.md says 'The AUC is 0.9\\n(0.8 to 0.95), of', the files say 'The AUC is 0.91 (0.90 to 0.95), of'"
    ]
    assert unchecked("page.md", passages, {}) == ["7.5 in ', of `4` images. | 4 | [x](b-1.5.md) | 7.5 |'"]
    assert unchecked("page.md", passages, {"page.md": [re.compile(r"\| 7\.5")]}) == []
    write(passages)
    assert faults(passages) == []
    assert (project / "page.md").read_text().startswith("The AUC is 0.91\n(0.90 to 0.95), of `4` images.")


def test_rows_of_the_same_name_are_told_apart_by_their_order(project):
    (project / "page.md").write_text("| A | 4 |\n| A | 5 |\n")
    (project / "numbers.txt").write_text("[files]\na = a.json\n[page.md]\n| A | {a#rows/0} |\n| A | {a#rows/0} |\n")
    passages = read_passages(project / "numbers.txt")
    assert faults(passages) == ["page.md says '| A | 5 |', the files say '| A | 4 |'"]
    write(passages)
    assert (project / "page.md").read_text() == "| A | 4 |\n| A | 4 |\n"


def test_a_passage_that_is_gone_is_named(project):
    (project / "page.md").write_text("The AUC is high.")
    assert [fault.split(" lacks")[0] for fault in faults(read_passages(project / "numbers.txt"))] == ["page.md"] * 2


def test_a_number_that_no_file_has_is_named(project):
    (project / "numbers.txt").write_text("[files]\na = a.json\n[page.md]\n{a#f1} of 1\n")
    with pytest.raises(ValueError, match=r"numbers.txt, line 4: KeyError\('f1'\)"):
        read_passages(project / "numbers.txt")


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [(-0.0004, ".3f", "0.000"), (-0.0006, ".3f", "-0.001"), (0.5, "1/.1f", "2.0"), (0.123, "100*.1f", "12.3")],
)
def test_numbers_are_written_as_in_a_text(value, spec, text):
    assert shown(value, spec) == text


def test_a_number_that_was_rounded_is_not_rounded_again():
    assert shown(0.94949, ".3f") == "0.949" and shown(0.9375, ".3f") == "0.938"  # the second is exact: 15 / 16
    with pytest.raises(ValueError, match=r"0.9495 was rounded and is to be rounded again to .3f"):
        shown(0.9495, ".3f")
    with pytest.raises(ValueError, match=r"0.9645 was rounded"):
        shown(0.9645, "100*.1f")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("an AUC of 0.95", ["0.95"]),
        ("it took 4 minutes", ["4"]),
        ("3.1 to 4 times", ["3.1", "4"]),
        ("right to 3e-5", ["3e-5"]),
        ("`0.95` and [x](a-0.9.md)", []),
        ("seed 0, 28 px, 624 images, version 3.6.7", []),
    ],
)
def test_what_looks_measured(project, text, found):
    (project / "other.md").write_text(text)
    assert [each.split(" in ")[0] for each in unchecked("other.md", [], {})] == found


def test_rows_of_a_table_are_numbers_too(project):
    (project / "a.csv").write_text("name,auc\nall,0.75\nsome,0.5\n")
    (project / "page.md").write_text("AUC 0.70 for some")
    (project / "numbers.txt").write_text("[files]\nt = a.csv\n[page.md]\nAUC {t#1/auc:.2f} for {t#1/name}\n")
    assert faults(read_passages(project / "numbers.txt"))[0].startswith("page.md lacks the passage")
    (project / "numbers.txt").write_text("[files]\nt = a.csv\n[page.md]\nAUC {t#1/auc:.2f} for\n")
    write(read_passages(project / "numbers.txt"))
    assert (project / "page.md").read_text() == "AUC 0.50 for some"
