"""The table and the pictures that inference writes."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
import torch
from PIL import Image

from monai_diffclf.dicom_out.finding import finding_of
from monai_diffclf.explain import decision_map, overlay
from monai_diffclf.handlers import ClassificationWriter
from monai_diffclf.handlers.prediction_table import PredictionTable
from monai_diffclf.keys import OutputKeys, UncertaintyKeys
from monai_diffclf.transforms import CalibrateProbabilitiesd
from monai_diffclf.uncertainty import Calibration

BASE = ["key", "predicted", "probability_no", "probability_yes", "vote_share_no", "vote_share_yes"]
UNCERTAINTIES = [
    "vote_variance",
    "vote_entropy",
    "vote_margin",
    "vote_share_low",
    "vote_share_high",
    "entropy_monte_carlo",
    "entropy_remaining",
    "probability_margin",
    "probability_entropy",
]
END = ["network_evaluations", "decided", "map", "warnings", "error"]


def read(folder) -> list[dict[str, str]]:
    with open(folder / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def add(**values):
    """A post-transform that adds the same to every image."""
    return lambda item: {**item, **values}


def test_columns_and_numbers(evaluate, images, tmp_path):
    _, outputs = evaluate(images, [ClassificationWriter(tmp_path, ["no", "yes"])])
    rows = read(tmp_path)
    assert list(rows[0]) == [*BASE, *UNCERTAINTIES, *END]
    assert [row["key"] for row in rows] == [f"film {i}" for i in range(5)]
    for row, output in zip(rows, outputs, strict=True):
        assert row["predicted"] == ["no", "yes"][int(output["pred"].argmax())]
        assert float(row["probability_yes"]) == pytest.approx(float(output["pred"][1]), abs=1e-6)
        assert float(row["vote_share_no"]) == pytest.approx(float(output["vote_share"][0]), abs=1e-6)
        for name in UNCERTAINTIES:
            assert float(row[name]) == pytest.approx(float(output["uncertainty"][name]), abs=1e-6)
        assert (row["network_evaluations"], row["decided"]) == ("18", "true")
    assert len({row["predicted"] for row in rows}) == 2


def test_what_post_transforms_add(evaluate, images, tmp_path):
    added = {
        "pred": torch.tensor([0.25, 0.75]),
        "prediction_set": torch.tensor([True, True]),
        "ood_score": torch.tensor(12.5),
        "ood_p_value": 0.03125,
    }
    evaluate(images, [ClassificationWriter(tmp_path, ["no", "yes"])], postprocessing=add(**added))
    rows = read(tmp_path)
    assert list(rows[0]) == [*BASE, *UNCERTAINTIES, "prediction_set", "ood_score", "ood_p_value", *END]
    for row in rows:
        assert (row["prediction_set"], row["ood_score"], row["ood_p_value"]) == ("no;yes", "12.5", "0.03125")
        assert row["probability_margin"] == "0.500000", "that of the probabilities beside it"


@pytest.mark.parametrize(("members", "expected"), [([False, True], "yes"), ([False, False], "")])
def test_sets_of_one_class_and_none(evaluate, images, tmp_path, members, expected):
    writer = ClassificationWriter(tmp_path, ["no", "yes"])
    evaluate(images[:1], [writer], postprocessing=add(prediction_set=torch.tensor(members)))
    (row,) = read(tmp_path)
    assert row["prediction_set"] == expected
    assert "ood_score" not in row


def test_every_run_starts_the_table_anew(evaluate, images, tmp_path):
    writer = ClassificationWriter(tmp_path, ["no", "yes"], maps=False)
    evaluate(images, [writer], postprocessing=add(ood_score=1.0))
    evaluate(images[:2], [writer])
    rows = read(tmp_path)
    assert len(rows) == 2
    assert "ood_score" not in rows[0]
    assert [row["map"] for row in rows] == ["", ""]


def test_pictures(evaluate, images, tmp_path):
    _, outputs = evaluate(images, [ClassificationWriter(tmp_path, ["no", "yes"])])
    rows = read(tmp_path)
    assert [row["map"] for row in rows] == [f"map_{i:05d}.png" for i in range(5)]
    output = outputs[4]
    difference = decision_map(output["error_maps"][None].cpu(), output["pred"].argmax()[None].cpu())[0].numpy()
    expected = overlay((images[4].numpy() + 1) / 2, difference)
    shown = np.asarray(Image.open(tmp_path / "map_00004.png").convert("RGB")) / 255
    np.testing.assert_allclose(shown, expected, atol=1 / 255)


def test_of_a_volume_the_slices_stand_side_by_side(evaluate, images, tmp_path):
    evaluate(images[..., None].expand(-1, -1, -1, -1, 4), [ClassificationWriter(tmp_path, ["no", "yes"])])
    assert [row["map"] for row in read(tmp_path)] == [f"map_{i:05d}.png" for i in range(5)]
    height, width = images.shape[2:]
    shown = np.asarray(Image.open(tmp_path / "map_00000.png"))
    # Two by two slices; the first axis points to the right, as MONAI has it.
    assert shown.shape[0] / shown.shape[1] == width / height and max(shown.shape) >= 1024


def test_unexplained_images_have_no_picture(evaluate, images, tmp_path):
    evaluate(images, [ClassificationWriter(tmp_path, ["no", "yes"])], explain=False)
    assert [row["map"] for row in read(tmp_path)] == [""] * 5


def test_images_without_names_are_numbered(evaluate, images, tmp_path):
    evaluate(images, [ClassificationWriter(tmp_path, ["no", "yes"], maps=False)], keys=False, labels=False)
    assert [row["key"] for row in read(tmp_path)] == [str(i) for i in range(5)]


@pytest.mark.parametrize("names", [["low", "high"], ["margin", "entropy"]])
def test_a_class_that_is_called_as_an_uncertainty_keeps_its_columns(evaluate, images, tmp_path, names):
    evaluate(images, [ClassificationWriter(tmp_path / "odd", names, maps=False)])
    evaluate(images, [ClassificationWriter(tmp_path / "plain", ["no", "yes"], maps=False)])
    for row, plain in zip(read(tmp_path / "odd"), read(tmp_path / "plain"), strict=True):
        assert len(row) == len(plain)
        for what in ("probability", "vote_share"):
            assert [row[f"{what}_{name}"] for name in names] == [plain[f"{what}_no"], plain[f"{what}_yes"]]
        finding = finding_of({**plain_numbers(row), "prediction_set": None}, names)
        other = finding_of({**plain_numbers(plain), "prediction_set": None}, ["no", "yes"])
        assert finding.interval == other.interval is not None
        assert finding.uncertainty == other.uncertainty
        assert list(finding.probabilities.values()) == list(other.probabilities.values())


def plain_numbers(row: dict) -> dict:
    return {name: float(value) if re.fullmatch(r"[-0-9.e]+", value) else value for name, value in row.items()}


def test_columns_of_one_name_are_refused(tmp_path):
    message = r"classes: expected names that make a column each, got \['a', 'b'\], with which .*\['map'\]"
    with pytest.raises(ValueError, match=message):
        PredictionTable(tmp_path / "table.csv", ["a", "b"], more=["map"])


def test_columns_are_of_the_vocabulary():
    assert set(UNCERTAINTIES) <= set(UncertaintyKeys) and set(END) - {"map", "error"} <= set(OutputKeys)
    assert {column.removesuffix("_yes") for column in BASE if column.endswith("_yes")} == {"probability", "vote_share"}


def test_margins_are_of_the_columns_beside_them(evaluate, images, tmp_path):
    calibration = Calibration("temperature", {"temperature": 3.0}, (0.5, 0.5), 100)
    post = CalibrateProbabilitiesd("pred", calibration)
    evaluate(images, [ClassificationWriter(tmp_path, ["no", "yes"], maps=False)], postprocessing=post)
    rows = read(tmp_path)
    for row in rows:
        for margin, column in (("probability_margin", "probability"), ("vote_margin", "vote_share")):
            difference = float(row[f"{column}_yes"]) - float(row[f"{column}_no"])
            assert float(row[margin]) == pytest.approx(abs(difference), abs=3e-6)
    assert any(abs(float(row["probability_margin"]) - float(row["vote_margin"])) > 0.01 for row in rows)


def test_a_table_short_of_rows_is_not_called_one(evaluate, images, tmp_path):
    """One image that cannot be classified leaves neither the first rows under the table's name nor an older table."""
    evaluate(images, [ClassificationWriter(tmp_path, ["no", "yes"])])
    assert len(read(tmp_path)) == 5 and not (tmp_path / "predictions.csv.part").exists()

    def fail(item):
        if item["pred"] is not None and (tmp_path / "predictions.csv.part").read_text().count("\n") > 1:
            raise ValueError("cannot go on")
        return item

    with pytest.raises(Exception, match="cannot go on|fail"):
        evaluate(images, [ClassificationWriter(tmp_path, ["no", "yes"])], postprocessing=fail)
    assert not (tmp_path / "predictions.csv").exists()
    assert (tmp_path / "predictions.csv.part").exists()


def test_maps_of_an_earlier_run_do_not_stay(evaluate, images, tmp_path):
    evaluate(images, [ClassificationWriter(tmp_path, ["no", "yes"])])
    own = tmp_path / "map_notes.png"
    own.write_bytes(b"a user's")
    evaluate(images[:2], [ClassificationWriter(tmp_path, ["no", "yes"])])
    assert sorted(path.name for path in tmp_path.glob("map_*.png")) == [
        "map_00000.png",
        "map_00001.png",
        "map_notes.png",
    ]
