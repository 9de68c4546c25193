"""The timed pipeline reads as many images as ISIC 2017 has, and none of its test images."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from benchmarks.speed import features_pipeline


@pytest.fixture
def data(tmp_path):
    """Four training, two validation and three test images."""
    folder = tmp_path / "isic"
    (folder / "images").mkdir(parents=True)
    rows = ["file,label,melanoma,split"]
    for n, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 3):
        pixels = np.random.default_rng(n).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{n}.png")
        rows.append(f"images/{n}.png,{n % 3},0,{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_mirrored_training_images_stand_in_for_the_test_set(data, tmp_path, monkeypatch):
    monkeypatch.setattr(features_pipeline, "TEST", 3)
    made = features_pipeline.stand_in(data, tmp_path / "made")
    with open(made / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["split"] for row in rows] == ["train"] * 4 + ["val"] * 2 + ["test"] * 3
    assert not {f"images/{n}.png" for n in (6, 7, 8)} & {row["file"] for row in rows}
    for row, source in zip(rows[6:], rows[:3], strict=True):
        assert row["label"] == source["label"]
        pictures = [np.asarray(Image.open(made / each["file"])) for each in (row, source)]
        np.testing.assert_array_equal(pictures[0], pictures[1][:, ::-1])


def test_times_three_commands_and_refuses_a_folder_that_was_used(data, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(features_pipeline, "seconds_of", lambda *words: asked.append(words) or 60.0)
    output = tmp_path / "times.json"
    words = ["program", "--data", str(data), "--work", str(tmp_path / "work"), "--output", str(output)]
    monkeypatch.setattr("sys.argv", words)
    features_pipeline.main()
    assert [each[0] for each in asked] == ["train", "evaluate", "report"]
    assert '"minutes_in_all": 3.0' in output.read_text()
    (tmp_path / "work" / "run").mkdir()
    with pytest.raises(SystemExit, match="work: expected a folder without a run"):
        features_pipeline.main()
