"""How a class reaches a network."""

from __future__ import annotations

import pytest
import torch

from monai_diffclf.networks.conditioning import class_labels, make_conditioning, one_hot_context
from tests.tiny_unet import tiny_unet

LABELS = torch.tensor([2, 0, 3])


def test_class_labels():
    assert make_conditioning("class_labels", 3) is class_labels
    assert torch.equal(class_labels(LABELS)["class_labels"], LABELS)


def test_one_hot_context_has_a_place_for_the_null_class():
    context = one_hot_context(3)(LABELS)["context"]
    assert context.shape == (3, 1, 4)
    assert context.dtype == torch.float32
    assert torch.equal(context[:, 0].argmax(1), LABELS)
    assert torch.equal(context.sum(2), torch.ones(3, 1))
    assert torch.equal(make_conditioning("crossattn", 3)(LABELS)["context"], context)


def test_context_works_with_monais_network(device):
    network = tiny_unet("crossattn", classes=3, attention_levels=(False, True)).to(device)
    x = torch.ones(1, 1, 8, 8, device=device).expand(3, 1, 8, 8)
    out = network(x, torch.tensor([5, 5, 5], device=device), **one_hot_context(3)(LABELS.to(device)))
    assert (out[0] - out[1]).abs().max() > 1e-6
    assert (out[1] - out[2]).abs().max() > 1e-6


def test_a_callable_is_taken_as_it_is():
    def own(labels):
        return {"y": labels}

    assert make_conditioning(own, 3) is own


def test_refuses():
    with pytest.raises(
        ValueError, match="conditioning: expected 'class_labels', 'crossattn' or a callable, got 'film'"
    ):
        make_conditioning("film", 3)
    with pytest.raises(TypeError, match="conditioning: expected a name or a callable, got int"):
        make_conditioning(5, 3)
