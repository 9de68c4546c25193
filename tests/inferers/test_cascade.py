"""A cascade answers as its parts do, spends what they spend, and can be resumed and replayed."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.networks.schedulers import DDPMScheduler
from torch import nn

from monai_diffclf.classification import CascadeClassification, DifferenceModel, PredictiveCurtailment
from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.inferers import (
    CascadeInferer,
    DiffusionClassifierInferer,
    FitImages,
    SoftmaxClassifierInferer,
    provenance,
)
from monai_diffclf.uncertainty import Ensemble
from tests.closed_form import ExactDenoiser, make_classes, make_images

SCHEDULER = DDPMScheduler(1000, schedule="cosine_log_snr", log_snr_min=-6.0, log_snr_max=6.0)
DRAWS = 9


class Cheap(nn.Module):
    """Logits by the mean of an image; counts the images that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.seen = 0

    def forward(self, x):
        self.seen += len(x)
        mean = x.mean((1, 2, 3)) * self.scale
        return torch.stack([mean, -mean], 1)


@pytest.fixture
def parts(device):
    laws = make_classes("gaussian", gap=0.5)
    second = DiffusionClassifierInferer(SCHEDULER, 2, num_draws=DRAWS, rule="mean")
    network = ExactDenoiser(second.process, laws).to(device)
    return second, network, Cheap().eval().to(device), make_images(laws, 8, seed=2).to(device)


def middle(cheap, images) -> float:
    """A threshold that defers half of the images."""
    return float(SoftmaxClassifierInferer(2)(images, cheap).amax(1).sort().values[len(images) // 2 - 1].detach())


def test_each_image_has_the_answer_of_whom_it_went_to(parts):
    second, network, cheap, images = parts
    threshold = middle(cheap, images)
    result = CascadeInferer(second, cheap, threshold).classify(images, network)
    ours = SoftmaxClassifierInferer(2).classify(images, cheap)
    theirs = second.classify(images, network)
    assert isinstance(result, CascadeClassification) and result.deferred.sum() == len(images) // 2
    assert torch.equal(result.deferred, ours.probabilities.amax(1) <= threshold)
    expected = torch.where(result.deferred[:, None], theirs.probabilities, ours.probabilities)
    torch.testing.assert_close(result.probabilities, expected)
    assert torch.equal(result.predicted, torch.where(result.deferred, theirs.predicted, ours.predicted))
    spent = torch.where(result.deferred, 1 + 2 * DRAWS, 1)
    assert torch.equal(result.network_evaluations, spent)
    assert "second classifier" in result.guarantee
    assert torch.equal(result.outputs()["deferred"], result.deferred)


@pytest.mark.parametrize(("threshold", "deferred"), [(0.0, 0), (1.0, 16)])
def test_the_ends_are_the_parts(parts, threshold, deferred):
    second, network, cheap, images = parts
    result = CascadeInferer(second, cheap, threshold).classify(images, network)
    alone = SoftmaxClassifierInferer(2)(images, cheap) if deferred == 0 else second(images, network)
    assert int(result.deferred.sum()) == deferred
    torch.testing.assert_close(result.probabilities, alone)


def test_order_and_batch_do_not_matter(parts):
    second, network, cheap, images = parts
    inferer = CascadeInferer(second, cheap, middle(cheap, images))
    whole = inferer.classify(images, network)
    turned = inferer.classify(images.flip(0), network)
    assert torch.equal(turned.deferred.flip(0), whole.deferred)
    torch.testing.assert_close(turned.probabilities.flip(0), whole.probabilities)
    one_by_one = torch.cat([inferer(image[None], network) for image in images])
    torch.testing.assert_close(one_by_one, whole.probabilities)
    assert len(inferer.classify(images[:0], network)) == 0
    maps = inferer.classify(images, network, error_maps=True).error_maps
    assert inferer.classify(images[:0], network, error_maps=True).error_maps.shape == (0, *maps.shape[1:])


@pytest.mark.parametrize("early", [False, True])
def test_stored_values_give_the_same(parts, early):
    second, network, cheap, images = parts
    if early:
        model = DifferenceModel((0.0,), (0.3, 3.0), ((0.4, 0.2), (0.2, 1.0)), 6.0)
        stopping = PredictiveCurtailment(0.2, model, block=1, min_draws=1)
        second = DiffusionClassifierInferer(SCHEDULER, 2, num_draws=DRAWS, rule="mean", stopping=stopping)
    inferer = CascadeInferer(second, cheap, middle(cheap, images))
    result = inferer.classify(images, network)
    assert result.evidence.shape == (16, 2, inferer.num_estimates) and inferer.stopping is second.stopping
    again = inferer.decide(result.evidence, images[0].numel())
    for name in ("predicted", "probabilities", "deferred", "network_evaluations"):
        torch.testing.assert_close(getattr(again, name), getattr(result, name))


def test_whoever_explains_answers(parts):
    second, network, cheap, images = parts
    result = CascadeInferer(second, cheap, 0.0).classify(images, network, error_maps=True)
    theirs = second.classify(images, network, error_maps=True)
    assert bool(result.deferred.all()) and torch.equal(result.predicted, theirs.predicted)
    torch.testing.assert_close(result.error_maps, theirs.error_maps)
    assert "errors" in result.outputs() and torch.equal(result.outputs()["pred"], result.probabilities)


def test_both_together(parts):
    second, network, cheap, images = parts
    combine = Ensemble("mean", (0.5, 0.5))
    result = CascadeInferer(second, cheap, 1.0, combine=combine).classify(images, network)
    both = [SoftmaxClassifierInferer(2)(images, cheap).detach(), second(images, network)]
    torch.testing.assert_close(result.probabilities, (both[0] + both[1]) / 2)
    assert torch.equal(result.predicted, result.probabilities.argmax(1))


def test_the_engine_resumes_it(parts, tmp_path, device):
    second, network, cheap, images = parts
    inferer = CascadeInferer(second, cheap, middle(cheap, images))
    data = [{"image": image.cpu(), "label": 0} for image in images]
    live = inferer.classify(images, network)

    def evaluate(count: int):
        evaluator = DiffusionClassifierEvaluator(
            device=torch.device(device),
            val_data_loader=DataLoader(Dataset(data[:count]), batch_size=count),
            network=network,
            inferer=inferer,
            explain=False,
            journal_dir=tmp_path / "journal",
        )
        evaluator.run()
        return evaluator.state.output

    evaluate(6)
    output = evaluate(16)
    assert [bool(item["recorded"]) for item in output] == [True] * 6 + [False] * 10
    torch.testing.assert_close(torch.stack([torch.as_tensor(item["pred"]) for item in output]), live.probabilities)
    assert [bool(item["deferred"]) for item in output] == live.deferred.tolist()
    assert [int(item["network_evaluations"]) for item in output] == live.network_evaluations.tolist()
    other = CascadeInferer(second, cheap, 0.5)
    assert provenance(other, network) != provenance(inferer, network)
    assert provenance(other, network)["network"] == provenance(second, network)["network"]


def test_conditions_go_to_the_second(parts):
    second, network, cheap, images = parts
    seen = []

    class Conditioned(nn.Module):
        def forward(self, x, timesteps, context=None, class_labels=None, age=None):
            seen.append(age)
            return network(x, timesteps, class_labels=class_labels)

    age = torch.arange(16.0, device=images.device)[:, None]
    inferer = CascadeInferer(second, cheap, middle(cheap, images))
    result = inferer.classify(images, Conditioned().eval(), age=age)
    assert torch.equal(torch.cat(seen).unique(), age[result.deferred].flatten().unique())


def test_images_of_another_size():
    images = torch.arange(36.0).view(1, 1, 6, 6)
    assert FitImages((4, 4), (4, 4))(images).tolist() == images[:, :, 1:5, 1:5].tolist()
    assert FitImages((6, 6), (3, 3))(images).mean() == pytest.approx(float(images.mean()), abs=1e-4)
    assert FitImages((4, 4, 4), (2, 2, 2))(torch.ones(1, 1, 4, 4, 5)).shape == (1, 1, 2, 2, 2)
    assert FitImages((4, 4), (2, 2))(images[:0]).shape == (0, 1, 2, 2)
    with pytest.raises(ValueError, match=r"images: expected at least \[8, 8\] pixels, got \[6, 6\]"):
        FitImages((8, 8), (4, 4))(images)


def test_refusals(parts):
    second, _, cheap, _ = parts
    with pytest.raises(ValueError, match="threshold: expected a probability"):
        CascadeInferer(second, cheap, 1.5)
    with pytest.raises(TypeError, match="second: expected an inferer of this package, no cascade"):
        CascadeInferer(CascadeInferer(second, cheap, 0.5), cheap, 0.5)
    with pytest.raises(TypeError, match="first: expected None or a SoftmaxClassifierInferer"):
        CascadeInferer(second, cheap, 0.5, first=second)
    with pytest.raises(ValueError, match="first: expected 2 classes, as the second has, got 3"):
        CascadeInferer(second, cheap, 0.5, first=SoftmaxClassifierInferer(3))
