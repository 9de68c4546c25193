"""A smoke test of the one command, on real images and the shipped weights."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks.speed import scaling, side_by_side

WEIGHTS = side_by_side.BUNDLE / "models" / "model.pt"


@pytest.mark.slow
def test_quick_run_measures_all_methods(dataset, tmp_path):
    data = dataset("pneumoniamnist_28")
    if not WEIGHTS.is_file():
        pytest.skip(f"weights not found: {WEIGHTS.name} of the pneumonia bundle")
    threads = torch.get_num_threads()
    output = tmp_path / "speed.json"
    side_by_side.main(["--data", str(data), "--quick", "--no-progress", "--output", str(output)])
    torch.set_num_threads(threads)
    found = json.loads(output.read_text())
    methods = {row["name"]: row for row in found["methods"]}
    assert {"reference", "reference_batched", "li", "exact", "curtailed_vote", "staged_mean"} < set(methods)
    assert {f"{name}_{rule}" for name in ("predictive", "sequential") for rule in ("vote", "mean")} < set(methods)
    assert methods["reference"]["times_faster"] == 1
    for name in ("reference", "li", "exact"):
        assert methods[name]["evaluations_per_image"] == 32
    assert methods["curtailed_vote"]["agreement"]["vote"]["value"] == 1
    assert methods["exact"]["predicted"]["mean"] and methods["exact"]["seconds_per_image"] > 0
    assert len(found["scaling"]["batch_size"]) == 2 and found["scaling"]["classes"]["problems"]


def test_each_method_meets_all_images_in_turns():
    from tqdm import tqdm

    from benchmarks.speed.reference_methods import Outcome

    seen: list[tuple[str, int]] = []

    def run(name):
        def classify(images):
            seen.append((name, len(images)))
            return Outcome({"mean": torch.zeros(len(images), dtype=torch.long)}, torch.full((len(images),), 4))

        return classify

    methods = [side_by_side.Method(name, name, run(name)) for name in ("reference", "exact", "other")]
    methods.append(side_by_side.Method("short", "short", run("short"), scale=5.0))
    side_by_side.compare(methods, torch.zeros(5, 1, 4, 4), 2, tqdm(disable=True))
    assert [size for _, size in seen] == [2] * 4 + [2] * 4 + [1] * 4
    assert all({name for name, _ in seen[i : i + 4]} == {m.name for m in methods} for i in (0, 4, 8))
    rows = {row["name"]: row for row in side_by_side.summarise(methods, torch.tensor([0, 0, 0, 0, 1]))}
    assert rows["other"]["agreement"]["mean"]["count"] == 5 and rows["other"]["accuracy"]["mean"]["count"] == 4
    assert rows["short"]["evaluations_per_image"] == 20 and "agreement" not in rows["short"]


def test_interval_of_a_rate():
    found = scaling.share(40, 40)
    assert found["value"] == found["high"] == 1 and found["low"] == pytest.approx(0.025 ** (1 / 40))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--draws", "3"], "expected at least 8, 1 and 1"), (["--block", "0"], "expected at least 8, 1 and 1")],
)
def test_bad_numbers_are_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        side_by_side.main(["--data", "nowhere", *arguments])
    assert message in capsys.readouterr().err


def test_missing_images_are_named(tmp_path):
    if not WEIGHTS.is_file():
        pytest.skip(f"weights not found: {WEIGHTS.name} of the pneumonia bundle")
    with pytest.raises(SystemExit, match="side_by_side: source: .*nowhere does not exist"):
        side_by_side.main(["--data", str(tmp_path / "nowhere"), "--no-progress", "--images", "2"])
