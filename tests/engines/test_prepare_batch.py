"""Preparing batches: noise, levels, label dropout; and three iterations of MONAI's trainer."""

from __future__ import annotations

import warnings

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedTrainer
from monai.inferers import SimpleInferer
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf._checks import check_labels
from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.losses import DenoisingLoss
from monai_diffclf.networks.schedulers import NoiseProcess
from tests.tiny_unet import tiny_unet


def make_batch(size: int = 8, classes: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.rand(size, 1, 4, 4, generator=generator),
        "label": torch.randint(classes, (size,), generator=generator),
    }


@pytest.mark.parametrize(
    "scheduler",
    [DDPMScheduler(1000, prediction_type=p) for p in ("epsilon", "sample", "v_prediction")]
    + [RFlowScheduler(1000, use_discrete_timesteps=discrete) for discrete in (True, False)],
    ids=lambda s: f"{type(s).__name__}-{s.prediction_type}-{getattr(s, 'use_discrete_timesteps', '')}",
)
def test_what_comes_out(scheduler, device):
    batch, process = make_batch(), NoiseProcess(scheduler)
    noisy, targets, args, kwargs = DenoisingPrepareBatch(scheduler, label_dropout=0.0)(batch, device)
    assert args == ()
    assert sorted(targets) == ["target", "timesteps"]
    assert sorted(kwargs) == ["class_labels", "timesteps"]
    assert torch.equal(kwargs["timesteps"], targets["timesteps"])
    assert torch.equal(kwargs["class_labels"].cpu(), batch["label"])
    assert noisy.device.type == targets["target"].device.type == kwargs["class_labels"].device.type == device
    # A perfect prediction implies the image that was noised.
    implied = process.predict_sample(targets["target"].double(), noisy.double(), targets["timesteps"])
    level = process.log_snr(targets["timesteps"]).cpu()
    clear = level > -6  # below, float32 holds too little of the image
    torch.testing.assert_close(implied.cpu().float()[clear], batch["image"][clear], rtol=1e-3, atol=1e-3)


def test_levels_are_stratified_within_every_batch():
    prepare = DenoisingPrepareBatch(DDPMScheduler(1000))
    orders = set()
    for _ in range(20):
        timesteps = prepare(make_batch(10))[1]["timesteps"]
        part = (timesteps // 100).tolist()
        assert sorted(part) == list(range(10))
        orders.add(tuple(part))
    assert len(orders) > 15, "the images' order must not decide their level"


@pytest.mark.parametrize("classes", [2, 5])
def test_label_dropout_makes_the_null_class(classes):
    prepare = DenoisingPrepareBatch(DDPMScheduler(1000), num_classes=classes, label_dropout=0.2)
    batch = make_batch(4000, classes)
    labels = prepare(batch)[3]["class_labels"]
    dropped = labels == classes
    # The standard deviation of the rate is 0.0063.
    assert dropped.float().mean().item() == pytest.approx(0.2, abs=4 * 0.0063)
    assert torch.equal(labels[~dropped], batch["label"][~dropped])


def test_dropped_labels_reach_the_context():
    prepare = DenoisingPrepareBatch(DDPMScheduler(1000), 2, conditioning="crossattn", label_dropout=0.5)
    context = prepare(make_batch(200))[3]["context"]
    assert context.shape == (200, 1, 3)
    assert 60 < context[:, 0, 2].sum() < 140


def test_seed():
    def run(seed: int, calls: int = 2) -> list[torch.Tensor]:
        prepare = DenoisingPrepareBatch(DDPMScheduler(1000), seed=seed)
        return [prepare(make_batch())[0] for _ in range(calls)]

    assert all(torch.equal(a, b) for a, b in zip(run(0), run(0), strict=True))
    assert not torch.equal(run(0)[0], run(1)[0])
    assert not torch.equal(*run(0)), "every batch has noise of its own"
    torch.manual_seed(5)  # the global state does not matter
    first = run(0)[0]
    prepare = DenoisingPrepareBatch(DDPMScheduler(1000), seed=9)
    prepare(make_batch())
    assert prepare.set_random_state(0) is prepare
    assert torch.equal(prepare(make_batch())[0], first)


def test_images_and_labels_of_other_kinds():
    batch = make_batch()
    first = DenoisingPrepareBatch(DDPMScheduler(1000))(batch)[0]
    for other in (
        {"image": MetaTensor(batch["image"]), "label": MetaTensor(batch["label"])},
        {"image": batch["image"].double(), "label": batch["label"][:, None]},
        {"image": batch["image"], "label": batch["label"].tolist()},
        {"image": batch["image"], "label": batch["label"].float()},
    ):
        noisy, targets, _, kwargs = DenoisingPrepareBatch(DDPMScheduler(1000))(other)
        assert torch.equal(noisy, first)
        assert noisy.dtype == torch.float32
        assert kwargs["class_labels"].dtype == torch.int64
        assert {type(tensor) for tensor in (noisy, *targets.values(), *kwargs.values())} == {torch.Tensor}


def test_drives_monais_trainer(device):
    network = tiny_unet(wavelet=True).to(device)
    scheduler = DDPMScheduler(100, prediction_type="v_prediction")
    before = {key: value.clone() for key, value in network.state_dict().items()}
    data = [{"image": torch.rand(1, 8, 8), "label": i % 2} for i in range(12)]
    losses = []
    trainer = SupervisedTrainer(
        device=torch.device(device),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(data), batch_size=4),
        network=network,
        optimizer=torch.optim.Adam(network.parameters(), 1e-2),
        loss_function=DenoisingLoss(scheduler),
        prepare_batch=DenoisingPrepareBatch(scheduler),
        inferer=SimpleInferer(),
        decollate=False,
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output["loss"].item())
    )
    trainer.run()
    assert len(losses) == 3
    assert all(0 < loss < 100 for loss in losses)
    changed = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
    assert any("class_embedding" in key for key in changed)
    assert len(changed) > 0.9 * len(before)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2], "label: expected class numbers from 0 to 1, got 2"),
        ([-1, 0], "label: expected class numbers from 0 to 1, got -1"),
        ([0, 1, 1], r"label: expected one class an image, \[2\], got \[3\]"),
        ([[1, 0], [0, 1]], r"label: expected one class an image, \[2\], got \[2, 2\]"),
        ([0.5, 1], "label: expected class numbers from 0 to 1, got 0.5"),
        ([float("nan"), 1], "label: expected class numbers from 0 to 1, got nan"),
        ([float("inf"), 1], "label: expected"),
    ],
)
def test_labels_are_checked(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, 2, 2, name="label")
    with pytest.raises(ValueError, match=message):
        DenoisingPrepareBatch(DDPMScheduler(10))({"image": torch.zeros(2, 1, 4, 4), "label": torch.tensor(labels)})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_images_are_checked(value):
    batch = make_batch()
    batch["image"][3, 0, 1, 2] = value
    with pytest.raises(ValueError, match="image: expected finite values, got NaN or infinity in a training batch"):
        DenoisingPrepareBatch(DDPMScheduler(10))(batch)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_label_dropout_is_checked(rate):
    with pytest.raises(ValueError, match=rf"label_dropout: expected a probability in \[0, 1\), got {rate}"):
        DenoisingPrepareBatch(DDPMScheduler(10), label_dropout=rate)


def all_classes(size: int = 12, classes: int = 3, **settings):
    scheduler = DDPMScheduler(1000, schedule="cosine_log_snr", prediction_type="v_prediction")
    prepare = DenoisingPrepareBatch(scheduler, classes, all_classes=True, seed=5, **settings)
    return prepare, make_batch(size, classes), NoiseProcess(scheduler)


def test_the_same_noisy_image_under_all_classes(device):
    prepare, batch, _ = all_classes(label_dropout=0.4, extra_keys=["age"])
    batch["age"] = torch.arange(12.0)[:, None]
    noisy, targets, _, kwargs = prepare(batch, device)
    once = DenoisingPrepareBatch(prepare.process, 3, seed=5, label_dropout=0.4)(batch, device)
    labels, own, rows = kwargs["class_labels"], targets["own"], targets["contrasted"]
    kept = once[3]["class_labels"] < 3
    # What each image is without it, is among the rows: the same numbers, the null class of a dropped label alone.
    assert torch.equal(noisy[own], once[0])
    assert torch.equal(targets["target"][own], once[1]["target"])
    assert torch.equal(targets["timesteps"][own], once[1]["timesteps"])
    assert torch.equal(labels[own], once[3]["class_labels"])
    assert torch.equal(kwargs["age"][own].cpu(), batch["age"])
    assert len(noisy) == 3 * int(kept.sum()) + int((~kept).sum())
    assert 0 < int(kept.sum()) < 12
    # The others differ from it by the class alone.
    assert labels[rows].tolist() == [[0, 1, 2]] * int(kept.sum())
    assert torch.equal(targets["labels"].cpu(), batch["label"][kept.cpu()])
    for name in (noisy, targets["target"], targets["timesteps"], kwargs["age"]):
        assert torch.equal(name[rows], name[own[kept]][:, None].expand_as(name[rows]))


def test_every_other_image_is_contrasted_in_a_range_and_the_rest_sees_the_whole_schedule():
    prepare, batch, process = all_classes(64, label_dropout=0.0, log_snr_range=(1.0, 4.0))
    inside, outside = [], []
    for _ in range(10):
        noisy, targets, _, kwargs = prepare(batch)
        log_snr = process.log_snr(targets["timesteps"])
        rows = targets["contrasted"]
        assert len(rows) == 32 and len(noisy) == 32 * 3 + 32
        inside.append(log_snr[rows[:, 0]])
        alone = torch.ones(len(noisy), dtype=torch.bool)
        alone[rows] = False
        outside.append(log_snr[alone])
        assert torch.equal(kwargs["class_labels"][targets["own"]], batch["label"])
    inside, outside = torch.cat(inside), torch.cat(outside)
    assert bool(((inside > 0.95) & (inside < 4.05)).all())
    assert inside.min() < 1.2 and inside.max() > 3.8
    assert outside.min() < -8 and outside.max() > 8
    # Stratified each: one level in each of 32 equal parts of the schedule.
    last = outside[-32:].sort().values
    parts = process.log_snr(process.timesteps((torch.arange(33, dtype=torch.float64) / 32).clamp(max=0.999))).flip(0)
    assert bool(((last >= parts[:-1] - 0.1) & (last <= parts[1:] + 0.1)).all())


@pytest.mark.parametrize("wrong", [(4.0, 1.0), (20.0, 30.0)])
def test_a_range_without_levels_is_refused(wrong):
    with pytest.raises(ValueError, match="log_snr_range: expected two ascending numbers from -15 to 15"):
        all_classes(log_snr_range=wrong)


def test_findings_become_unknown_one_by_one(device):
    labels = torch.tensor([[0, 1, 2]]).expand(4000, 3)
    prepare = DenoisingPrepareBatch(
        DDPMScheduler(100), num_findings=3, label_dropout=0.5, conditioning=lambda s: {"s": s}
    )
    _, _, _, kwargs = prepare({"image": torch.zeros(4000, 1, 2, 2), "label": labels}, device)
    states = kwargs["s"].cpu()
    assert (states[:, 2] == 2).all(), "what was missing enters as unknown"
    hidden = states[:, :2] == 2
    assert torch.equal(states[:, :2].masked_select(~hidden), labels[:, :2].masked_select(~hidden))
    # Independent of each other: a quarter of each of the four combinations, within 4.5 standard errors.
    shares = torch.bincount(2 * hidden[:, 0].long() + hidden[:, 1].long(), minlength=4) / 4000
    assert ((shares - 0.25).abs() < 4.5 * (0.1875 / 4000) ** 0.5).all()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ([[0, 1]] * 2, r"label: expected a state for each of the 3 findings of an image, \[2, 3\], got \[2, 2\]"),
        ([0, 1], r"label: expected a state for each of the 3 findings of an image, \[2, 3\], got \[2\]"),
        ([[0, 1, -1]] * 2, "label: .* got -1 for finding 2 of image 0; choose what an uncertain or missing label"),
    ],
)
def test_labels_of_findings_that_do_not_fit_are_refused(label, message):
    prepare = DenoisingPrepareBatch(DDPMScheduler(100), num_findings=3)
    with pytest.raises(ValueError, match=message):
        prepare({"image": torch.zeros(2, 1, 2, 2), "label": torch.tensor(label)})


def test_one_known_finding_of_each_image_is_contrasted():
    prepare = DenoisingPrepareBatch(
        DDPMScheduler(100), num_findings=3, all_classes=True, label_dropout=0.3, conditioning=lambda s: {"states": s}
    )
    given = torch.tensor([[0, 1, 1], [2, 2, 2], [1, 2, 0], [2, 1, 2], [0, 0, 0]]).repeat(20, 1)
    noisy, targets, _, kwargs = prepare({"image": torch.randn(100, 1, 8, 8), "label": given})
    states, own, rows, labels = kwargs["states"], targets["own"], targets["contrasted"], targets["labels"]
    assert len(rows) == 80, "every image of which something is known"
    assert len(noisy) == len(states) == len(targets["timesteps"]) == 180
    assert torch.equal(noisy[rows[:, 0]], noisy[rows[:, 1]]) and torch.isin(own[1::5], rows).logical_not().all()
    absent, present = states[rows[:, 0]], states[rows[:, 1]]
    differs = absent != present
    assert (differs.sum(1) == 1).all() and (absent[differs] == 0).all() and (present[differs] == 1).all()
    true = states[own]  # what is known of each image, some of it hidden, is what it was given
    assert ((true == given) | (true == 2)).all()
    image_of = {int(row): i for i, row in enumerate(own)}
    for pair, label in zip(rows, labels, strict=True):
        assert int(pair[label]) in image_of and int(pair[1 - label]) not in image_of
    asked = differs.float().mean(0)
    assert (asked > 0.15).all(), "every finding is asked about"
    assert torch.equal(states[rows][:, 0][differs], torch.zeros(len(rows), dtype=torch.int64))


def test_a_finding_is_asked_whether_it_was_dropped_or_not_and_the_others_are_dropped():
    dropout = 0.75
    prepare = DenoisingPrepareBatch(
        DDPMScheduler(100), num_findings=2, all_classes=True, label_dropout=dropout, conditioning=lambda s: {"s": s}
    )
    given = torch.tensor([[0, 1], [1, 0]]).repeat(2000, 1)
    _, targets, _, kwargs = prepare({"image": torch.zeros(4000, 1, 2, 2), "label": given})
    rows = kwargs["s"][targets["contrasted"]]
    asked = (rows[:, 0] != rows[:, 1]).long().argmax(1)
    other = rows[:, 0].gather(1, 1 - asked[:, None])[:, 0]
    assert len(rows) == 4000
    assert float((other == 2).double().mean()) == pytest.approx(dropout, abs=4.5 * (0.1875 / 4000) ** 0.5)
    assert float(asked.double().mean()) == pytest.approx(0.5, abs=4.5 * (0.25 / 4000) ** 0.5)
    assert torch.equal(targets["labels"], given.gather(1, asked[:, None])[:, 0])


def test_images_that_scaling_has_emptied_are_named_once():
    prepare = DenoisingPrepareBatch(DDPMScheduler(100), num_classes=2)
    empty = {"image": torch.rand(2, 1, 8, 8).round() * 2 - 1, "label": torch.tensor([0, 1])}
    with pytest.warns(UserWarning, match="are two values, -1 and 1; set the scaling"):
        prepare(empty)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(empty)
        one_of_two = {**empty, "image": torch.stack([empty["image"][0], torch.rand(1, 8, 8)])}
        DenoisingPrepareBatch(DDPMScheduler(100), num_classes=2)(one_of_two)
