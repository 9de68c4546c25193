"""Datalists with several findings an image."""

from __future__ import annotations

import numpy as np
import pytest

from monai_diffclf.data import describe_data
from monai_diffclf.data.label_vectors import check_findings_present
from monai_diffclf.data.run_checks import audit_run

NAMES = ["nodule", "effusion"]


def items(labels, size: int = 16):
    rng = np.random.default_rng(0)
    return [
        {"image": rng.random((1, size, size)).astype(np.float32), "label": np.asarray(label), "key": f"k{i}"}
        for i, label in enumerate(labels)
    ]


def test_data_with_findings_are_described_by_how_many_have_each():
    described = describe_data({"test": items([[0, 1], [1, 0], [2, 1]])}, NAMES, name="films")
    assert described["test"]["classes"] == {"nodule": 1, "effusion": 2}
    assert described["test"]["unknown"] == {"nodule": 1, "effusion": 0}
    other = describe_data({"test": items([[0, 1], [1, 0], [0, 1]])}, NAMES, name="films")
    assert other["test"]["hash"] != described["test"]["hash"], "the labels are part of what was judged"


BAD = {
    "no positive": (
        [[0, 1], [0, 0]],
        r"train: expected images with and without .* got none with nodule \(2",
    ),
    "all positive": ([[0, 1], [1, 1]], r"train: .* got none without effusion \(2 with, 0 unknown\)"),
    "only unknown": ([[0, 2], [1, 2]], r"train: .* got none with effusion \(0 without, 2 unknown\)"),
    "too short": ([[0], [1]], r"train: label: expected a state for each of the 2 findings .* got \[1\] for 'k0'"),
    "one too many": ([[0, 1], [1, 0, 1]], r"got \[3\] for 'k1'"),
    "uncertain": ([[0, 1], [1, -1]], "got -1 for finding 1 .* choose what an uncertain or missing label counts as"),
}


@pytest.mark.parametrize("name", BAD)
def test_findings_of_which_nothing_can_be_learned_are_refused_in_one_line(name):
    labels, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        check_findings_present(items(labels), "train", NAMES)
    assert "\n" not in str(caught.value)


def test_a_run_is_audited_by_whether_anything_is_found(tmp_path):
    train = items([[0, 1], [1, 0], [0, 0], [1, 1]])
    text = audit_run({"train": train, "validation": train}, tmp_path / "audit.json", classes=NAMES)
    assert "a finding" in text and "no finding" in text
    with pytest.raises(ValueError, match="validation: .* got none with nodule"):
        audit_run({"train": train, "validation": train[:1] + train[2:3]}, tmp_path / "a.json", classes=NAMES)
