"""Running a bundle from a program: settings are checked, its folder is held, nothing of it stays behind."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from monai_diffclf import run
from monai_diffclf.bundle import find_bundle
from monai_diffclf.run import run_bundle
from monai_diffclf.run.command_line import read_command_line
from monai_diffclf.run.run_bundle import option_words, settle
from monai_diffclf.run.several import run_in_processes
from monai_diffclf.storage.folder_lock import FolderLock

SHIPPED = Path(__file__).resolve().parents[2] / "bundles" / "phantom_xray_diffusion"


@pytest.fixture
def bundle(tmp_path: Path):
    """A bundle that writes its settings, calling what the shipped ones call."""
    root = tmp_path / "a bundle"
    (root / "configs").mkdir(parents=True)
    (root / "configs" / "metadata.json").write_text('{"version": "0"}')
    (root / "configs" / "train.json").write_text(
        """{
        "imports": ["$import monai_diffclf", "$import monai_diffclf.run", "$import pathlib", "$import logging"],
        "bundle_root": ".", "output_dir": "$@bundle_root + '/runs'", "dataset_dir": "data",
        "max_epochs": 3, "balanced": true, "classes": ["a", "b"], "progress": true, "failed": {},
        "part": {"_target_": "dict", "size": 3},
        "initialize": ["$monai_diffclf.run.start(__local_refs)", "$monai_diffclf.run.hold(@output_dir)"],
        "run": ["$pathlib.Path(@output_dir, 'run').write_text(str([@max_epochs, @balanced, @classes, @dataset_dir]))",
                "$logging.getLogger('monai_diffclf.x').info('on the way')"],
        "finalize": ["$monai_diffclf.run.report_failed(@failed)"]}"""
    )
    return root


def result(bundle: Path) -> str:
    return (bundle / "runs" / "run").read_text()


def test_a_bundle_runs_with_settings_of_both_kinds(bundle, capsys):
    before, level = list(sys.path), logging.getLogger("monai_diffclf").level
    parser = run_bundle(bundle, ["train.json"], {"max_epochs": 5, "classes": None}, typed={"balanced": "no"})
    assert result(bundle) == "[5, False, ['a', 'b'], 'data']"
    assert parser["bundle_root"] == str(bundle.resolve())
    told = capsys.readouterr()
    assert told.out == "" and "on the way" in told.err.splitlines()
    assert (sys.path, logging.getLogger("monai_diffclf").level) == (before, level)


def test_text_is_taken_as_it_is(bundle, tmp_path):
    run_bundle(bundle, ["train.json"], {"dataset_dir": Path("2024")}, typed={"classes": "[x, 'y z']"})
    assert result(bundle) == "[3, True, ['x', 'y z'], '2024']"
    run_bundle(bundle, ["train.json"], {"dataset_dir": Path("$import os")})
    assert result(bundle).endswith("'./$import os']")


@pytest.mark.parametrize(
    ("settings", "typed", "text"),
    [
        ({}, {"max_epoch": "3"}, r"--set max_epoch: no such setting; did you mean --epochs\?"),
        ({"max_epochs": "x"}, {}, "--epochs: expected a whole number, got x"),
        ({}, {"balanced": "2"}, "--set balanced: expected True or False, got 2"),
        ({}, {"dataset_dir": "$x"}, r"--set dataset_dir: expected a path, but \$x begins with \$"),
        ({}, {"classes": '["$import os", "b"]'}, "--set classes: expected a list, but"),
        ({}, {"config_file": "x"}, "--set config_file: no such setting"),
        ({"dataset_dir": "@x"}, {}, "dataset_dir: expected plain text"),
    ],
)
def test_settings_are_refused_by_the_names_of_the_command(bundle, settings, typed, text):
    with pytest.raises(ValueError, match=text):
        run_bundle(bundle, ["train.json"], settings, typed=typed, names={"max_epochs": "--epochs"})
    assert not (bundle / "runs").exists()


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        ({"loss": "{'_target_': 'os.getcwd'}"}, r"--set loss: expected plain values, got a component \(os.getcwd\)"),
        ({"loss#gamma": "$__import__('os').getcwd()"}, "--set loss#gamma: expected plain text"),
        ({"scheduler#_target_": "os.getcwd"}, "--set scheduler#_target_: expected the id of a plain value"),
        ({"scheduler#_disabled_": "True"}, "--set scheduler#_disabled_: expected the id of a plain value"),
    ],
)
def test_no_setting_is_code(typed, text):
    """They may come from a run's folder that somebody else has made."""
    with pytest.raises(ValueError, match=text):
        settle(find_bundle("phantom_xray_diffusion"), ["train.json"], {}, typed, {})


def test_a_file_that_is_not_there(bundle):
    with pytest.raises(ValueError, match="bundle: a bundle has no configs/evaluate.json, which this command needs"):
        run_bundle(bundle, ["train.json", "evaluate.json"])


def test_the_folder_is_held_while_it_runs_and_no_longer(bundle):
    def ready(parser):
        with pytest.raises(ValueError, match="is being written by another process"):
            FolderLock(bundle / "runs").acquire()

    run_bundle(bundle, ["train.json"], ready=ready)
    with FolderLock(bundle / "runs"), pytest.raises((ValueError, RuntimeError)) as refused:
        run_bundle(bundle, ["train.json"])
    assert "is being written by another process" in f"{refused.value} {refused.value.__cause__}"
    for folder in ("configs", "configs/sub"):
        with pytest.raises((ValueError, RuntimeError)) as refused:
            run_bundle(bundle, ["train.json"], {"output_dir": bundle / folder})
        assert "shipped with" in f"{refused.value} {refused.value.__cause__}"


def test_images_that_failed_end_it(bundle, capsys):
    config = bundle / "configs" / "train.json"
    config.write_text(config.read_text().replace('"failed": {}', '"failed": {"a.png": "cut"}'))
    with pytest.raises(SystemExit) as ended:
        run_bundle(bundle, ["train.json"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("the first is a.png: cut")


def test_python_code_is_left_alone_outside(bundle):
    assert run.now_running() is None
    run.hold(bundle / "configs")  # does nothing
    assert not (bundle / "configs" / ".lock").exists()


def test_settings_go_through_a_command_line():
    values = {"a": "2024", "classes": ["x y", "b"], "n": 3, "part#rate": 0.5, "off": False}
    line = read_command_line(option_words(values))
    assert {name: option.value for name, option in line.options.items()} == {**values, "a": 2024}
    assert line.options["a"].raw == "2024"  # a path stays what was typed


def test_settings_of_shipped_bundles_are_known():
    assert settle(SHIPPED, ["train.json"], {"max_epochs": 3, "device": "cpu"}, {}, {})["max_epochs"] == 3


SEVERAL = """{
    "imports": ["$import os", "$import sys", "$import time", "$import pathlib"],
    "initialize": ["$monai_diffclf.run.start(__local_refs)"],
    "run": ["$%s"]}"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_fails_ends_all_in_one_line(bundle, capfd, rank):
    bad = f"time.sleep(2) if os.environ['RANK'] != '{rank}' else open('/no/such/file')"
    (bundle / "configs" / "several.json").write_text(
        SEVERAL.replace('"$import os"', '"$import os", "$import monai_diffclf", "$import monai_diffclf.run"') % bad
    )
    with pytest.raises(SystemExit) as ended:
        run_in_processes(bundle, ["train.json", "several.json"], {}, 2)
    assert ended.value.code == 2
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert errors == ["error: /no/such/file: No such file or directory"]


@pytest.mark.slow
def test_processes_share_a_run(bundle):
    write = "pathlib.Path(@bundle_root, os.environ['RANK']).write_text(str([@max_epochs, @classes, @dataset_dir]))"
    (bundle / "configs" / "several.json").write_text(
        SEVERAL.replace('"$import os"', '"$import os", "$import monai_diffclf", "$import monai_diffclf.run"') % write
    )
    run_in_processes(bundle, ["train.json", "several.json"], {"dataset_dir": Path("a b")}, 2, typed={"max_epochs": "7"})
    for rank in "01":
        assert (bundle / rank).read_text() == "[7, ['a', 'b'], 'a b']"
