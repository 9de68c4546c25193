"""Where a command may write, and options that would have no effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_diffclf import run


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch):
    """A bundle's folder, from which a command runs."""
    for name in ("configs", "docs/evaluation", "models", "runs"):
        (tmp_path / "bundle" / name).mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "metadata.json").write_text("{}")
    monkeypatch.chdir(tmp_path / "bundle")
    monkeypatch.setattr(run, "command_line", lambda: ())
    at_end: list = []
    monkeypatch.setattr(run.atexit, "register", at_end.append)
    yield tmp_path / "bundle"
    for release in at_end:
        release()


@pytest.mark.parametrize(
    "paths",
    [
        ("models",),
        ("./models/",),
        ("docs/evaluation",),
        ("docs/evaluation/seed_3",),
        ("configs",),
        ("runs/../models",),
        ("runs/a", "models"),
        ("runs/a", "docs/evaluation", "runs/results.json"),
        ("runs/a", "runs/evaluation", "docs/results.json"),
    ],
)
def test_what_a_bundle_was_shipped_with_is_not_written_over(bundle, paths):
    before = sorted(bundle.rglob("*"))
    with pytest.raises(ValueError, match=r"output folder: .* keeps what it was shipped with; name another"):
        run.hold(*paths)
    assert sorted(bundle.rglob("*")) == before


@pytest.mark.parametrize("paths", [("runs/models",), ("runs/a", "runs/a/docs"), ("../docs",), ("../out", "../models")])
def test_other_folders_are_held(bundle, paths):
    run.hold(*paths)
    assert Path(paths[0]).is_dir()


def test_a_link_to_a_shipped_folder_is_one(bundle):
    (bundle / "mine").symlink_to(bundle / "models")
    with pytest.raises(ValueError, match="shipped with"):
        run.hold("mine")


def test_python_code_may_write_anywhere(bundle, monkeypatch):
    monkeypatch.setattr(run, "command_line", lambda: None)
    run.hold("models")  # does nothing, nor refuses


def test_an_option_without_effect_is_refused():
    run.check_used("prior", None, "calibrated", False)
    run.check_used("prior", [0.9, 0.1], "calibrated", True)
    with pytest.raises(ValueError, match="prior: expected None where calibrated is off, .*; leave out --prior, or set"):
        run.check_used("prior", [0.9, 0.1], "calibrated", False)


@pytest.mark.parametrize("other", ["runs/shared", "runs/shared/results.json"])
def test_what_is_written_elsewhere_is_held_too(bundle, other):
    run.hold("runs/a", "runs/a/evaluation", other)
    with pytest.raises(ValueError, match=r"output folder: runs/shared is being written by another process"):
        run.hold("runs/b", "runs/b/evaluation", other)
    assert not (bundle / "runs" / "a" / "evaluation").exists(), "within the output folder no lock of its own is needed"
