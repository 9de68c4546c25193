"""``monai-diffclf report``: from the folder of a run to a page, or one line that says what is missing."""

from __future__ import annotations

import json
import os

import pytest

from monai_diffclf.bundle import open_bundle
from monai_diffclf.commands import main
from monai_diffclf.networks import network_hash
from monai_diffclf.storage.outputs import Outputs
from tests.report.run_folders import make_run

BUNDLE = "phantom_xray_diffusion"
CLASSES = ["clear", "lesion"]


@pytest.fixture(scope="module")
def shipped() -> str:
    return network_hash(open_bundle(BUNDLE, "train.json", "evaluate.json", device="cpu").network)


def ended(capsys, *words) -> tuple[int, list[str], str]:
    code = main(["report", BUNDLE, *map(str, words), "--no-progress", "--device", "cpu"])
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


def test_a_page_in_the_runs_folder_that_goes_with_its_weights(shipped, tmp_path, capsys):
    run = make_run(tmp_path / "run", CLASSES, network=shipped)
    (run / "model.json").unlink()
    code, lines, _ = ended(capsys, "--run", run)
    assert (code, lines[-1]) == (0, str(run / "report.html"))
    assert "Probabilities were not calibrated" in lines[0]
    page = (run / "report.html").read_text(encoding="utf-8")
    assert shipped in page and "lesion" in page
    Outputs(run, "report").remove()
    assert not (run / "report.html").exists()


def test_as_json_and_elsewhere(shipped, tmp_path, capsys):
    run = make_run(tmp_path / "run", CLASSES, network=shipped)
    (run / "model.json").unlink()
    before = sorted(os.listdir(run))
    code, lines, _ = ended(capsys, "--run", run, "--output", tmp_path / "new" / "a.html", "--json")
    assert code == 0
    assert json.loads(lines[-1])["path"] == str(tmp_path / "new" / "a.html")
    assert sorted(os.listdir(run)) == before


def test_what_cannot_be_reported_on_is_refused_with_the_command_to_type(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    code, _, told = ended(capsys, "--run", tmp_path / "run")
    assert code == 2
    assert told.splitlines()[-1].endswith(
        f"holds no results on test images; evaluate it: monai-diffclf evaluate {BUNDLE} --run {tmp_path / 'run'}"
    )
    run = make_run(tmp_path / "other", CLASSES)
    code, _, told = ended(capsys, "--run", run, "--output", tmp_path)
    assert code == 2
    assert f"--output: expected a file for the page, got the folder {tmp_path}; name one in it" in told
    code, _, told = ended(capsys, "--run", run)
    assert code == 2
    assert "are of the weights 0123456789abcdef, but" in told.splitlines()[-1]
    assert not (run / "report.html").exists()
