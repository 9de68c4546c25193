"""Explained images in TensorBoard."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from monai_diffclf.explain import decision_map, overlay
from monai_diffclf.handlers import ExplanationImages


class Writer:
    """Stands in for a SummaryWriter and keeps what it is given."""

    def __init__(self) -> None:
        self.images: dict[tuple[str, int], torch.Tensor] = {}

    def add_image(self, tag, image, step):
        self.images[tag, step] = image


def paint(images, network, *, source, target, inferer):
    return SimpleNamespace(factual=images, counterfactual=-images, target=target)


def test_image_and_map(evaluate, images):
    writer = Writer()
    _, outputs = evaluate(images, [ExplanationImages(writer, 3, size=8)])
    ((key, grid),) = writer.images.items()
    assert key == ("explanations", 1)
    assert grid.shape == (3, 3 * 8, 2 * 6)
    assert grid.min() >= 0
    assert grid.max() <= 1
    for i in range(3):
        row = grid[:, 8 * i : 8 * i + 8]
        torch.testing.assert_close(row[:, :, :6], (images[i] + 1).expand(3, -1, -1) / 2)
        maps, predicted = outputs[i]["error_maps"][None].cpu(), outputs[i]["pred"].argmax()[None].cpu()
        expected = overlay((images[i].numpy() + 1) / 2, decision_map(maps, predicted)[0].numpy(), size=8)
        torch.testing.assert_close(row[:, :, 6:].permute(1, 2, 0), torch.as_tensor(expected, dtype=torch.float32))


def test_counterfactuals(evaluate, images):
    writer = Writer()
    evaluate(images, [ExplanationImages(writer, 2, counterfactuals=paint, size=8, tag="why")])
    grid = writer.images["why", 1]
    assert grid.shape == (3, 2 * 8, 4 * 6)
    torch.testing.assert_close(grid[:, :8, 12:18], grid[:, :8, :6])
    torch.testing.assert_close(grid[:, :8, 18:], 1 - grid[:, :8, :6])


@pytest.mark.parametrize("kind", ["colour", "volume", "few"])
def test_colour_volumes_and_few_images(evaluate, images, kind):
    writer = Writer()
    given = {
        "colour": images.repeat(1, 3, 1, 1),
        "volume": images[..., None].repeat(1, 1, 1, 1, 3),
        "few": images[:1],
    }[kind]
    evaluate(given, [ExplanationImages(writer, 4, size=16)])
    shown = {"colour": (3, 16 * 4, 2 * 12), "volume": (3, 12 * 4, 2 * 16), "few": (3, 16, 2 * 12)}
    assert writer.images["explanations", 1].shape == shown[kind]  # of a volume the first axis points to the right


def test_under_the_epoch_of_the_training(evaluate, images):
    writer = Writer()
    evaluator, _ = evaluate(images, [ExplanationImages(writer, 1)], run=False)
    evaluator.run(3)
    evaluator.run(6)
    assert list(writer.images) == [("explanations", 3), ("explanations", 6)]
    torch.testing.assert_close(*writer.images.values())


def test_the_real_writer(evaluate, images, tmp_path):
    with SummaryWriter(tmp_path) as writer:
        evaluate(images, [ExplanationImages(writer, 2)])
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) > 500


def test_evaluators_without_maps_are_refused(evaluate, images):
    for settings, given in [({"explain": False}, "explain=False"), ({"stopping": True}, "the stopping rule Curtailed")]:
        with pytest.raises(ValueError, match=f"engine: expected an evaluator with explain=True.*got {given}"):
            evaluate(images, [ExplanationImages(Writer())], **settings)
    with pytest.raises(ValueError, match="num_images: expected a positive number, got 0"):
        ExplanationImages(Writer(), 0)
