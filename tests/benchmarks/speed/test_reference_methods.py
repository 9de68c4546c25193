"""The methods compared with: they agree with ours on classes with a known density, and spend what they should."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from benchmarks.speed.reference_methods import evenly, li_method, reference_loop
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks.schedulers import NoiseProcess
from tests.closed_form import ExactDenoiser, make_classes, make_images, posterior

SCHEDULER = DDPMScheduler(num_train_timesteps=1000, schedule="cosine", prediction_type="v_prediction")


@pytest.fixture(scope="module")
def process() -> NoiseProcess:
    return NoiseProcess(SCHEDULER)


def problem(process: NoiseProcess, kind: str, each: int = 6) -> tuple[ExactDenoiser, torch.Tensor, torch.Tensor]:
    """Denoiser, clear images and their classes."""
    classes = make_classes(kind, gap=0.8)
    images = make_images(classes, each)
    probability = posterior(classes, images)
    clear = probability.max(1).values > 0.999
    return ExactDenoiser(process, classes), images[clear], probability[clear].argmax(1)


@pytest.mark.parametrize("kind", ["gaussian", "three"])
def test_all_methods_find_the_class_of_clear_images(process, kind):
    denoiser, images, truth = problem(process, kind)
    num_classes = len(denoiser.classes)
    assert len(truth.unique()) == num_classes
    settings = {"num_classes": num_classes}
    loop = reference_loop(images, denoiser, process, num_draws=101, **settings)
    li = li_method(images, denoiser, process, draws=(20, 100), keep=(2, 1), **settings)
    for rule in ("vote", "mean"):
        inferer = DiffusionClassifierInferer(SCHEDULER, num_classes=num_classes, num_draws=101, rule=rule)
        ours = inferer.classify(images, denoiser).predicted
        assert torch.equal(ours, truth)
        assert torch.equal(loop.predicted[rule], ours)
    assert torch.equal(li.predicted["mean"], truth)


def test_reference_loop_makes_one_call_for_each_image_draw_and_class(process):
    denoiser, images, _ = problem(process, "three")
    outcome = reference_loop(images[:4], denoiser, process, num_classes=3, num_draws=5)
    assert denoiser.calls == [1] * (4 * 5 * 3)
    assert outcome.evaluations.tolist() == [15] * 4


def test_images_of_the_reference_loop_may_share_calls(process):
    denoiser, images, _ = problem(process, "three")
    outcome = reference_loop(images[:5], denoiser, process, num_classes=3, num_draws=2, image_batch=3)
    assert denoiser.calls == [3] * 6 + [2] * 6
    assert outcome.evaluations.tolist() == [6] * 5


def test_reference_loop_pairs_its_noise_and_draws_new_levels(process):
    seen = []

    def network(x, timesteps, class_labels):
        seen.append((x.clone(), int(timesteps)))
        return torch.zeros_like(x)

    reference_loop(torch.zeros(2, 1, 4, 4), network, process, num_classes=2, num_draws=3)
    assert all(torch.equal(a[0], b[0]) and a[1] == b[1] for a, b in zip(seen[::2], seen[1::2], strict=True))
    assert len({timestep for _, timestep in seen}) == 6


def test_votes_and_means_of_the_reference_loop_differ_where_they_should(process):
    """Class 1 is slightly better in most draws, class 0 far better in the rest."""
    draws = []

    def network(x, timesteps, class_labels):
        draws.append(int(class_labels))
        target = process.target(torch.zeros_like(x), x / process.alpha_sigma(timesteps)[1].float(), timesteps)
        far = (len(draws) - 1) // 2 % 3 == 0
        size = (3.0 if far else 0.1) if int(class_labels) else (0.0 if far else 0.2)
        return target + size / process.epsilon_factor(timesteps).sqrt().float()

    outcome = reference_loop(torch.zeros(1, 1, 4, 4), network, process, num_classes=2, num_draws=9)
    assert outcome.predicted["vote"].tolist() == [1] and outcome.predicted["mean"].tolist() == [0]


def test_stages_of_li_spend_on_the_classes_left(process):
    denoiser, images, _ = problem(process, "three")
    outcome = li_method(images[:4], denoiser, process, num_classes=3, draws=(5, 20), keep=(2, 1), batch_size=8)
    assert outcome.evaluations.tolist() == [3 * 5 + 2 * 15] * 4
    assert denoiser.calls == [8, 7, 8, 8, 8, 6] * 4


def test_li_keeps_all_where_there_are_fewer_classes_than_kept(process):
    denoiser, images, _ = problem(process, "gaussian")
    outcome = li_method(images[:2], denoiser, process, num_classes=2, draws=(5, 20), keep=(5, 1))
    assert outcome.evaluations.tolist() == [40, 40]


def test_li_shares_its_noise_between_classes_and_images(process):
    seen = {}

    def network(x, timesteps, class_labels):
        for row, timestep, label in zip(x, timesteps.tolist(), class_labels.tolist(), strict=True):
            seen.setdefault(timestep, []).append((label, row.clone()))
        return torch.zeros_like(x)

    li_method(torch.zeros(2, 1, 4, 4), network, process, num_classes=2, draws=(10,), keep=(1,), batch_size=32)
    assert sorted(seen) == [50 + 100 * i for i in range(10)]
    for found in seen.values():
        assert sorted(label for label, _ in found) == [0, 0, 1, 1]
        assert all(torch.equal(row, found[0][1]) for _, row in found)


def test_evenly_spaced_choice():
    assert evenly(torch.arange(1000), 4).tolist() == [125, 375, 625, 875]
    assert evenly(torch.arange(7), 7).tolist() == list(range(7))


@pytest.mark.parametrize(
    ("draws", "keep", "message"),
    [
        ((20, 5), (2, 1), "draws: expected ascending positive numbers, one for each of keep, got [20, 5]"),
        ((5, 20), (1,), "draws: expected ascending positive numbers, one for each of keep, got [5, 20]"),
        ((5, 20), (1, 2), "keep: expected numbers that descend to 1, got [1, 2]"),
    ],
)
def test_li_refuses_stages_that_do_not_fit(process, draws, keep, message):
    with pytest.raises(ValueError) as failure:
        li_method(torch.zeros(1, 1, 4, 4), None, process, draws=draws, keep=keep)
    assert str(failure.value) == message
