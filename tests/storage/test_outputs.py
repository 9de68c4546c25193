"""A folder's list of what was written by us."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from monai_diffclf.storage.outputs import Outputs


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("...")


def test_only_what_is_listed_is_removed(tmp_path):
    outputs = Outputs(tmp_path, "inference")
    outputs.add(["predictions.csv", tmp_path / "maps" / "a.png", "never written"])
    write(tmp_path, "predictions.csv", "maps/a.png", "mine.txt", "other/map.png")
    Outputs(tmp_path, "evaluation").add(["results.json"])
    write(tmp_path, "results.json")
    outputs.remove()
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        ".outputs.jsonl",
        "mine.txt",
        "other/map.png",
        "results.json",
    ]
    assert not (tmp_path / "maps").exists()
    Outputs(tmp_path, "evaluation").remove()
    assert sorted(os.listdir(tmp_path)) == ["mine.txt", "other"]


def test_a_folder_that_holds_more_stays(tmp_path):
    outputs = Outputs(tmp_path, "inference")
    outputs.add(["maps/a.png"])
    write(tmp_path, "maps/a.png", "maps/mine.png")
    outputs.remove()
    assert os.listdir(tmp_path / "maps") == ["mine.png"]


def test_what_was_made_by_the_same_stays(tmp_path):
    write(tmp_path, "a")
    assert not Outputs(tmp_path, "x").begin({"weights": "1"})
    Outputs(tmp_path, "x").add(["a"])
    assert Outputs(tmp_path, "x").begin({"weights": "1"})
    assert (tmp_path / "a").exists()
    assert not Outputs(tmp_path, "x").begin({"weights": "2"})
    assert not (tmp_path / "a").exists()
    assert Outputs(tmp_path, "x").made_by == {"weights": "2"}


def test_nothing_outside_is_listed_or_removed(tmp_path):
    (tmp_path / "run").mkdir()
    write(tmp_path, "outside")
    outputs = Outputs(tmp_path / "run", "x")
    for name in ("../outside", tmp_path / "outside", "a/../../outside", "."):
        with pytest.raises(ValueError, match="names: expected files in"):
            outputs.add([name])
    (tmp_path / "run" / ".outputs.jsonl").write_text('{"step": "x", "file": "../outside"}\n')
    Outputs(tmp_path / "run", "x").remove()
    assert (tmp_path / "outside").exists()


def test_a_line_that_a_kill_cut_does_no_harm(tmp_path):
    Outputs(tmp_path, "x").add(["a"])
    with open(tmp_path / ".outputs.jsonl", "a") as file:
        file.write('{"step": "x", "fi')
    outputs = Outputs(tmp_path, "x")
    outputs.add(["b"])
    assert outputs.names() == ["a", "b"]
    write(tmp_path, "a", "b")
    outputs.remove()
    assert os.listdir(tmp_path) == []


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path):
    write(tmp_path, "film.png")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.png").symlink_to(tmp_path / "film.png")
    outputs = Outputs(tmp_path / "run", "x")
    outputs.add(["a.png"])
    outputs.remove()
    assert (tmp_path / "film.png").exists()
    assert not (tmp_path / "run" / "a.png").is_symlink()
