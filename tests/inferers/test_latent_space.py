"""Classification in a latent space: the same as classifying the latents, encoded once, with maps over image pixels."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import CurtailedVote, image_keys
from monai_diffclf.explain import CounterfactualGenerator, smooth_map
from monai_diffclf.inferers import DiffusionClassifierInferer, ScoreClassifierInferer, provenance
from monai_diffclf.networks import GivenLatents
from monai_diffclf.networks.schedulers import VPSDE, NoiseProcess, SDEProcess
from monai_diffclf.sampling import sample_classes
from tests.closed_form import ExactDenoiser, Mixture
from tests.latent_spaces import Blocks, EncodesOnly, Tokens

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


@pytest.fixture
def same_keys(monkeypatch):
    """The noise of an image is that of its place in the batch, whatever it or its latents are."""
    for module in ("monai_diffclf.inferers.classifier", "monai_diffclf.explain.counterfactual_edit"):
        monkeypatch.setattr(f"{module}.image_keys", lambda images: [bytes([i] * 8) for i in range(len(images))])


@pytest.mark.parametrize(
    "settings", [{}, {"rule": "mean"}, {"stopping": CurtailedVote()}, {"amp_dtype": torch.bfloat16}]
)
def test_a_class_is_that_of_the_latents(settings, same_keys):
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


def test_likelihoods_are_those_of_the_latents(same_keys):
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
    made = provenance(make(latent_space=EncodesOnly()), linear)
    assert (made["latent_space"], made["noise_keys"]) == ("blocks of two", "pixels")
    assert "noise_keys" not in provenance(make(), linear)


def test_noise_is_keyed_by_the_pixels_not_by_what_an_encoder_makes_of_them():
    class Rounds(EncodesOnly):
        """An encoder whose last digits depend on the batch."""

        def encode(self, images):
            return super().encode(images) * (1 + 1e-6 * len(images))

    x, inferer = images(3), make(latent_space=Rounds())
    assert image_keys(inferer.encode(x, network()))[0] != image_keys(inferer.encode(x[:1], network()))[0]
    together, alone = (inferer.compute_errors(each, network()).values[0] for each in (x, x[:1]))
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
    same = Rounds()
    same.encode = lambda images: torch.ones(len(images), *LATENT)
    errors = make(latent_space=same).compute_errors(x, network()).values
    assert not torch.equal(errors[0], errors[1]), "equal latents, other pixels, other noise"


def test_likelihoods_have_probes_keyed_by_the_pixels():
    class Same(EncodesOnly):
        def encode(self, images):
            return torch.ones(len(images), *LATENT)

    inferer = ScoreClassifierInferer(VPSDE(), latent_space=Same(), num_steps=4, probe="gaussian")
    values = inferer.classify(images(2), network(SDEProcess(VPSDE()))).probe_log_likelihood
    assert not torch.equal(values[0], values[1])


def token_laws() -> list[Mixture]:
    generator = torch.Generator().manual_seed(2)
    return [Mixture(torch.randn(1, 4, 10, generator=generator), torch.full((1, 4, 10), 0.7)) for _ in range(2)]


def token_network(process=None) -> ExactDenoiser:
    return ExactDenoiser(NoiseProcess.of(SCHEDULER) if process is None else process, token_laws())


@pytest.mark.parametrize("settings", [{}, {"rule": "mean"}, {"stopping": CurtailedVote()}])
def test_tokens_are_classified_like_latents_given(settings, same_keys):
    space, x = Tokens(), images()
    inside = make(latent_space=space, **settings).classify(x, token_network())
    outside = make(latent_space=GivenLatents(), **settings).classify(Tokens().encode(x), token_network())
    assert space.calls == 1
    assert inside.errors.num_elements == 40
    assert torch.equal(inside.errors.values.nan_to_num(), outside.errors.values.nan_to_num())
    assert torch.equal(inside.probabilities, outside.probabilities)


def test_maps_over_tokens_lie_over_image_pixels_and_keep_their_sum(same_keys):
    settings = {"rule": "mean", "map_weighting": None, "map_smoothing": 0}
    inferer, x = make(latent_space=Tokens(), **settings), images()
    result = inferer.classify(x, token_network(), error_maps=True)
    assert result.error_maps.shape == (3, 2, 6, 6)
    torch.testing.assert_close(result.error_maps.double().sum((2, 3)), 10 * result.mean_error, rtol=1e-5, atol=1e-6)
    given = make(latent_space=GivenLatents(), **settings | {"map_smoothing": None})  # tokens have no neighbours
    tokens = given.classify(Tokens().encode(x), token_network(), error_maps=True).error_maps
    assert tokens.shape == (3, 2, 10)
    footprint = result.error_maps[..., ::2, ::2].flatten(2) - tokens[..., :1] / 36
    torch.testing.assert_close(4 * footprint, tokens[..., 1:])


def test_likelihoods_of_tokens():
    exact, x = token_network(SDEProcess(VPSDE())), images()
    inferer = ScoreClassifierInferer(VPSDE(), latent_space=Tokens(), num_steps=4, map_draws=3)
    result = inferer.classify(x, exact, error_maps=True)
    assert result.error_maps.shape == (3, 2, 6, 6)
    assert inferer.variational_bound(x, exact, num_draws=3).value.shape == (3, 2)


def test_tokens_without_a_way_to_the_image_are_refused():
    class Lost(EncodesOnly):
        def encode(self, images):
            return super().encode(images).flatten(2)

    with pytest.raises(ValueError, match="with 2 spatial axes from encode.*tokens need a space with spread"):
        make(latent_space=Lost()).classify(images(), network())


def test_tokens_are_no_images():
    with pytest.raises(ValueError, match="images: expected shape"):
        make().classify(torch.zeros(2, 4, 10), token_network())


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
def test_counterfactuals_are_those_of_the_latents_drawn(method, same_keys):
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


def test_counterfactuals_need_the_axes_of_the_image():
    class Drawn(Tokens):
        def decode(self, latents):
            return latents

    generator = CounterfactualGenerator(SCHEDULER, latent_space=Drawn())
    with pytest.raises(ValueError, match="expected latents with the axes of the image, which counterfactuals need"):
        generator(images(1), token_network(), source=torch.tensor([0]))
