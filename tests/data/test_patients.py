"""Patients from names of files, and in one split each."""

from __future__ import annotations

import pytest

from monai_diffclf.data.patients import check_patients, patient_reader, patients_of

SHARED = {"train": {"P1": "a", "P2": "b"}, "validation": {"P3": "c"}, "test": {"P1": "d", "P2": "e"}}


def test_unknown_patients():
    items = [{"patient": name, "key": name} for name in ("", "NaN", "n/a", "P1", " P1", None, "U\u0308")] + [
        {"key": "x"}
    ]
    assert patients_of(items) == {"P1": "P1", "\u00dc": "U\u0308"}


def test_a_shared_patient_is_named_with_the_way_out():
    with pytest.raises(
        ValueError,
        match=r"^T: patient: expected each patient in one split, got 2 in both 'train' and 'test': 'P1' \(a; d\) and "
        r"others; split by patient, or allow it by name: --allow_shared_patients \"\['train','test'\]\"$",
    ):
        check_patients(SHARED, where="T")
    for allow in (["validation", "test"], ["train", "validation"]):
        with pytest.raises(ValueError, match="in both 'train' and 'test'"):
            check_patients(SHARED, allow)
    for allow in (["train", "test"], ("test", "train"), "train,test", "['train','test']"):
        check_patients(SHARED, allow)


@pytest.mark.parametrize(
    ("allow", "error", "message"),
    [
        (True, TypeError, "expected names of splits such as"),
        ([1, 2], TypeError, "expected names of splits such as"),
        (["train", "tset"], ValueError, r"expected names of splits \(.*\), got \['tset'\]"),
        (["train"], ValueError, "expected two splits that may share"),
    ],
)
def test_what_allows_nothing_is_refused(allow, error, message):
    with pytest.raises(error, match=f"allow_shared_patients: {message}"):
        check_patients(SHARED, allow)


def test_one_patient_spelt_in_two_ways_is_not_two():
    splits = {"train": {"P1": "a.png", "Miller  J": "c.png"}, "test": {"p1": "b.png"}}
    said = r"got 'P1' \(a.png\) in 'train' and 'p1' \(b.png\) in 'test', which differ in case or spaces alone"
    with pytest.raises(ValueError, match=said):
        check_patients(splits, where="table.csv")
    check_patients(splits, ["train", "test"])
    with pytest.raises(ValueError, match="'Miller  J'.*'miller j'"):
        check_patients({**splits, "test": {"miller j": "b.png"}})
    check_patients({**splits, "test": {"MillerJ": "b.png", "P 1": "d.png"}})


def test_patterns():
    read = patient_reader(r"^[^/]+/(?:case|p)(\d+)")
    assert (read("ill/case12_left.png"), read("ill/p7/1.png")) == ("12", "7")
    with pytest.raises(
        ValueError, match=r"expected .* to find the patient in every file name, it finds none in 'x\.png'"
    ):
        read("x.png")
    for pattern, message in (
        (r"P\d+", "with one group.*with 0"),
        (r"(a)(b)", "with 2"),
        ("(", "a regular expression, got"),
    ):
        with pytest.raises(ValueError, match=f"patient_pattern: .*{message}"):
            patient_reader(pattern)
    with pytest.raises(TypeError, match="patient_pattern: expected text, got 7"):
        patient_reader(7)
    with pytest.raises(ValueError, match="finds none in 'x'"):
        patient_reader("(y?)")("x")
