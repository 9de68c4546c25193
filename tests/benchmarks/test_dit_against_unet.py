"""The comparison of a DiT with a U-Net at equal training time, from files to results, on pictures of noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.accuracy import dit_against_unet as benchmark
from benchmarks.evidence.ledger import read_ledger
from benchmarks.speed import dit_and_unet
from monai_diffclf.classification import DenoisingErrors
from tests.data import kermany_trees


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments that name X-rays in the layout of the protocol's data set, a ledger and a folder to work in."""
    kermany_trees.tree(tmp_path / "data" / "kermany_cxr_224", side=64, splits=("train", "val", "test"), each=8)
    # One small network in the place of both: what is tested is the program.
    small = dit_and_unet.WaveletNetwork(
        dit_and_unet.DiT(
            2, 16, input_size=16, patch_size=8, hidden_size=8, num_layers=1, num_heads=1, num_class_embeds=3
        ),
        levels=2,
    )
    torch.nn.init.normal_(small.network.out.weight, std=0.1)
    torch.nn.init.normal_(small.network.modulation_out.weight, std=0.1)
    state = small.state_dict()

    def make() -> torch.nn.Module:
        small.load_state_dict(state)
        return small

    monkeypatch.setattr(benchmark, "NETWORKS", {"unet": make, "dit": make})
    words = {"data": tmp_path / "data", "work": tmp_path / "work", "output": tmp_path / "result.json"}
    words["ledger"] = tmp_path / "openings.json"
    settings = ["--seconds", "0.2", "--draws", "3"]
    return ["program", *(text for name, path in words.items() for text in (f"--{name}", str(path))), *settings]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_files_to_results(arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = tmp_path / "openings.json"
    monkeypatch.setattr("sys.argv", [*arguments, "--validate"])
    benchmark.main()
    assert not ledger.exists() and not (tmp_path / "result.json").exists()

    def again(*words: object, **more: object) -> None:
        raise AssertionError("a training that is kept was made again")

    monkeypatch.setattr(benchmark, "train_for", again)
    monkeypatch.setattr("sys.argv", arguments)
    # The ledger asks git for a committed protocol; whether it is does not matter here.
    monkeypatch.setattr("benchmarks.evidence.ledger.committed", lambda root: "0" * 40)
    benchmark.main()
    found = json.loads((tmp_path / "result.json").read_text())
    lines = read_ledger(ledger)
    assert [line["condition"] for line in lines] == ["equal_time/unet", "equal_time/dit"]
    assert not any(line["repeat"] for line in lines)
    assert (found["training_images"], found["validation_images"], found["test_images"]) == (8, 8, 8)
    for name in ("unet", "dit"):
        settings, test = found["networks"][name], found["test"][name]
        assert settings["rate"] in benchmark.RATES and len(settings["validation_auc_of_rates"]) == 3
        assert settings["decision"] == max(benchmark.DECISIONS, key=settings["validation_auc"].__getitem__)
        assert settings["seconds"] >= 0.2 and settings["precision"]["chosen"] in ("float32", "bfloat16")
        assert test["auc"] == test[f"auc_{settings['decision']}"]
        assert 0 <= test["auc"]["low"] <= test["auc"]["value"] <= test["auc"]["high"] <= 1
    gap = found["test"]["dit"]["auc"]["value"] - found["test"]["unet"]["auc"]["value"]
    assert found["dit_less_unet"]["value"] == pytest.approx(gap)
    with pytest.raises(ValueError, match="the test images were read for it"):
        benchmark.main()


def test_scores_rise_with_the_error_of_normal_less_that_of_pneumonia() -> None:
    values = torch.tensor([[[0.1, 0.2, 0.1], [0.2, 0.4, 0.3]], [[0.3, 0.2, 0.4], [0.2, 0.1, 0.2]]])
    errors = DenoisingErrors(values, torch.arange(3), torch.zeros(3))
    found = benchmark.scores(errors)
    assert set(found) == set(benchmark.DECISIONS)
    np.testing.assert_allclose(found["mean"], (values[:, 0] - values[:, 1]).mean(1), rtol=1e-6)
    np.testing.assert_allclose(found["vote"], [0, 1])


def test_images_move_a_little_each_otherwise_and_keep_their_range() -> None:
    images = torch.linspace(-1, 1, 64).expand(2, 1, 64, 64).contiguous()
    found = benchmark.moved(images, np.random.default_rng(0))
    assert found.shape == images.shape and float(found.abs().max()) <= 1 + 1e-6
    assert not torch.equal(found[0], found[1])
    # Turned by 0.1 rad, scaled by 10 % and moved by 6 % of half the side at most.
    assert float((found - images).abs().max()) < 0.1 + 0.1 * 2**0.5 + 0.06 + 0.05


def test_networks_have_equal_operations_and_give_images_back() -> None:
    made = {name: make().eval() for name, make in dit_and_unet.NETWORKS.items()}
    counted = {name: dit_and_unet.operations(network) for name, network in made.items()}
    assert counted["dit"] == pytest.approx(counted["unet"], rel=0.03)
    with torch.inference_mode():
        for network in made.values():
            assert network(**dit_and_unet.inputs(2)).shape == (2, 1, 64, 64)


def test_times_are_taken_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dit_and_unet, "BATCHES", (1,))
    found = dit_and_unet.measure(repeats=2)
    for what in ("call", "step"):
        ratio = found[f"dit_over_unet_{what}_of_1"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert found["unet"][f"{what}_of_1_ms"] > 0
