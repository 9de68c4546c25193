"""Networks that ignore the class, or have no place for one, are refused before they seem to classify."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler
from torch import nn

from monai_diffclf.classification import CurtailedVote
from monai_diffclf.explain import CounterfactualGenerator
from monai_diffclf.inferers import DiffusionClassifierInferer, ScoreClassifierInferer
from monai_diffclf.networks import Denoiser, check_uses_classes, fast_inference
from monai_diffclf.networks.nets import ScoreUNet
from monai_diffclf.networks.schedulers import VPSDE
from monai_diffclf.sampling import sample_classes

SCHEDULER = DDPMScheduler(100, schedule="cosine")
SAME = "network: expected predictions that depend on the class, got the same for all 2 classes"
FEW = "network: expected class embeddings for labels 0 to 3, got 3; build it with num_class_embeds of at least 4"


def unet(*, trained: bool = True, **settings) -> DiffusionModelUNet:
    torch.manual_seed(0)
    network = DiffusionModelUNet(
        2, 1, 1, channels=(8, 16), attention_levels=(False, False), num_res_blocks=1, norm_num_groups=4,
        num_head_channels=8, **settings,
    )  # fmt: skip
    for parameter in network.parameters() if trained else ():
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Counting(nn.Module):
    """Counts the evaluations of a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.evaluations = network, 0
        self.eval()

    def forward(self, x, timesteps, **kwargs):
        self.evaluations += len(x)
        return self.network(x, timesteps, **kwargs)


WAYS = {
    "all draws": lambda network, k: DiffusionClassifierInferer(SCHEDULER, k, num_draws=9)(images(), network),
    "one image": lambda network, k: DiffusionClassifierInferer(SCHEDULER, k, num_draws=3)(images(1), network),
    "stopping": lambda network, k: DiffusionClassifierInferer(
        SCHEDULER, k, num_draws=9, stopping=CurtailedVote()
    ).classify(images(), network),
    "errors": lambda network, k: DiffusionClassifierInferer(SCHEDULER, k, num_draws=3).compute_errors(
        images(), network
    ),
    "maps": lambda network, k: DiffusionClassifierInferer(SCHEDULER, k, num_draws=3).error_maps(images(), network),
    "likelihood": lambda network, k: ScoreClassifierInferer(VPSDE(), k, num_steps=4)(images(), network),
    "samples": lambda network, k: sample_classes(
        network, SCHEDULER, torch.tensor([0, 1]), [1, 16, 16], num_classes=k, num_steps=3
    ),
    "counterfactual": lambda network, k: CounterfactualGenerator(SCHEDULER, k, guidance=0.0, num_steps=3)(
        images(), network, source=torch.zeros(3, dtype=torch.int64), target=torch.ones(3, dtype=torch.int64)
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trained", [True, False])
def test_a_network_without_class_embeddings(way, trained):
    with pytest.raises(ValueError, match=SAME + r" \(num_class_embeds is None"):
        WAYS[way](unet(trained=trained), 2)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [lambda network: network, fast_inference])
def test_fewer_class_embeddings_than_classes(way, make):
    if way == "likelihood" and make is fast_inference:
        pytest.skip("a fast network has no gradients")
    with pytest.raises(ValueError, match=FEW):
        WAYS[way](make(unet(num_class_embeds=3)), 4)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("trained", [True, False])
def test_networks_with_class_embeddings_are_accepted(way, trained):
    """Untrained ones too, whose last layer is zero, so that all classes tie."""
    WAYS[way](unet(trained=trained, num_class_embeds=3), 2)


def test_cross_attention_is_a_way_to_be_told():
    network = unet(with_conditioning=True, cross_attention_dim=3)
    assert DiffusionClassifierInferer(SCHEDULER, num_draws=3, conditioning="crossattn")(images(), network).shape == (
        3,
        2,
    )


def test_what_is_told_apart_costs_no_evaluation():
    network = Counting(unet(num_class_embeds=3))
    DiffusionClassifierInferer(SCHEDULER, num_draws=9).classify(images(), network)
    assert network.evaluations == 3 * 2 * 9


def test_a_tie_is_looked_at_once_a_network():
    network, inferer = (
        Counting(unet(trained=False, num_class_embeds=3)),
        DiffusionClassifierInferer(SCHEDULER, num_draws=3),
    )
    inferer.classify(images(), network)
    first = network.evaluations
    inferer.classify(images(), network)
    assert first <= 3 * 2 * 3 + 4
    assert network.evaluations - first == 3 * 2 * 3


def test_inferers_can_be_copied_and_pickled_after_it():
    inferer, network = DiffusionClassifierInferer(SCHEDULER, num_draws=3), unet(trained=False, num_class_embeds=3)
    expected = inferer(images(), network)
    for other in (copy.deepcopy(inferer), pickle.loads(pickle.dumps(inferer))):  # noqa: S301
        assert torch.equal(other(images(), network), expected)


class Table(nn.Module):
    """A network of its own with a table of classes, and one of something else that is smaller."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.names, self.other = nn.Embedding(rows, 1), nn.Embedding(1, 1)
        self.eval()

    def forward(self, x, timesteps, class_labels=None):
        shift = self.names(class_labels) + self.other(torch.zeros_like(class_labels))
        return x + shift.reshape(-1, 1, 1, 1)


def test_any_table_of_classes():
    inferer = DiffusionClassifierInferer(SCHEDULER, 4, num_draws=3)
    assert inferer(images(), Table(4)).shape == (3, 4)
    with pytest.raises(ValueError, match="expected class embeddings for labels 0 to 3, got 3"):
        inferer(images(), Table(3))
    assert not Table(3).names._forward_pre_hooks


def test_any_index_that_fails():
    class Listed(nn.Module):
        def forward(self, x, timesteps, class_labels=None):
            return x + torch.tensor([0.0, 0.1, 0.2])[class_labels].reshape(-1, 1, 1, 1)

    with pytest.raises(ValueError, match="expected one that takes class labels 0 to 3, got an error for them: index 3"):
        DiffusionClassifierInferer(SCHEDULER, 4, num_draws=3)(images(), Listed().eval())


def test_a_score_network_before_training():
    """It is x / sigma whatever the class, as its last layer is zero."""
    network = ScoreUNet(VPSDE(), 2, 1, channels=(8, 16), embedding_channels=16, norm_num_groups=4)
    assert ScoreClassifierInferer(VPSDE(), num_steps=4)(images(), network.eval()).shape == (3, 2)


def test_equal_embeddings_are_no_class():
    network = unet(num_class_embeds=3)
    nn.init.ones_(network.class_embedding.weight)
    with pytest.raises(ValueError, match=SAME + r" \(it ignores the labels, or was not trained"):
        DiffusionClassifierInferer(SCHEDULER, num_draws=3)(images(), network)


def test_classes_that_differ_at_some_levels_only():
    """Equal in the middle of the schedule is not yet equal."""

    class Late(nn.Module):
        def forward(self, x, timesteps, class_labels=None):
            return x + ((timesteps > 80) * class_labels).reshape(-1, 1, 1, 1)

    check_uses_classes(Denoiser(Late(), SCHEDULER), images())


def test_one_of_several_classes_differs():
    class Third(nn.Module):
        def forward(self, x, timesteps, class_labels=None):
            return x + (class_labels == 1).reshape(-1, 1, 1, 1)

    check_uses_classes(Denoiser(Third(), SCHEDULER, 3), images())


def test_random_numbers_are_left_alone():
    denoiser = Denoiser(unet(trained=False, num_class_embeds=3), SCHEDULER)
    before = torch.get_rng_state()
    check_uses_classes(denoiser, images())
    assert torch.equal(torch.get_rng_state(), before)


def test_a_table_of_zeros_is_no_untrained_network():
    network = unet(num_class_embeds=2)
    nn.init.zeros_(network.class_embedding.weight)
    with pytest.raises(ValueError, match=SAME):
        DiffusionClassifierInferer(SCHEDULER, num_draws=3)(images(), network)


def test_images_that_a_network_cannot_take_are_refused_in_one_line():
    for shape in ((2, 3, 16, 16), (2, 1, 15, 15), (2, 1, 16, 16, 16)):
        with pytest.raises(ValueError, match="network: expected one that takes images") as caught:
            DiffusionClassifierInferer(SCHEDULER, num_draws=3)(torch.zeros(shape), unet(num_class_embeds=2))
        assert len(str(caught.value).splitlines()) == 1
