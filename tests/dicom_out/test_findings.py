"""Results of several findings: a group for each in the report, a map and a picture for each."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest

highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

from monai_diffclf.dicom_out import dicom_files, finding_of  # noqa: E402
from monai_diffclf.dicom_out.codes import private_concept  # noqa: E402
from monai_diffclf.dicom_out.finding import STATES  # noqa: E402
from tools.dicom_sources import write_sources  # noqa: E402
from tools.validate_dicom import (  # noqa: E402
    ALGORITHM,
    FINDINGS,
    WHEN,
    WITH_FINDINGS,
    finding_row,
    make_objects,
    missing_validators,
    validate,
    validate_together,
)

ROWS = [finding_row(0.84, ["present"]), finding_row(0.16, ["absent"])]


def objects(folder, rows=ROWS, findings=FINDINGS, values=None):
    (path,) = write_sources(folder, "dx")
    made = dicom_files(path, rows, findings, ALGORITHM, values, when=WHEN)
    return {kind: pydicom.dcmread(BytesIO(content)) for kind, content in made.items()}


def groups_of(report):
    return highdicom.sr.ComprehensiveSR.from_dataset(report).content.get_image_measurement_groups()


@pytest.mark.parametrize("name", WITH_FINDINGS)
def test_valid(name, tmp_path):
    if absent := missing_validators():
        pytest.skip(f"not installed: {', '.join(absent)} (dicom3tools, dcmtk)")
    files = make_objects(tmp_path, name, findings=True)
    for kind, path in files.items():
        for program, found in validate(path, kind).items():
            assert found["errors"] == [], (kind, program)
    assert validate_together(files)["dcentvfy"]["errors"] == []


@pytest.mark.parametrize(
    ("row", "state", "code"),
    [
        (finding_row(0.84, ["present"]), "present", "121053"),
        (finding_row(0.16, ["absent"]), "absent", "121054"),
        (finding_row(0.84, ["absent", "present"]), "undecided", "121059"),
        (finding_row(0.84, []), "undecided", "121059"),
        ({**finding_row(0.84, ["present"]), "decided": False}, "undecided", "121059"),
        ({k: v for k, v in finding_row(0.6, []).items() if k != "prediction_set"}, "present", "121053"),
    ],
)
def test_present_absent_or_undecided(row, state, code, tmp_path):
    assert finding_of(row, STATES, name="nodule").state == state
    group = groups_of(objects(tmp_path, [row, ROWS[1]])["report"])[0]
    said = [(each.name.value, each.value.value) for each in group.get_qualitative_evaluations()]
    assert [value for name, value in said if name == "121052"] == [code]
    chosen = {"absent": "121054", "present": "121053"}
    expected = [chosen[name] for name in row.get("prediction_set", ())]
    assert [value for name, value in said if name == "PREDICTION_SET"] == (
        expected or ([private_concept("empty prediction set", "").value] if "prediction_set" in row else [])
    )


def test_numbers_are_those_of_its_presence(tmp_path):
    groups = groups_of(objects(tmp_path)["report"])
    assert [(group.finding_type.scheme_designator, group.finding_type.value) for group in groups] == [
        ("SCT", "27925004"),
        ("SCT", "41699000"),
    ]
    # The interval of the winner's share is given; of an absent finding that of its presence is the mirrored one.
    for group, share, bounds in zip(groups, (0.84, 0.16), ((0.653, 0.936), (0.064, 0.347)), strict=True):
        numbers = {str(each.name.meaning): each for each in group.get_measurements()}
        assert set(numbers) == {
            "Probability",
            "Share of the draws that vote for the class",
            "Vote entropy",
            "Probability entropy",
        }
        for name in ("Probability", "Share of the draws that vote for the class"):
            high, low = (item.value for item in numbers[name][0].ContentSequence[:2])
            assert float(numbers[name].value) == share
            assert (share - low, share + high) == pytest.approx(bounds)


def test_a_map_and_a_picture_of_each(tmp_path):
    values = np.random.default_rng(2).normal(size=(2, 50, 64)).astype(np.float32)
    made = objects(tmp_path, values=values)
    kinds = ("map", "overlay")
    assert set(made) == {"report", *(f"finding_{number}_{kind}" for number in (0, 1) for kind in kinds)}
    for number, name in enumerate(FINDINGS):
        mapped = made[f"finding_{number}_map"]
        np.testing.assert_array_equal(np.frombuffer(mapped.FloatPixelData, np.float32).reshape(50, 64), values[number])
        assert f"Evidence for {name}" in mapped.ContentDescription and f"of {name} by" in mapped.SeriesDescription
        assert f"Decision map for {name}" in made[f"finding_{number}_overlay"].DerivationDescription
    uids = {(dataset.SeriesInstanceUID, dataset.SOPInstanceUID) for dataset in made.values()}
    assert len(uids) == len({series for series, _ in uids}) == 5


def test_a_row_for_each_finding_is_asked_for(tmp_path):
    with pytest.raises(ValueError, match=r"row: expected a row for each of the findings .* got 1"):
        objects(tmp_path, ROWS[:1])
    with pytest.raises(ValueError, match=r"row: expected the row .* classified as one of \['absent', 'present'\]"):
        objects(tmp_path, [{"predicted": "nodule"}, ROWS[1]])
