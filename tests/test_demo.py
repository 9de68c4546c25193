"""The demo: a shipped model on few images and draws, by its command and under its other name."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from monai_diffclf import demo
from monai_diffclf.commands import demo as command

ROOT = Path(__file__).resolve().parents[1]


def test_demo_ends_with_the_path_of_its_report(tmp_path, capsys):
    path = tmp_path / "a folder" / "report.html"
    path.parent.mkdir()
    assert demo.main(["--output", str(path), "--images", "20", "--draws", "2"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[-1] == str(path)
    assert [line.split("  ")[0] for line in lines[1:5]] == ["auc", "balanced accuracy", "sensitivity", "specificity"]
    assert "20/20" in printed.err
    page = path.read_text(encoding="utf-8")
    assert "phantom-2027-" in page
    assert "80, or 4 per image" in page
    assert 'class="outline"' in page


def test_demo_says_what_is_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "PHANTOMS", "phantom_xray_difusion")
    assert demo.main(["--output", str(tmp_path / "report.html")]) == 2
    assert "did you mean phantom_xray_diffusion?" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "report.html").exists()


def test_other_images_are_not_taken_for_those_of_the_report(tmp_path, capsys):
    for name in ("normal", "pneumonia"):  # a layout that the bundles read
        (tmp_path / "own" / "test" / name).mkdir(parents=True)
    for folder in (tmp_path / "own", tmp_path / "nowhere"):
        assert demo.main(["--data", str(folder), "--output", str(tmp_path / "report.html")]) == 2
        told = capsys.readouterr().err.splitlines()[-1]
        assert told == f"error: --data: expected a folder with pneumoniamnist.npz, got {folder}, which has none"
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "5"], "error: --images: expected 20 or more, so that both classes occur; got 5"),
        (["--draws", "0"], "error: --draws: 0 is not in the range x>=1."),
    ],
)
def test_demo_refuses_bad_numbers(arguments, message, capsys):
    assert demo.main(arguments) == 2
    assert capsys.readouterr().err.splitlines()[-1] == message


def test_script_explains_itself():
    done = subprocess.run([ROOT / "demo.sh", "--help"], capture_output=True, text=True, check=True)
    assert "./demo.sh [--data FOLDER] [--output report.html] [--images N] [--draws N]" in done.stdout
