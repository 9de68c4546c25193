"""The evaluator with MONAI's own handlers, unmodified."""

from __future__ import annotations

import csv
import warnings

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import (
    ROCAUC,
    ClassificationSaver,
    ConfusionMatrix,
    MetricsSaver,
    StatsHandler,
    TensorBoardStatsHandler,
    from_engine,
)
from monai.inferers import SimpleInferer
from monai.networks.schedulers import DDPMScheduler
from monai.transforms import AsDiscreted, Compose, CopyItemsd, ToDeviced
from sklearn.metrics import accuracy_score, roc_auc_score

from monai_diffclf.classification import CurtailedVote
from monai_diffclf.engines import DiffusionClassifierEvaluator, compute_dataset_errors
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.uncertainty import pool_maps
from tests.closed_form import ExactDenoiser, make_classes, make_images

LABELS = [0] * 6 + [1] * 6


class Writer:
    """Stands in for TensorBoard's SummaryWriter and keeps what it is given."""

    def __init__(self) -> None:
        self.scalars: dict[str, float] = {}

    def add_scalar(self, tag, value, step):
        self.scalars[tag] = value

    def flush(self):
        pass

    def close(self):
        pass


@pytest.fixture
def classifier():
    """An inferer, the exact denoiser of two classes, and 12 images."""
    inferer = DiffusionClassifierInferer(DDPMScheduler(1000, schedule="cosine_log_snr"), num_draws=9)
    classes = make_classes("gaussian")
    return inferer, ExactDenoiser(inferer.process, classes), make_images(classes, 6)


def loader(images: torch.Tensor, *, labels: bool = True) -> DataLoader:
    items = [
        {"image": MetaTensor(image, meta={"filename_or_obj": f"image{i}.png"})}
        | ({"label": LABELS[i]} if labels else {})
        for i, image in enumerate(images)
    ]
    return DataLoader(Dataset(items), batch_size=5)


def collect(evaluator) -> list[dict]:
    """All items of the evaluator's output, after its postprocessing."""
    items: list[dict] = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: items.extend(engine.state.output))
    evaluator.run()
    return items


def test_output(classifier, device):
    inferer, network, images = classifier
    items = collect(DiffusionClassifierEvaluator(torch.device(device), loader(images), network, inferer=inferer))
    expected = inferer.classify(images.to(device), network, error_maps=True)
    assert len(items) == 12
    for i, item in enumerate(items):
        more = {"vote_share", "uncertainty", "errors", "network_evaluations", "decided", "error_maps"}
        assert set(item) == {"image", "label", "pred", *more, "votes", "evaluations", "explanation"}
        assert torch.equal(item["image"].cpu(), images[i])
        assert int(item["label"]) == LABELS[i]
        torch.testing.assert_close(item["pred"], expected.probabilities[i])
        torch.testing.assert_close(item["vote_share"], expected.vote_share[i])
        torch.testing.assert_close(item["errors"], expected.errors.values[i])
        torch.testing.assert_close(item["error_maps"], expected.error_maps[i])
        assert (int(item["network_evaluations"]), bool(item["decided"])) == (18, True)
        assert set(item["uncertainty"]) == set(expected.uncertainty)
        for name, value in item["uncertainty"].items():
            assert float(value) == pytest.approx(float(expected.uncertainty[name][i]))


OLD = {"votes": "vote_share", "evaluations": "network_evaluations", "explanation": "error_maps"}


def test_former_keys_are_there_and_say_what_they_are_now(classifier):
    inferer, network, images = classifier
    items = collect(DiffusionClassifierEvaluator(torch.device("cpu"), loader(images), network, inferer=inferer))
    for old, new in OLD.items():
        with pytest.warns(DeprecationWarning, match=f"'{old}' is now '{new}'"):
            torch.testing.assert_close(torch.as_tensor(items[3][old]), torch.as_tensor(items[3][new]))
        assert old in items[3] and old in dict(items[3]), "whoever copies an output finds them too"
    with pytest.warns(DeprecationWarning, match="'margin' is now 'vote_margin'"):
        assert items[3]["uncertainty"]["margin"] == items[3]["uncertainty"]["vote_margin"]
    assert "margin" not in dict(items[3]["uncertainty"])


def test_an_evaluation_by_the_new_names_does_not_warn(classifier):
    inferer, network, images = classifier
    after = Compose([ToDeviced(keys=["pred", "error_maps"], device="cpu"), CopyItemsd("vote_share", names="shares")])
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        evaluator = DiffusionClassifierEvaluator(
            torch.device("cpu"), loader(images), network, inferer=inferer, postprocessing=after
        )
        for item in collect(evaluator):
            assert torch.equal(item["shares"], item["vote_share"])
            assert float(item["uncertainty"]["vote_margin"]) >= 0


@pytest.mark.parametrize("decollate", [True, False])
def test_post_transforms_find_the_former_keys(classifier, decollate):
    """A configuration of before: MONAI's own transforms copy and change outputs under their former names."""
    inferer, network, images = classifier
    old = Compose([CopyItemsd(["votes", "explanation"], names=["copied", "maps"]), ToDeviced("explanation", "cpu")])
    with pytest.warns(DeprecationWarning) as caught:
        evaluator = DiffusionClassifierEvaluator(
            torch.device("cpu"), loader(images), network, inferer=inferer, postprocessing=old, decollate=decollate
        )
    assert {str(warning.message).split()[0] for warning in caught} == {"'votes'", "'explanation'"}
    outputs: list = []
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: outputs.append(engine.state.output))
    evaluator.run()
    for output in outputs[0] if decollate else outputs[:1]:
        assert torch.equal(output["copied"], output["vote_share"])
        assert torch.equal(output["maps"], output["error_maps"])
        with pytest.warns(DeprecationWarning, match="'votes' is now 'vote_share'"):
            assert torch.equal(output["votes"], output["copied"])


def test_monais_handlers(classifier, tmp_path, device):
    inferer, network, images = classifier
    writer = Writer()
    evaluator = DiffusionClassifierEvaluator(
        torch.device(device),
        loader(images),
        network,
        inferer=inferer,
        postprocessing=Compose(
            [
                ToDeviced(keys="pred", device="cpu"),  # where labels are, once a batch is decollated
                CopyItemsd(keys="pred", names="predicted"),
                AsDiscreted(keys=["predicted", "label"], argmax=[True, False], to_onehot=2),
            ]
        ),
        key_val_metric={"val_auc": ROCAUC(output_transform=from_engine(["pred", "label"]))},
        additional_metrics={
            "val_accuracy": ConfusionMatrix(
                metric_name="accuracy", output_transform=from_engine(["predicted", "label"])
            )
        },
        val_handlers=[
            StatsHandler(name="test_evaluator", iteration_log=False),
            TensorBoardStatsHandler(summary_writer=writer, iteration_log=False),
            ClassificationSaver(
                output_dir=str(tmp_path),
                batch_transform=lambda batch: [item["image"].meta for item in batch],
                output_transform=from_engine("pred"),
            ),
            MetricsSaver(
                save_dir=str(tmp_path),
                metrics=["val_auc", "val_accuracy"],
                batch_transform=lambda batch: [item["image"].meta for item in batch],
            ),
        ],
    )
    evaluator.run()
    probabilities = inferer(images.to(device), network).cpu()
    auc = roc_auc_score(LABELS, probabilities[:, 1])
    accuracy = accuracy_score(LABELS, probabilities.argmax(1))
    assert evaluator.state.metrics == {"val_auc": pytest.approx(auc), "val_accuracy": pytest.approx(accuracy)}
    assert writer.scalars == {"val_auc": pytest.approx(auc), "val_accuracy": pytest.approx(accuracy)}
    assert auc > 0.5
    with (tmp_path / "predictions.csv").open() as file:
        rows = {row[0]: [float(x) for x in row[1:]] for row in csv.reader(file)}
    assert len(rows) == 12
    assert rows["image3.png"] == pytest.approx(probabilities[3].tolist(), abs=1e-5)
    assert "val_auc" in (tmp_path / "metrics.csv").read_text()


def test_inside_monais_own_evaluator(classifier, device):
    inferer, network, images = classifier
    items = collect(SupervisedEvaluator(torch.device(device), loader(images), network, inferer=inferer))
    assert set(items[0]) == {"image", "label", "pred"}
    expected = inferer(images.to(device), network)
    torch.testing.assert_close(torch.stack([item["pred"] for item in items]), expected)


def test_network_is_put_into_eval_mode_and_back(classifier):
    inferer, network, images = classifier
    network.train()
    evaluator = DiffusionClassifierEvaluator(torch.device("cpu"), loader(images), network, inferer=inferer)
    assert len(collect(evaluator)) == 12
    assert network.training


def test_without_labels(classifier):
    inferer, network, images = classifier
    items = collect(
        DiffusionClassifierEvaluator(torch.device("cpu"), loader(images, labels=False), network, inferer=inferer)
    )
    assert len(items) == 12
    assert items[0]["label"] is None


@pytest.mark.parametrize("explain", [True, False])
@pytest.mark.parametrize("stopping", [None, CurtailedVote()])
def test_error_maps_only_where_all_draws_are_made(classifier, explain, stopping):
    inferer, network, images = classifier
    short = DiffusionClassifierInferer(inferer.scheduler, num_draws=9, stopping=stopping)
    evaluator = DiffusionClassifierEvaluator(
        torch.device("cpu"), loader(images), network, inferer=short, explain=explain
    )
    items = collect(evaluator)
    assert ("error_maps" in items[0]) == (explain and stopping is None)
    assert (torch.stack([item["pred"] for item in items]).argmax(1) == inferer(images, network).argmax(1)).all()


def test_refuses_another_inferer(classifier):
    _, network, images = classifier
    message = "inferer: expected one of monai_diffclf.inferers, .* got SimpleInferer; with"
    with pytest.raises(TypeError, match=message):
        DiffusionClassifierEvaluator(torch.device("cpu"), loader(images), network, inferer=SimpleInferer())


def test_dataset_errors_keep_coarse_maps_where_asked_for(device):
    scheduler = DDPMScheduler(20, schedule="cosine", prediction_type="sample")
    inferer = DiffusionClassifierInferer(scheduler, num_draws=3)

    class Denoiser(torch.nn.Linear):
        def forward(self, x, timesteps, class_labels):
            return super().forward(x) + class_labels.view(-1, 1, 1, 1)

    torch.manual_seed(0)
    network = Denoiser(8, 8).to(device).eval()
    items = [{"image": torch.rand(1, 8, 8), "label": 0, "key": str(i), "patient": ""} for i in range(3)]
    stored = compute_dataset_errors(items, network, inferer=inferer, grid=2, batch_size=2)
    images = torch.stack([item["image"] for item in items]).to(device)
    assert stored.maps.shape == (3, 2, 2, 2)
    torch.testing.assert_close(stored.maps, pool_maps(inferer.error_maps(images, network), 2).cpu())
    torch.testing.assert_close(stored.maps.flatten(2).mean(2), stored.errors.values.double().mean(2))
    assert compute_dataset_errors(items, network, inferer=inferer).maps is None
