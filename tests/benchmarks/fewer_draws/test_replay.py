"""The stored errors of all 501 draws of the pneumonia bundle, replayed with every stopping rule."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fewer_draws import replay

ROOT = Path(__file__).resolve().parents[3]
STORED = ROOT / "bundles" / "pneumonia_xray_diffusion" / "docs" / "evaluation"


@pytest.fixture
def report(monkeypatch, capsys):
    """What the command prints, in this process."""

    def run(*arguments: str) -> dict:
        monkeypatch.setattr(sys, "argv", ["replay", *arguments])
        replay.main()
        return json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("split", ["validation", "test"])
def test_promises_hold_on_the_real_errors(split, report):
    file = str(STORED / f"errors_{split}_draws_501.npz")
    loose, strict = (report("--errors", file, "--alpha", alpha, "--orders", "4") for alpha in ("0.01", "0.001"))
    assert loose["curtailed"]["vote"]["agreement"] == 1
    assert 0.3 < loose["curtailed"]["vote"]["evaluations_ratio"] < 0.9
    for rule in ("vote", "mean"):
        assert loose["predictive"][rule]["agreement"] >= 0.99
        assert loose["predictive"][rule]["evaluations_ratio"] <= 1 / 6
        assert strict["predictive"][rule]["agreement"] >= 0.998  # one image of 429 is 0.0023
        assert strict["predictive"][rule]["evaluations_ratio"] <= 1 / 3
        assert loose["sequential"][rule]["agreement"] >= 0.99
        assert loose["sequential"][rule]["evaluations_ratio"] < 1 / 3
        assert abs(loose["predictive"][rule]["accuracy_difference"]) <= 0.01
        assert loose["staged"][rule]["evaluations_ratio"] == pytest.approx(25 / 501)


def test_the_new_order_beside_the_old_one(report):
    found = report("--errors", str(STORED / "errors_test_draws_501.npz"), "--alpha", "0.01", "--orders", "1")
    new, old = found["predictive"]["mean"], found["predictive_as_made"]["mean"]
    assert set(new) == set(old)
    assert new["evaluations_ratio"] < old["evaluations_ratio"]
    # The old rule: on the errors of the former random numbers it gave what was published, 0.07116216 and 0.08042889.
    assert old["evaluations_ratio"] == pytest.approx(0.06905100, rel=1e-6)
    assert old["differ"] == 2
    assert found["predictive_as_made"]["vote"]["evaluations_ratio"] == pytest.approx(0.08840012, rel=1e-6)
    assert found["predictive_as_made"]["vote"]["differ"] == 0


def test_model_from_another_file(report):
    loose = report(
        *("--errors", str(STORED / "errors_test_draws_501.npz"), "--alpha", "0.01", "--orders", "1"),
        *("--fit", str(STORED / "errors_validation_draws_501.npz")),
    )
    assert loose["predictive"]["vote"]["model"] == "--fit"
    assert loose["predictive"]["mean"]["agreement"] >= 0.99


def test_the_path_of_old_prints_the_same_from_any_folder(tmp_path, report):
    arguments = ["--errors", str(STORED / "errors_validation_seed_0.npz"), "--alpha", "0.01", "--orders", "2"]
    command = [sys.executable, str(ROOT / "benchmarks" / "replay.py"), *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300)
    assert json.loads(done.stdout) == report(*arguments)


@pytest.mark.parametrize("alpha", ["0", "1", "-0.1", "2"])
def test_refuses_alpha(alpha, report):
    with pytest.raises(SystemExit, match=r"^replay: .*alpha: expected a probability between 0 and 1"):
        report("--errors", str(STORED / "errors_validation_seed_0.npz"), "--alpha", alpha)


def test_refuses_a_model_of_another_network(tmp_path, report):
    path = STORED / "errors_validation_draws_501.npz"
    arrays = dict(np.load(path))
    arrays["provenance"] = np.asarray(json.dumps({**json.loads(str(arrays["provenance"])), "network": "0" * 16}))
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(SystemExit, match="network: expected"):
        report("--errors", str(path), "--alpha", "0.01", "--fit", str(tmp_path / "other.npz"))


def test_refuses_a_file_that_is_none(tmp_path, report):
    (tmp_path / "broken.npz").write_bytes(b"PK")
    with pytest.raises(SystemExit, match="expected a file written by save_errors"):
        report("--errors", str(tmp_path / "broken.npz"), "--alpha", "0.01")
