"""Evaluations that keep a journal: the same results, whatever happens in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.handlers import ROCAUC, from_engine
from monai.networks.schedulers import DDPMScheduler
from monai.transforms import AsDiscreted, Compose, ToDeviced

from monai_diffclf.classification import CurtailedVote
from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.storage import load_errors
from tests.closed_form import ExactDenoiser, make_classes, make_images

ROOT = Path(__file__).resolve().parents[2]
DRAWS = 9


@pytest.fixture
def images() -> torch.Tensor:
    """Twelve images of two classes, the last equal to the first."""
    images = make_images(make_classes("gaussian"), 6)
    images[-1] = images[0]
    return images


def evaluator_of(images, journal_dir=None, *, device="cpu", inferer=None, **kwargs) -> DiffusionClassifierEvaluator:
    inferer = inferer or DiffusionClassifierInferer(DDPMScheduler(1000), num_draws=DRAWS, batch_size=7)
    network = ExactDenoiser(inferer.process, make_classes("gaussian"))
    items = [{"image": image, "label": i % 2} for i, image in enumerate(images)]
    return DiffusionClassifierEvaluator(
        torch.device(device),
        DataLoader(Dataset(items), batch_size=5),
        network,
        inferer=inferer,
        explain=False,
        journal_dir=journal_dir,
        postprocessing=Compose([ToDeviced(keys="pred", device="cpu"), AsDiscreted(keys="label", to_onehot=2)]),
        key_val_metric={"auc": ROCAUC(output_transform=from_engine(["pred", "label"]))},
        **kwargs,
    )


def run(evaluator) -> list[dict]:
    items: list[dict] = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: items.extend(engine.state.output))
    evaluator.run()
    return items


def evaluations(evaluator) -> int:
    return sum(evaluator.network.calls)


def assert_same(items, expected) -> None:
    assert len(items) == len(expected)
    for item, other in zip(items, expected, strict=True):
        assert set(item) == {*other, "recorded"}
        for name in ("image", "label", "pred", "vote_share", "errors", "network_evaluations", "decided"):
            a, b = torch.as_tensor(item[name]), torch.as_tensor(other[name])
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True, msg=name)
        assert item["uncertainty"] == other["uncertainty"]


@pytest.mark.parametrize("stopping", [None, CurtailedVote()])
def test_same_output_with_and_without(images, tmp_path, device, stopping):
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000), num_draws=DRAWS, batch_size=7, stopping=stopping)
    without = evaluator_of(images, device=device, inferer=inferer)
    expected = run(without)
    first = evaluator_of(images, tmp_path, device=device, inferer=inferer)
    items = run(first)
    assert_same(items, expected)
    assert not any(item["recorded"] for item in items[:-1])
    assert evaluations(first) == evaluations(without) - int(expected[-1]["network_evaluations"]), "equal images once"
    second = evaluator_of(images, tmp_path, device=device, inferer=inferer)
    items = run(second)
    assert_same(items, expected)
    assert all(item["recorded"] for item in items)
    assert evaluations(second) == 0
    assert second.state.metrics == first.state.metrics == without.state.metrics


def test_only_what_is_missing_is_computed(images, tmp_path):
    part = evaluator_of(images[:4], tmp_path)
    run(part)
    whole = evaluator_of(images, tmp_path)
    items = run(whole)
    assert [bool(item["recorded"]) for item in items] == [True] * 4 + [False] * 7 + [True]
    assert (evaluations(part), evaluations(whole)) == (4 * DRAWS * 2, 7 * DRAWS * 2)
    assert len((tmp_path / "rows_rank_0.csv").read_text().splitlines()) == 1 + 11


def test_an_error_loses_nothing(images, tmp_path):
    images[7] = torch.nan
    failing = evaluator_of(images, tmp_path)
    with pytest.raises(ValueError, match="images: expected finite values"):
        failing.run()
    assert failing.journal is None
    images[7] = 0.5
    again = evaluator_of(images, tmp_path)
    run(again)
    assert evaluations(again) == 4 * DRAWS * 2, "images 7 to 10"


def test_another_seed_is_refused_and_the_folder_named(images, tmp_path):
    run(evaluator_of(images, tmp_path / "journal"))
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000), num_draws=DRAWS, seed=1)
    other = evaluator_of(images, tmp_path / "journal", inferer=inferer)
    with pytest.raises(ValueError, match=r"seed: expected 1, found 0, .*or delete .*/journal to start anew"):
        other.run()
    assert evaluations(other) == 0


def test_explanations_are_refused(images, tmp_path):
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000))
    with pytest.raises(ValueError, match="explain: expected False with journal_dir, got True"):
        DiffusionClassifierEvaluator("cpu", [], torch.nn.Identity(), inferer=inferer, journal_dir=tmp_path)


def test_what_images_bring_along_is_part_of_their_record(images, tmp_path):
    """An image under another condition is another evaluation; the same one is found."""

    class Scaled(ExactDenoiser):
        def forward(self, x, timesteps, class_labels, scale, power=1):
            return scale.reshape(-1, 1, 1, 1) ** power * super().forward(x, timesteps, class_labels=class_labels)

    def evaluate(scales, power=1, folder="journal"):
        given = iter(scales.split(5))

        def prepare(batch, device, non_blocking, **kwargs):
            return batch["image"], batch["label"], (), {"scale": next(given), "power": power}

        evaluator = evaluator_of(images, tmp_path / folder, prepare_batch=prepare)
        evaluator.network = Scaled(evaluator.classifier.process, make_classes("gaussian"))
        return torch.stack([item["errors"] for item in run(evaluator)]), evaluations(evaluator)

    ones, others = torch.ones(12), torch.tensor([1.0] * 10 + [2.0, 1.0])
    first, spent = evaluate(ones)
    assert spent == 11 * DRAWS * 2, "the last image is the first again"
    again, spent = evaluate(ones)
    assert spent == 0
    assert torch.equal(again, first)
    changed, spent = evaluate(others)
    assert spent == DRAWS * 2
    assert torch.equal(changed[:10], first[:10])
    assert not torch.equal(changed[10], first[10])
    assert torch.equal(changed, evaluate(others, folder="another")[0])
    assert evaluate(others, power=2)[1] == 11 * DRAWS * 2, "what all calls share counts too"


def test_network_arguments_of_which_no_record_can_be_kept_are_refused(images, tmp_path):
    def prepare(batch, device, non_blocking, **kwargs):
        return batch["image"], batch["label"], (), {"adapter": object()}

    with pytest.raises(TypeError, match="adapter: expected tensors with one row an image, numbers or texts"):
        evaluator_of(images, tmp_path, prepare_batch=prepare).run()


# Killed, resumed, shared out


@pytest.fixture(scope="module")
def evaluations_of_processes(tmp_path_factory):
    """Folder of what evaluate_and_kill.py does."""
    root = tmp_path_factory.mktemp("evaluations")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("evaluate_and_kill.py"), root],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    codes = json.loads((root / "codes.json").read_text())
    assert codes == {
        "undisturbed a": [0],
        "killed a": [-9],
        "killed b": [-9],
        "killed c": [0],
        "two a": [0, 0],
        "two_padded a": [0, 0],
        "two_then_one a": [-9, -9],
        "two_then_one b": [0],
    }, done.stderr[-4000:]
    return root, done.stderr


def calls(root: Path, name: str) -> list[int]:
    return [int(line) for line in (root / f"{name}.txt").read_text().splitlines()]


@pytest.mark.slow  # a process that imports MONAI
@pytest.mark.parametrize("name", ["killed", "two", "two_padded", "two_then_one"])
def test_final_files_are_the_same_to_the_byte(evaluations_of_processes, name):
    root, _ = evaluations_of_processes
    written, expected = (
        {path.name: path.read_bytes() for path in (root / folder / "results").iterdir() if path.name[0] != "."}
        for folder in (name, "undisturbed")
    )
    assert set(expected) == {
        "errors_test_seed_0.npz",
        "test_diffusion_vote_seed_0.csv",
        "test_diffusion_mean_seed_0.csv",
        "results.json",
    }
    assert written == expected
    assert not (root / name / "journal").exists()


@pytest.mark.slow
def test_every_image_counts_once(evaluations_of_processes):
    root, _ = evaluations_of_processes
    stored = load_errors(root / "two_padded" / "results" / "errors_test_seed_0.npz")
    assert stored.keys == [f"image_{i:02d}" for i in range(11)]
    assert stored.errors.values.shape == (11, 2, 5)
    assert len(set(stored.errors.values.sum((1, 2)).tolist())) == 10, "two images are equal"
    assert stored.provenance["num_draws"] == 5


@pytest.mark.slow
def test_nothing_is_done_twice(evaluations_of_processes):
    root, messages = evaluations_of_processes
    image = [4, 4, 2]
    assert calls(root, "undisturbed/calls_a_0") == image * 10
    # Killed in the second call of the seventh image; then after the errors of the eighth, which had no row.
    assert calls(root, "killed/calls_a_0") == image * 6 + image[:2]
    assert calls(root, "killed/calls_b_0") == image * 2
    assert calls(root, "killed/calls_c_0") == image * 3
    assert "killed/journal/rows_rank_0.csv: kept 7 images; dropped 0 bad rows [] and 40 bytes of errors" in messages
    shares = [calls(root, f"two/calls_a_{rank}") for rank in range(2)]
    assert shares == [image * 5, image * 5], "rank 0 has both of the equal images"
