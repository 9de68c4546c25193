"""Classification in a latent space: the same as classifying the latents, encoded once, with maps over image pixels."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import CurtailedVote, image_keys
from monai_diffclf.explain import CounterfactualGenerator, smooth_map
from monai_diffclf.inferers import DiffusionClassifierInferer, ScoreClassifierInferer, provenance
from monai_diffclf.networks.schedulers import VPSDE, NoiseProcess, SDEProcess
from monai_diffclf.sampling import sample_classes
from tests.closed_form import ExactDenoiser, Mixture
from tests.latent_spaces import Blocks, EncodesOnly

SCHEDULER = DDPMScheduler(1000, schedule="cosine_log_snr", prediction_type="v_prediction")
LATENT = (4, 3, 3)


def laws() -> list[Mixture]:
    generator = torch.Generator().manual_seed(0)
    return [Mixture(torch.randn(1, *LATENT, generator=generator), torch.full((1, *LATENT), 0.7)) for _ in range(2)]


def network(process=None) -> ExactDenoiser:
    return ExactDenoiser(NoiseProcess.of(SCHEDULER) if process is None else process, laws())


def images(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.cat([Blocks().decode(laws()[i % 2].sample(1, generator)) for i in range(count)])


def make(**settings) -> DiffusionClassifierInferer:
    return DiffusionClassifierInferer(SCHEDULER, **{"num_draws": 9, **settings})


@pytest.mark.parametrize(
    "settings", [{}, {"rule": "mean"}, {"stopping": CurtailedVote()}, {"amp_dtype": torch.bfloat16}]
)
def test_a_class_is_that_of_the_latents(settings):
    space, x = EncodesOnly(), images()
    inside = make(latent_space=space, **settings).classify(x, network())
    outside = make(**settings).classify(EncodesOnly().encode(x), network())
    assert space.calls == 1, "encoded once, never once a draw"
    assert torch.equal(inside.errors.values.nan_to_num(), outside.errors.values.nan_to_num())
    assert torch.equal(inside.probabilities, outside.probabilities)
    assert inside.errors.num_elements == 36


def test_an_image_stays_on_its_own():
    inferer, x = make(latent_space=EncodesOnly()), images(4)
    together = inferer.compute_errors(x, network()).values
    for i in (0, 3):
        torch.testing.assert_close(inferer.compute_errors(x[i : i + 1], network()).values[0], together[i])


@pytest.mark.parametrize("amp", [None, torch.bfloat16])
def test_maps_lie_over_image_pixels_and_keep_their_sum(amp):
    settings = {"rule": "mean", "amp_dtype": amp, "map_weighting": None, "map_smoothing": 0}
    inferer, x = make(latent_space=EncodesOnly(), **settings), images()
    result = inferer.classify(x, network(), error_maps=True)
    assert result.error_maps.shape == (3, 2, 6, 6)
    torch.testing.assert_close(result.error_maps.double().sum((2, 3)), 9 * result.mean_error, rtol=1e-5, atol=1e-6)
    if amp is None:
        torch.testing.assert_close(inferer.error_maps(x, network()), result.error_maps)
    blocks = result.error_maps.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert torch.equal(blocks.amax(4), blocks.amin(4)), "a latent pixel is shared out evenly"
    smooth = make(latent_space=EncodesOnly(), **settings | {"map_smoothing": None}).error_maps(x, network())
    # Half the stride of 2, as that is more than a sixteenth of the image.
    torch.testing.assert_close(smooth[0], smooth_map(inferer.error_maps(x, network())[0], 1.0))
    torch.testing.assert_close(smooth.double().sum((2, 3)), 9 * result.mean_error, rtol=0.02, atol=0)


def test_likelihoods_are_those_of_the_latents():
    space, x = EncodesOnly(), images()
    settings = {"num_steps": 4, "map_draws": 3}
    exact = network(SDEProcess(VPSDE()))
    inside = ScoreClassifierInferer(VPSDE(), latent_space=space, **settings)
    outside = ScoreClassifierInferer(VPSDE(), **settings)
    result, latents = inside.classify(x, exact, error_maps=True), EncodesOnly().encode(x)
    assert space.calls == 1
    assert torch.equal(result.log_likelihood, outside.log_likelihood(latents, exact))
    assert result.error_maps.shape == (3, 2, 6, 6)
    torch.testing.assert_close(
        result.error_maps.double().sum((2, 3)),
        outside.classify(latents, exact, error_maps=True).error_maps.double().sum((2, 3)),
    )
    inner = outside.log_likelihood_maps(latents, exact, num_draws=3).double().sum((2, 3))
    torch.testing.assert_close(inside.log_likelihood_maps(x, exact, num_draws=3).double().sum((2, 3)), inner)
    bound = inside.variational_bound(x, exact, num_draws=5)
    assert torch.equal(bound.value, outside.variational_bound(latents, exact, num_draws=5).value)


def test_bits_of_pixels_are_refused_for_latents():
    from monai_diffclf.classification import UniformDequantization

    with pytest.raises(ValueError, match="dequantization: expected None with a latent_space"):
        ScoreClassifierInferer(VPSDE(), latent_space=EncodesOnly(), dequantization=UniformDequantization())


def test_the_space_belongs_to_the_provenance():
    linear = torch.nn.Linear(1, 1)
    assert provenance(make(), linear)["latent_space"] == "pixels"
    assert provenance(make(latent_space=EncodesOnly()), linear)["latent_space"] == "blocks of two"


def test_noise_is_keyed_by_the_latents():
    class Grey(EncodesOnly):
        def encode(self, images):
            return super().encode(images.round())

    x = images(1)
    other = x + 0.01 * (x.round() - x).sign() * ((x.round() - x).abs() > 0.05)
    space = Grey()
    assert image_keys(x) != image_keys(other)
    assert torch.equal(space.encode(x), space.encode(other))
    inferer = make(latent_space=space)
    assert torch.equal(inferer.compute_errors(x, network()).values, inferer.compute_errors(other, network()).values)


def test_samples_are_decoded():
    labels = torch.tensor([0, 1])
    settings = {"num_classes": 2, "num_steps": 50}
    latents = sample_classes(network(), SCHEDULER, labels, LATENT, **settings)
    drawn = sample_classes(network(), SCHEDULER, labels, LATENT, latent_space=Blocks(), **settings)
    assert drawn.shape == (2, 1, 6, 6)
    torch.testing.assert_close(drawn, Blocks().decode(latents))
    with pytest.raises(ValueError, match="expected one with decode, which samples need"):
        sample_classes(network(), SCHEDULER, labels, LATENT, latent_space=EncodesOnly(), **settings)


@pytest.mark.parametrize("method", ["invert", "sample"])
def test_counterfactuals_are_those_of_the_latents_drawn(method):
    x, own = images(2), torch.tensor([0, 1])
    settings = {"method": method, "clip": None, "max_drift": 10.0, "num_steps": 8, "guidance": 0.5}
    inside = CounterfactualGenerator(SCHEDULER, latent_space=Blocks(), **settings)(x, network(), source=own)
    outside = CounterfactualGenerator(SCHEDULER, **settings)(Blocks().encode(x), network(), source=own)
    torch.testing.assert_close(inside.counterfactual, Blocks().decode(outside.counterfactual))
    torch.testing.assert_close(inside.factual, Blocks().decode(outside.factual))
    assert torch.equal(inside.image, x)


def test_a_masked_edit_leaves_the_other_pixels_alone():
    x, mask = images(1), torch.zeros(1, 1, 6, 6)
    mask[..., 1, 1] = 1
    generator = CounterfactualGenerator(SCHEDULER, latent_space=Blocks(), clip=(-0.5, 0.5), max_drift=10.0, num_steps=6)
    edited = generator(x, network(), source=torch.tensor([0]), mask=mask).counterfactual
    assert edited.abs().max() <= 0.5
    assert torch.equal(edited[mask == 0], x.clamp(-0.5, 0.5)[mask == 0])
    assert edited[0, 0, 1, 1] != x.clamp(-0.5, 0.5)[0, 0, 1, 1]


def test_counterfactuals_need_a_way_back():
    with pytest.raises(ValueError, match="expected one with decode, which counterfactuals need"):
        CounterfactualGenerator(SCHEDULER, latent_space=EncodesOnly())
