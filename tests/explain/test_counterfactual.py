"""Counterfactuals of classes with a known density: what they must be is known."""

from __future__ import annotations

import warnings

import pytest
import torch
from monai.data import MetaTensor
from monai.networks.schedulers import DDPMScheduler, RFlowScheduler

from monai_diffclf.explain import CounterfactualGenerator, Counterfactuals
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.networks.schedulers import NoiseProcess
from tests.closed_form import ExactDenoiser, Mixture
from tests.tiny_unet import tiny_unet

SHAPE, STD = (1, 4, 4), 0.5
FREE = {"clip": None, "max_drift": 10.0}


def scheduler(kind: str = "v_prediction"):
    if kind == "rectified flow":
        return RFlowScheduler(1000, use_discrete_timesteps=False)
    limits = {"schedule": "cosine_log_snr", "log_snr_min": -10.0, "log_snr_max": 10.0}
    return DDPMScheduler(1000, prediction_type=kind, **limits)


def gaussians(count: int = 2, shape=SHAPE) -> list[Mixture]:
    generator = torch.Generator().manual_seed(3)
    return [Mixture(torch.randn(1, *shape, generator=generator), torch.full((1, *shape), STD)) for _ in range(count)]


def exact(laws, kind: str = "v_prediction") -> ExactDenoiser:
    return ExactDenoiser(NoiseProcess(scheduler(kind)), laws)


def images(law: Mixture, count: int = 3) -> torch.Tensor:
    return law.sample(count, torch.Generator().manual_seed(0))


def zeros(count: int) -> torch.Tensor:
    return torch.zeros(count, dtype=torch.long)


@pytest.mark.parametrize("kind", ["v_prediction", "rectified flow"])
def test_inversion_keeps_the_factual_and_shifts_the_counterfactual(kind, device):
    laws, x = gaussians(), images(gaussians()[0])
    generator = CounterfactualGenerator(scheduler(kind), start=1.0, num_steps=60, guidance=0.0, **FREE)
    pair = generator(x.to(device), exact(laws, kind), source=zeros(3))
    assert pair.image.device.type == device
    pair = Counterfactuals(*(value if value is None else value.cpu() for value in vars(pair).values()))
    gap = (laws[1].means - laws[0].means).float()
    torch.testing.assert_close(pair.factual, x, rtol=0, atol=0.02)
    torch.testing.assert_close(pair.counterfactual, x + gap, rtol=0, atol=0.05)
    torch.testing.assert_close(pair.difference, pair.counterfactual - x)
    torch.testing.assert_close(pair.effect, pair.factual - pair.counterfactual)
    torch.testing.assert_close(pair.drift, (pair.factual - x).abs().mean((1, 2, 3)))
    assert pair.target.tolist() == [1, 1, 1]
    assert pair.flipped is None and pair.flipped_baseline is None


def test_sampling_shares_its_noise():
    # For Gaussians of one covariance a path is linear in image and noise with the same factors for both classes: with
    # shared noise all effects are the same multiple of the gap between the means.
    laws, x = gaussians(), images(gaussians()[0], 4)
    pair = CounterfactualGenerator(scheduler(), method="sample", start=0.6, guidance=0.0, **FREE)(
        x, exact(laws), source=zeros(4)
    )
    gap = (laws[0].means - laws[1].means).float()
    ratio = pair.effect / gap
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=1e-3)
    assert 0.3 < ratio.mean() < 1
    assert pair.drift.min() > 0.1, "the factual itself is drawn anew"
    assert not torch.equal(pair.factual[0] - x[0], pair.factual[1] - x[1])


@pytest.mark.parametrize("method", ["invert", "sample"])
def test_guidance_away_from_the_null_class_shifts_both(method):
    # Of Gaussians with one covariance, guidance by w is exactly the class with the mean (1 + w) mu_k - w mu_null.
    laws, x = gaussians(3), images(gaussians()[0])
    shifted = [laws[0], laws[1], *(Mixture(2.5 * law.means - 1.5 * laws[2].means, law.stds) for law in laws[:2])]
    settings = {"method": method, "num_steps": 8, **FREE}
    guided = CounterfactualGenerator(scheduler(), guidance=1.5, guide_away="null", label_dropout=0.1, **settings)(
        x, exact(laws), source=zeros(3)
    )

    class Shifted(ExactDenoiser):
        """The shifted classes on the way down, where every level is met for the last time."""

        up = 16 if method == "invert" else 0

        def forward(self, x, timesteps, class_labels):
            down = len(self.calls) >= self.up
            return super().forward(x, timesteps, class_labels=class_labels + 2 * down)

    network = Shifted(NoiseProcess(scheduler()), shifted)
    plain = CounterfactualGenerator(scheduler(), guidance=0.0, **settings)(x, network, source=zeros(3))
    torch.testing.assert_close(guided.factual, plain.factual, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(guided.counterfactual, plain.counterfactual, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["invert", "sample"])
def test_an_image_does_not_depend_on_its_batch(method):
    laws, x = gaussians(), images(gaussians()[0], 5)
    generator = CounterfactualGenerator(scheduler(), method=method, num_steps=5, **FREE)
    small = CounterfactualGenerator(scheduler(), method=method, num_steps=5, batch_size=2, **FREE)
    pair = generator(x, exact(laws), source=zeros(5))
    order = torch.tensor([4, 2])
    for other in (generator(x[order], exact(laws), source=zeros(2)), small(x[order], exact(laws), source=zeros(2))):
        torch.testing.assert_close(other.counterfactual, pair.counterfactual[order])
        torch.testing.assert_close(other.factual, pair.factual[order])
    seeded = CounterfactualGenerator(scheduler(), method=method, num_steps=5, seed=1, **FREE)
    again = seeded(x, exact(laws), source=zeros(5)).counterfactual
    assert torch.equal(again, pair.counterfactual) == (method == "invert")


@pytest.mark.parametrize("method", ["invert", "sample"])
def test_outside_the_mask_nothing_changes(method):
    x, mask = images(gaussians()[0]), torch.zeros(3, 1, 4, 4)
    mask[..., 1:3, 1:3] = 1
    mask[2] = 0.5
    pair = CounterfactualGenerator(scheduler(), method=method, num_steps=5, **FREE)(
        x, exact(gaussians()), source=zeros(3), mask=mask.bool().float() * mask
    )
    outside = (mask == 0).expand_as(x)
    assert torch.equal(pair.counterfactual[outside], x[outside])
    assert torch.equal(pair.factual[outside], x[outside])
    inside = pair.difference[~outside].abs()
    assert inside.min() > 1e-4
    assert torch.equal(pair.mask, mask)


def patch_classes() -> tuple[list[Mixture], torch.Tensor]:
    """Classes of 16 px that differ in a patch alone, and the patch."""
    patch = torch.zeros(1, 1, 16, 16)
    patch[..., 9:12, 3:6] = 1
    std = torch.full((1, 1, 16, 16), 0.3)
    return [Mixture(0 * patch, std), Mixture(patch, std)], patch


def test_edits_are_found_where_the_classes_differ():
    laws, patch = patch_classes()
    x = torch.cat([images(laws[0], 3), images(laws[1], 3)])
    inferer = DiffusionClassifierInferer(scheduler(), num_draws=15, rule="mean")
    generator = CounterfactualGenerator(scheduler(), num_steps=8, edit_fraction=0.02, **FREE)
    pair = generator(
        x,
        exact(laws),
        inferer=inferer,
        baseline=lambda image: (
            (image * patch).sum((1, 2, 3))[:, None] * torch.tensor([-1.0, 1.0]) + torch.tensor([4.5, 0.0])
        ),
    )
    assert pair.source.tolist() == [0, 0, 0, 1, 1, 1]
    assert pair.target.tolist() == [1, 1, 1, 0, 0, 0]
    assert bool(pair.flipped.all())
    assert pair.flipped_baseline.shape == (6,)
    for mask in pair.mask:
        assert mask.mean() < 0.15
        assert (mask * patch[0]).sum() >= 5, "most of the nine pixels of the patch"
    assert pair.drift.max() < 0.01
    assert torch.equal(pair.difference[(pair.mask == 0)], torch.zeros_like(pair.difference[pair.mask == 0]))
    with_mask = generator(x, exact(laws), source=pair.source, mask=patch.expand(6, 1, 16, 16))
    assert torch.equal(with_mask.mask, patch.expand(6, 1, 16, 16)), "a mask of one's own comes first"


def test_each_image_gets_the_least_guidance_that_flips_it():
    laws, patch = patch_classes()
    x, network, ladder = images(laws[0], 5), exact(laws), (0.0, 0.5, 0.625, 0.75)

    def edit(guidance, **arguments):
        generator = CounterfactualGenerator(scheduler(), num_steps=6, guidance=guidance, **FREE)
        return generator(x, network, source=zeros(5), **arguments)

    def scores(batch):
        return (batch * patch).sum((1, 2, 3)) / 9

    single = {w: edit(w).counterfactual for w in ladder}
    limit, judged = scores(single[0.625]).median(), []

    def inferer(batch, _):
        judged.append(len(batch))
        return torch.stack([limit.expand(len(batch)), scores(batch) + 1e-4], 1).softmax(1)

    pair = edit(ladder, inferer=inferer)
    flips = {w: scores(edited) + 1e-4 > limit for w, edited in single.items()}
    expected = [next((w for w in ladder if flips[w][i]), ladder[-1]) for i in range(5)]
    assert len(set(expected)) > 1, "the images differ in what they need"
    assert pair.guidance.tolist() == expected
    assert pair.flipped.tolist() == [bool(flips[w][i]) for i, w in enumerate(expected)]
    for i, w in enumerate(expected):
        torch.testing.assert_close(pair.counterfactual[i], single[w][i])
    assert judged == [5, *(sum(best >= w for best in expected) for w in ladder[1:] if w <= max(expected))]


def test_evaluations_are_as_documented():
    x, steps = images(gaussians()[0], 2), 6
    cost = {("invert", "source"): 5, ("sample", "source"): 3, ("invert", "null"): 6, ("sample", "null"): 4}
    for (method, away), each in cost.items():
        network = exact(gaussians(3))
        generator = CounterfactualGenerator(
            scheduler(), method=method, guide_away=away, num_steps=steps, label_dropout=0.1, **FREE
        )
        generator(x, network, source=zeros(2))
        assert sum(network.calls) == 2 * steps * each


def test_drift_is_told():
    x, laws = images(gaussians()[0]).clamp(-1, 1), gaussians()
    generator = CounterfactualGenerator(scheduler(), method="sample", num_steps=5, start=0.6)
    with pytest.warns(UserWarning, match=r"3 of 3 factuals differ from their images by more than max_drift = 0\.05"):
        pair = generator(x, exact(laws), source=zeros(3))
    assert pair.drifted.tolist() == [True] * 3
    assert pair.counterfactual.abs().max() <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not CounterfactualGenerator(scheduler(), clip=None)(x, exact(laws), source=zeros(3)).drifted.any()


def test_the_second_most_probable_class_is_the_target():
    def inferer(batch, network, **kwargs):
        return torch.tensor([[0.2, 0.5, 0.3], [0.3, 0.1, 0.6]])

    x, network = images(gaussians()[0], 2), exact(gaussians(3))
    generator = CounterfactualGenerator(scheduler(), num_classes=3, num_steps=3, **FREE)
    pair = generator(x, network, inferer=inferer)
    assert (pair.source.tolist(), pair.target.tolist()) == ([1, 2], [2, 0])
    given = generator(x, network, inferer=inferer, source=torch.tensor([2, 2]))
    assert given.target.tolist() == [1, 0]
    with pytest.raises(ValueError, match="target: expected the class of each .* ranks the 3 classes, got neither"):
        generator(x, network, source=zeros(2))


def test_volumes_and_meta_tensors():
    laws = gaussians(shape=(2, 4, 5, 6))
    x = MetaTensor(images(laws[0], 2))
    before = torch.get_rng_state()
    generator = CounterfactualGenerator(scheduler(), method="sample", num_steps=3, **FREE)
    pair = generator(x, exact(laws), source=zeros(2), mask=torch.ones(2, 1, 4, 5, 6))
    assert pair.counterfactual.shape == (2, 2, 4, 5, 6)
    assert type(pair.counterfactual) is torch.Tensor
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_are_joined():
    generator = CounterfactualGenerator(scheduler(), num_steps=3, **FREE)
    x, network = images(gaussians()[0], 4), exact(gaussians())
    whole = generator(x, network, source=zeros(4))
    joined = Counterfactuals.concatenate([generator(part, network, source=zeros(2)) for part in x.split(2)])
    assert len(joined) == 4
    torch.testing.assert_close(joined.counterfactual, whole.counterfactual)
    assert joined.flipped is None
    judged = generator(x, network, source=zeros(4), inferer=lambda batch, network: torch.rand(len(batch), 2))
    with pytest.raises(ValueError, match="parts: expected flipped in all batches or in none, got it in 1 of them"):
        Counterfactuals.concatenate([whole, judged])
    with pytest.raises(ValueError, match="parts: expected at least one batch"):
        Counterfactuals.concatenate([])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 1}, "num_classes: expected an integer of at least 2, got 1"),
        ({"method": "ddim"}, r"method: expected one of \['invert', 'sample'\], got 'ddim'"),
        ({"guide_away": "none"}, r"guide_away: expected one of \['source', 'null'\], got 'none'"),
        ({"guidance": -1.0}, r"guidance: expected a number of 0 or more, or several that rise, got \[-1.0\]"),
        ({"guidance": (2.0, 1.0)}, r"guidance: .* several that rise, got \[2.0, 1.0\]"),
        ({"guidance": ()}, r"guidance: .* several that rise, got \[\]"),
        ({"edit_fraction": 0.0}, "edit_fraction: expected None or a number above 0 and up to 1, got 0.0"),
        ({"clip": (1.0, -1.0)}, "clip: expected the lowest and the highest value of an image, or None"),
        ({"max_drift": 0.0}, "max_drift: expected a positive number, got 0.0"),
        ({"batch_size": 0}, "batch_size: expected a positive integer, got 0"),
        ({"start": 0.0}, "start: expected a number above 0"),
        ({"num_steps": 1}, "num_steps: expected an integer of at least 2"),
        ({"seed": None}, "seed: expected an integer of 64 bits, got None"),
        (
            {"guide_away": "null", "label_dropout": 0.0},
            "guidance: expected 0 away from the null class of a model trained without label dropout",
        ),
        (
            {"guide_away": "null"},
            "which never saw that class; got 2.0 with label_dropout=None. Give that of the training",
        ),
        ({"label_dropout": 1.0}, r"label_dropout: expected a share in \[0, 1\), or None, got 1.0"),
    ],
)
def test_refuses_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        CounterfactualGenerator(scheduler(), **settings)


def test_guidance_needs_a_null_class():
    x, source = torch.zeros(1, 1, 8, 8), zeros(1)
    without = tiny_unet(num_class_embeds=2)
    generator = CounterfactualGenerator(scheduler(), guide_away="null", label_dropout=0.1, num_steps=2, **FREE)
    with pytest.raises(ValueError, match="network: expected a class embedding of 3 rows, .* guidance needs, got 2"):
        generator(x, without, source=source)
    generator(x, tiny_unet(), source=source)
    for settings in ({"guide_away": "source"}, {"guide_away": "null", "guidance": 0.0}):
        CounterfactualGenerator(scheduler(), num_steps=2, **FREE, **settings)(x, without, source=source)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ({"images": torch.zeros(2, 4, 4)}, ValueError, r"images: expected shape \[B, C, H, W\] or .* got \[2, 4, 4\]"),
        ({"images": torch.zeros(2, 1, 4, 4).long()}, TypeError, "images: expected floating point values scaled"),
        ({"images": torch.full((2, 1, 4, 4), torch.nan)}, ValueError, r"NaN or infinity in image\(s\) \[0, 1\]"),
        ({"source": None}, ValueError, "source: expected the class of each image, or an inferer that finds it"),
        ({"source": torch.tensor([0, 2])}, ValueError, r"source: expected classes 0 to 1, got \[0, 2\]"),
        (
            {"source": torch.tensor([0.0, 1.0])},
            ValueError,
            r"source: expected one integer an image, \[2\], got torch.f",
        ),
        ({"target": torch.tensor([0, 1])}, ValueError, r"target: expected another class .* same for image\(s\) \[0\]"),
        ({"mask": torch.ones(2, 4, 4)}, ValueError, r"mask: expected one channel for each image, \[2, 1, 4, 4\], got"),
        ({"mask": torch.full((2, 1, 4, 4), 2.0)}, ValueError, "mask: expected values from 0 to 1, got 2 to 2"),
        ({"mask": torch.zeros(2, 1, 4, 4)}, ValueError, r"got an empty mask for image\(s\) \[0, 1\]"),
    ],
)
def test_refuses_calls(call, error, message):
    generator = CounterfactualGenerator(scheduler(), num_steps=2, **FREE)
    arguments = {"images": torch.zeros(2, 1, 4, 4), "source": zeros(2), **call}
    with pytest.raises(error, match=message):
        generator(arguments.pop("images"), exact(gaussians()), **arguments)


def test_refuses_a_network_in_training_and_a_missing_inferer():
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="network: expected eval mode, got training mode"):
        CounterfactualGenerator(scheduler())(x, exact(gaussians()).train(), source=zeros(1))
    for settings in ({"guidance": (1.0, 2.0)}, {"edit_fraction": 0.1}):
        with pytest.raises(TypeError, match="inferer: expected the diffusion classifier, which edit_fraction and"):
            CounterfactualGenerator(scheduler(), **settings)(x, exact(gaussians()), source=zeros(1))
    with pytest.raises(TypeError, match="inferer: expected one with error_maps, .* got function; pass a mask instead"):
        CounterfactualGenerator(scheduler(), edit_fraction=0.1)(
            x, exact(gaussians()), source=zeros(1), inferer=lambda batch, network: batch
        )


class OfAge(torch.nn.Module):
    """Knows that class k is the constant image k, of everyone of age 1; of others it knows the reverse."""

    def forward(self, x, timesteps, class_labels, age):
        own = torch.where(age == 1, class_labels, 1 - class_labels)
        return own.view(-1, 1, 1, 1).expand_as(x).float()


@pytest.mark.parametrize("settings", [{}, {"guidance": [0.0, 1.0]}, {"source": torch.tensor([0, 1, 0, 1, 0])}])
def test_conditions_of_the_images_in_calls_of_some(settings):
    scheduler = DDPMScheduler(100, schedule="cosine", prediction_type="sample")
    source, guidance = settings.get("source"), settings.get("guidance", 0.0)
    inferer, age = DiffusionClassifierInferer(scheduler, num_draws=5), torch.tensor([1.0, 2.0, 2.0, 1.0, 1.0])
    images = torch.tensor([0.0, 0.0, 1.0, 1.0, 0.0]).view(5, 1, 1, 1).expand(5, 1, 8, 8)
    found = [
        CounterfactualGenerator(scheduler, 2, guidance=guidance, batch_size=size)(
            images, OfAge().eval(), inferer=inferer, source=source, age=age
        )
        for size in (5, 2, 1)
    ]
    assert found[0].source.tolist() == ([0, 1, 0, 1, 0] if source is None else source.tolist())
    assert found[0].flipped.all()
    for other in found[1:]:
        assert torch.equal(other.flipped, found[0].flipped)
        torch.testing.assert_close(other.counterfactual, found[0].counterfactual)
