"""What an image brings along, beside its pixels, reaches the network with it: however evaluations are packed."""

from __future__ import annotations

import pytest
import torch
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.classification import CurtailedVote
from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.explain import CounterfactualGenerator
from monai_diffclf.inferers import DiffusionClassifierInferer, ScoreClassifierInferer, provenance
from monai_diffclf.networks.conditioning import Conditions, class_labels
from monai_diffclf.networks.schedulers import VPSDE
from monai_diffclf.sampling import sample_classes

SCHEDULER = DDPMScheduler(100, prediction_type="sample")


class Shifted(torch.nn.Module):
    """Knows that an image of class k is the constant k + offset, the offset being the image's own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.eval()

    def forward(self, x, timesteps, class_labels, offset, scale=1.0):
        value = scale * (class_labels + offset)
        return value.reshape(-1, 1, 1, 1).expand_as(x).float() + 0 * x


def token(labels, offset):
    """Class and offset as one token."""
    return {"context": torch.stack([labels.float(), offset], dim=1)[:, None]}


class FromToken(Shifted):
    def forward(self, x, timesteps, context):
        return super().forward(x, timesteps, context[:, 0, 0], context[:, 0, 1])


OFFSETS = torch.tensor([0.0, 3.0, -2.0, 0.5])
CLASSES = torch.tensor([1, 0, 1, 0])
IMAGES = (CLASSES + OFFSETS).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone()


@pytest.mark.parametrize("batch_size", [1, 3, 256])
@pytest.mark.parametrize("stopping", [None, CurtailedVote()])
def test_conditions_go_where_their_image_goes(batch_size, stopping):
    inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=5, batch_size=batch_size, stopping=stopping)
    result = inferer.classify(IMAGES, Shifted(), offset=OFFSETS)
    assert torch.equal(result.predicted, CLASSES)
    assert float(result.errors.values.nan_to_num(nan=9.0).amin((1, 2)).max()) == pytest.approx(0, abs=1e-10)
    alone = [inferer.classify(IMAGES[i : i + 1], Shifted(), offset=OFFSETS[i : i + 1]) for i in range(4)]
    torch.testing.assert_close(torch.cat([each.probabilities for each in alone]), result.probabilities)
    wrong = inferer.classify(IMAGES, Shifted(), offset=OFFSETS + 1)
    assert torch.equal(wrong.predicted, torch.zeros_like(CLASSES)), "a condition matters"


def test_a_conditioning_may_join_class_and_condition():
    inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=5, conditioning=token, batch_size=3)
    assert torch.equal(inferer.classify(IMAGES, FromToken(), offset=OFFSETS).predicted, CLASSES)
    plain = DiffusionClassifierInferer(SCHEDULER, num_draws=5).compute_errors(IMAGES, Shifted(), offset=OFFSETS)
    torch.testing.assert_close(inferer.compute_errors(IMAGES, FromToken(), offset=OFFSETS).values, plain.values)
    assert "conditioning" in provenance(inferer, FromToken())
    with pytest.raises(ValueError, match=r"expected a tensor with one row an image for \['offset'\], got none"):
        inferer.classify(IMAGES, FromToken())


def test_likelihoods_know_their_image():
    class Score(torch.nn.Module):
        def forward(self, x, timesteps, class_labels, offset):
            alpha = VPSDE().alpha_sigma(timesteps)[0].reshape(-1, 1, 1, 1)
            return (class_labels + offset).reshape(-1, 1, 1, 1) * alpha - x

    inferer = ScoreClassifierInferer(VPSDE(), num_steps=8, batch_size=3)
    together = inferer.classify(IMAGES, Score().eval(), offset=OFFSETS)
    assert torch.equal(together.predicted, CLASSES)
    for i in range(4):
        alone = inferer.log_likelihood(IMAGES[i : i + 1], Score().eval(), offset=OFFSETS[i : i + 1])
        torch.testing.assert_close(alone[0], together.log_likelihood[i])


def test_samples_and_counterfactuals_know_their_image():
    labels = torch.tensor([1, 0])
    drawn = sample_classes(
        Shifted(), SCHEDULER, labels, (1, 4, 4), num_classes=2, num_steps=4, conditions={"offset": OFFSETS[1:3]}
    )
    torch.testing.assert_close(drawn.mean((1, 2, 3)), labels + OFFSETS[1:3])
    generator = CounterfactualGenerator(SCHEDULER, guidance=0.0, batch_size=3, clip=None)
    pairs = generator(IMAGES, Shifted(), source=CLASSES, offset=OFFSETS)
    torch.testing.assert_close(pairs.counterfactual.mean((1, 2, 3)), 1 - CLASSES + OFFSETS)
    torch.testing.assert_close(pairs.factual.mean((1, 2, 3)), CLASSES + OFFSETS)


def test_what_all_images_share_reaches_every_call():
    inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=3, batch_size=2)
    doubled = inferer.compute_errors(2 * IMAGES, Shifted(), offset=OFFSETS, scale=2.0)
    assert torch.equal(doubled.values.sum(2).argmin(1), CLASSES)


def test_refuses_what_is_no_condition_of_the_images():
    inferer = DiffusionClassifierInferer(SCHEDULER, num_draws=3)
    with pytest.raises(ValueError, match=r"offset: expected one row an image, \[4, ...\], got \[1\]; .* expand"):
        inferer.classify(IMAGES, Shifted(), offset=OFFSETS[:1])
    with pytest.raises(ValueError, match="class_labels: expected once, got it from the conditioning and from the call"):
        inferer.classify(IMAGES, Shifted(), class_labels=CLASSES, offset=OFFSETS)
    with pytest.raises(ValueError, match=r"offset: expected one row an image, \[None, ...\]"):
        Conditions(class_labels, 2, "cpu", extra={"offset": OFFSETS})


@pytest.mark.parametrize("conditioning", ["class_labels", token])
def test_training_takes_the_same_conditions(conditioning):
    keys = {"offset": "age"} if conditioning == token else ["offset"]
    prepare = DenoisingPrepareBatch(SCHEDULER, conditioning=conditioning, label_dropout=0.0, extra_keys=keys)
    batch = {"image": IMAGES, "label": CLASSES, "offset": OFFSETS, "age": OFFSETS}
    noisy, targets, _, arguments = prepare(batch)
    network = FromToken() if conditioning == token else Shifted()
    torch.testing.assert_close(network(noisy, **arguments), targets["target"])
    with pytest.raises(ValueError, match=r"expected one row an image, \[4, ...\], got \[3\]"):
        prepare({**batch, "offset": OFFSETS[:3], "age": OFFSETS[:3]})
