"""A representation in engine and handlers: what is stored is of latents, what is shown of the image."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.engines import DenoisingPrepareBatch, DiffusionClassifierEvaluator, compute_dataset_errors
from monai_diffclf.handlers import ErrorsSaver
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.storage import load_errors
from tests.representations.test_representation_space import Denoiser, fitted, images

SCHEDULER = DDPMScheduler(100, schedule="cosine", prediction_type="sample")


def items() -> list[dict]:
    return [{"image": x, "label": i % 2, "key": f"{i}", "patient": ""} for i, x in enumerate(images(5))]


class Network(Denoiser):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))


@pytest.mark.parametrize("global_token", [False, True])
@pytest.mark.parametrize("journal", [False, True])
def test_an_evaluation_stores_errors_of_latents(tmp_path, global_token, journal, device):
    space = fitted(global_token=global_token)
    inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=5, rule="mean", latent_space=space)
    saver = ErrorsSaver(
        tmp_path, inferer, tmp_path / "results.json", split="test", data="none", num_resamples=20, commit_root=tmp_path
    )
    evaluator = DiffusionClassifierEvaluator(
        torch.device(device),
        DataLoader(Dataset(items()), batch_size=2),
        Network().to(device),
        inferer=inferer,
        explain=not journal,
        journal_dir=tmp_path / "journal" if journal else None,
        val_handlers=[saver],
    )
    evaluator.run()
    stored = load_errors(tmp_path / "errors_test_seed_0.npz", provenance=evaluator.provenance())
    assert stored.errors.num_elements == 3 * (25 if global_token else 24)
    live = inferer.classify(images(5).to(device), Network().to(device).eval())
    replayed = inferer.classify_stored(stored.errors.values, stored.errors.num_elements)
    torch.testing.assert_close(replayed.probabilities, live.probabilities.cpu(), rtol=1e-3, atol=1e-4)
    again = compute_dataset_errors(items(), Network().to(device).eval(), inferer=inferer)
    assert again.errors.num_elements == stored.errors.num_elements
    torch.testing.assert_close(again.errors.values, stored.errors.values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("global_token", [False, True])
def test_a_training_batch_is_encoded(global_token):
    space = fitted(global_token=global_token)
    prepare = DenoisingPrepareBatch(SCHEDULER, label_dropout=0.0, latent_space=space)
    noisy, targets, _, _ = prepare({"image": images(4), "label": torch.tensor([0, 1, 0, 1])})
    assert noisy.shape == targets["target"].shape == (4, *space.latent_shape())
    torch.testing.assert_close(targets["target"], space.encode(images(4)))
