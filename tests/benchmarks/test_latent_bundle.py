"""The opening of the test images for the latent bundle, from files to results, on pictures of noise."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.accuracy import latent_bundle as benchmark
from benchmarks.evidence.ledger import read_ledger
from monai_diffclf.bundle import read_settings, write_bundle
from monai_diffclf.classification import DenoisingErrors
from tests.bundles.conftest import bundle as shipped
from tests.bundles.test_chest_xray_latent import TINY
from tests.bundles.workflows import bundle_workflow, run
from tests.data import kermany_trees
from tests.representations.test_autoencoder_bundle import write_autoencoder


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments that name X-rays in the layout of the data set, an autoencoder and a small bundle with weights."""
    data = kermany_trees.tree(tmp_path / "data" / benchmark.DATA, side=32, splits=("train", "val", "test"), each=8)
    autoencoder = write_autoencoder(tmp_path / "autoencoder")
    settings = read_settings(shipped(benchmark.NAME))
    values = {**settings.values, **TINY, "batch_size": 8}
    small = replace(settings, parts=["latents", "weights"], image_size=32, values=values)
    bundle = write_bundle(tmp_path / "small", small)
    overrides = {"dataset_dir": str(data), "autoencoder": str(autoencoder), "progress": False, "audit": False}
    run(bundle_workflow(bundle, "train", "train.json", device=torch.device("cpu"), **overrides))
    for name in ("model.pt", "model.json", "representation.pt"):
        shutil.copy(bundle / "runs" / "seed_0" / name, bundle / "models")
    monkeypatch.setattr(benchmark, "EDITED", 1)
    words = {"data": tmp_path / "data", "autoencoder": autoencoder, "bundle": bundle}
    words |= {"output": tmp_path / "result.json", "ledger": tmp_path / "openings.json"}
    return ["program", *(text for name, path in words.items() for text in (f"--{name}", str(path)))]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_files_to_results(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = tmp_path / "openings.json"
    monkeypatch.setattr("sys.argv", [*arguments, "--validate"])
    benchmark.main()
    assert not ledger.exists() and not (tmp_path / "result.json").exists()
    chosen = json.loads((tmp_path / "result_validation.json").read_text())
    assert chosen["images"] == 8 and chosen["decision"] in benchmark.DECISIONS
    monkeypatch.setattr("sys.argv", arguments)
    # The ledger asks git for a committed protocol; whether it is does not matter here.
    monkeypatch.setattr("benchmarks.evidence.ledger.committed", lambda root: "0" * 40)
    benchmark.main()
    found = json.loads((tmp_path / "result.json").read_text())
    (line,) = read_ledger(ledger)
    assert line == found["opening"] and line["condition"] == "latent_bundle" and not line["repeat"]
    test = found["test"]
    assert found["settings"] == chosen["settings"]
    assert (test["images"], test["counterfactuals"]["images"]) == (8, 2)
    for name in ("auc", "accuracy", "balanced_accuracy", "calibration_error"):
        assert 0 <= test[name]["low"] <= test[name]["value"] <= test[name]["high"] <= 1
    assert len(test["examples"]) == 4 and all(0 <= p <= 1 for p in test["examples"].values())
    assert test["counterfactuals"]["flips"] == round(2 * test["counterfactuals"]["share_of_flips"])
    with pytest.raises(ValueError, match="the test images were read for it"):
        benchmark.main()
    assert len(read_ledger(ledger)) == 1


def test_scores_rise_with_the_error_of_normal_less_that_of_pneumonia() -> None:
    values = torch.tensor([[[0.1, 0.2, 0.1], [0.2, 0.4, 0.3]], [[0.3, 0.2, 0.4], [0.2, 0.1, 0.2]]])
    errors = DenoisingErrors(values, torch.arange(3), torch.zeros(3), torch.ones(3))
    found = benchmark.scores(errors)
    assert set(found) == set(benchmark.DECISIONS)
    np.testing.assert_allclose(found["mean_uniform"], (values[:, 0] - values[:, 1]).mean(1), rtol=1e-6)
    np.testing.assert_allclose(found["vote"], [0, 1])
