"""Methods of the comparison: each learns what can be learned, and says the same of an image whatever comes with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks.evidence import data
from benchmarks.evidence import features as feature_store
from benchmarks.evidence.data import Images
from benchmarks.evidence.measures import MEASURES, temperature
from benchmarks.evidence.method import Prediction
from benchmarks.evidence.methods import METHODS, bundles, finetuned, make_method
from benchmarks.evidence.methods.combined import CascadeMethod, CombinedMethod
from benchmarks.evidence.methods.linear import ProbeMethod, class_distances
from benchmarks.evidence.methods.networks import NetworkMethod, at_plateau, balanced_rows, build
from benchmarks.evidence.methods.stored import FORMER, StoredMethod
from benchmarks.evidence.protocol import protocol
from benchmarks.evidence.results import write_result
from benchmarks.evidence.run_all import GROUPS, runs
from monai_diffclf.bundle import open_bundle
from monai_diffclf.classification import DenoisingErrors, classify_errors
from monai_diffclf.handlers.evaluation_saver import read_predictions
from monai_diffclf.representations import Encoder


def blobs(count: int, size: int, channels: int, classes: int, seed: int = 0, *, everywhere: bool = False) -> Images:
    """Images whose class is the place of a bright quarter, or the brightness of all of it, in noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = rng.integers(60, 140, (count, size, size, channels))
    half = 0 if everywhere else size // 2
    pixels += 30 * everywhere * labels[:, None, None, None]
    for image, label in zip(pixels, labels, strict=True):
        image[half * (label // 2) :, half * (label % 2) :][:half, :half] += 90
    keys = np.array([f"{seed}_{number}" for number in range(count)])
    return Images(pixels.clip(0, 255).astype(np.uint8), labels, keys, keys)


@pytest.fixture
def tiny_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A small random encoder in place of the pretrained one, with a cache of its own."""
    torch.manual_seed(0)
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 24, 8, 8), torch.nn.ReLU(), torch.nn.Conv2d(24, 24, 4, 4))
    encoder = Encoder(layer, ["2"], name="tiny", image_size=64)
    monkeypatch.setattr(feature_store, "_encoder", lambda name: encoder)
    monkeypatch.setattr(feature_store, "CACHE", tmp_path)
    monkeypatch.setattr("benchmarks.evidence.methods.linear.pooled_features", _pooled(tmp_path))
    return tmp_path


def _pooled(cache: Path):
    return lambda images, encoder: feature_store.pooled_features(images, encoder, cache, progress=False)


@pytest.mark.parametrize("kind", ["logistic", "lda"])
def test_probe_learns_and_its_features_are_kept_by_image(tiny_encoder: Path, kind: str, tmp_path: Path) -> None:
    train, validation, test = (blobs(count, 64, 3, 3, seed, everywhere=True) for seed, count in enumerate((90, 30, 30)))
    fitted = ProbeMethod(kind, "tiny").fit(train, validation, 0, tmp_path)
    said = fitted.predict(test)
    assert (said.probabilities.argmax(1) == test.labels).mean() > 0.6
    np.testing.assert_allclose(said.probabilities.sum(1), 1)
    files = len(list(tiny_encoder.glob("tiny_*.npz")))
    some = fitted.predict(test.take(np.array([3, 1])))
    np.testing.assert_allclose(some.probabilities, said.probabilities[[3, 1]], rtol=1e-6)
    assert len(list(tiny_encoder.glob("tiny_*.npz"))) == files  # nothing was encoded again
    feature_store._stores.cache_clear()
    np.testing.assert_allclose(fitted.predict(test).probabilities, said.probabilities)  # from disk


def test_distance_is_that_of_mahalanobis() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % 2
    x = rng.standard_normal((4000, 3)) * [1, 2, 3] + 10 * labels[:, None]
    distances = class_distances(x, labels)
    assert distances(np.zeros((1, 3)))[0] == pytest.approx(0, abs=0.05)
    assert distances(np.array([[0, 4.0, 0]]))[0] == pytest.approx(4, rel=0.1)
    assert distances(np.array([[10, 10, 16.0]]))[0] == pytest.approx(4, rel=0.1)


def test_network_from_scratch_learns_and_goes_on_where_it_was(tmp_path: Path) -> None:
    train, validation = blobs(128, 28, 1, 2), blobs(40, 28, 1, 2, seed=1)
    options = {"augmentation": "none", "warmup_steps": 2, "least_epochs": 2, "moving_average": 0.5}
    whole = NetworkMethod("resnet18", "pneumoniamnist_28", most_epochs=4, **options)
    first = whole.fit(train, validation, 0, tmp_path / "a")
    assert max(row["auc"] for row in first.facts["history"]) > 0.9
    said = first.predict(validation)
    assert said.unlikeness is not None
    # Stopped after an epoch, then gone on with: the same weights to the bit.
    NetworkMethod("resnet18", "pneumoniamnist_28", most_epochs=1, **options).fit(train, validation, 0, tmp_path / "b")
    state = torch.load(tmp_path / "b" / "checkpoint.pt", weights_only=True)
    torch.save({**state, "settings": whole.settings}, tmp_path / "b" / "checkpoint.pt")
    again = whole.fit(train, validation, 0, tmp_path / "b")
    np.testing.assert_array_equal(again.predict(validation).probabilities, said.probabilities)
    with pytest.raises(ValueError, match="expected .* to be of these settings"):
        whole.fit(validation, train, 0, tmp_path / "b")


@pytest.mark.parametrize(
    ("architecture", "name"),
    [("resnet18", "pneumoniamnist_28"), ("resnet18", "isic2017_64"), ("densenet121", "busi_64")],
)
def test_networks_have_the_classes_and_channels_of_the_data(architecture: str, name: str) -> None:
    settings = protocol()["data"][name]
    images = torch.zeros(2, settings["channels"], settings["size"], settings["size"])
    assert build(architecture, name).eval()(images).shape == (2, len(settings["classes"]))


def test_a_network_that_has_no_output_for_such_small_images_is_refused() -> None:
    with pytest.raises(ValueError, match="expected images of 64 px or more for densenet121, got 28"):
        build("densenet121", "pneumoniamnist_28")


def test_training_ends_after_a_third_without_a_rise() -> None:
    assert not at_plateau([0.9] * 3, least=4)
    assert not at_plateau([*np.linspace(0.5, 0.9, 10)], least=4)
    assert at_plateau([0.5, 0.6, 0.7, 0.9, 0.8, 0.8, 0.8], least=4)
    rows = balanced_rows(np.array([0] * 900 + [1] * 100), np.random.default_rng(0), 10)
    assert (rows >= 900).mean() == pytest.approx(0.5, abs=0.06)


def test_stored_probabilities_are_those_of_the_bundle(dataset) -> None:
    root = dataset("pneumoniamnist_28").parent
    _, validation = data.load("pneumoniamnist_28", root=root)
    fitted = make_method("diffusion_pixels", "pneumoniamnist_28").fit(validation, validation, 1, Path())
    found = fitted.predict(validation).probabilities
    assert found.shape == (429, 2)
    assert (found.argmax(1) == validation.labels).mean() > 0.9
    with pytest.raises(ValueError, match="images are missing there"):
        fitted.predict(blobs(3, 28, 1, 2))
    with pytest.raises(ValueError, match="it is missing; evaluate the bundle"):
        StoredMethod("pneumonia_xray_diffusion", "docs/{}_{}.csv", 1, "").fit(validation, validation, 7, Path())


def test_stored_resnet_is_that_of_the_skin_lesions_alone(dataset) -> None:
    root = dataset("isic2017_256").parent
    _, validation = data.load("isic2017_64", root=root)
    found = make_method("resnet18", "isic2017_64").fit(validation, validation, 0, Path()).predict(validation)
    assert MEASURES["macro_auc"](validation.labels, found.probabilities) == pytest.approx(0.8149, abs=1e-4)  # its log
    assert isinstance(make_method("resnet18", "busi_64"), NetworkMethod)


@pytest.mark.slow
def test_bundle_is_trained_on_images_of_a_condition_and_classifies(tmp_path: Path) -> None:
    train, validation = blobs(24, 64, 3, 3), blobs(24, 64, 3, 3, seed=1)
    changes = {"max_epochs": 1, "val_draws": 2, "val_interval": 1, "batch_size": 8, "progress": False}
    bundles.train_bundle("skin_lesion_diffusion", train, validation, 0, tmp_path, changes)
    bundle = open_bundle("skin_lesion_diffusion", run=tmp_path / "run", device="cpu", num_draws=9, weighting="uniform")
    fitted = bundles.FittedBundle(bundle, {"rule": "vote"}, validation, None)
    said = fitted.predict(validation.take(np.arange(4)))
    assert said.probabilities.shape == (4, 3)
    assert said.unlikeness is not None
    assert np.isfinite(said.unlikeness).all()
    assert fitted.facts["evaluations"] == 27
    told = fitted.knowing_training(train)
    assert {len(one.typicality.parts["values"].mean) for one in (fitted, told)} == {9}
    means = [train.pixels, validation.pixels, np.concatenate([train.pixels, validation.pixels])]
    grey = [(part / 127.5 - 1).mean() for part in means]
    assert told.typicality.parts["values"].mean[0] == pytest.approx(grey[2])
    assert fitted.typicality.parts["values"].mean[0] == pytest.approx(grey[1])
    assert told.predict(validation.take(np.arange(4))).probabilities == pytest.approx(said.probabilities)
    with pytest.raises(ValueError, match="risk: expected at least 0.04 with 24 validation patients"):
        fitted.few_draws(validation)


def test_images_are_padded_as_the_bundle_reads_them(dataset) -> None:
    root = dataset("pneumoniamnist_28").parent
    few = data.load("pneumoniamnist_28", root=root)[1].take(np.arange(3))
    fitted = object.__new__(bundles.FittedBundle)
    fitted.bundle, fitted.settings = open_bundle("pneumonia_xray_diffusion", device="cpu"), {"rule": "mean"}
    pixels = fitted._pixels(few)
    assert pixels.shape == (3, 1, 32, 32)
    assert torch.equal(pixels[:, :, 2:30, 2:30], torch.from_numpy(few.pixels[..., 0])[:, None] / 127.5 - 1)
    assert torch.equal(pixels[:, :, 0], pixels[:, :, 2]) and torch.equal(pixels[:, :, :, 31], pixels[:, :, :, 29])
    assert fitted._classify(pixels)[1].shape == (3, 2)


class KnownErrors(bundles.FittedBundle):
    """A fitted bundle whose errors are made: what an image is shows at one level alone, log-SNR 3."""

    def __init__(self, validation: Images) -> None:
        self.bundle = SimpleNamespace(inferer=SimpleNamespace(weighting="uniform"))  # type: ignore[assignment]
        self.facts = {}
        errors = self._classify(self._pixels(validation))[0]
        self.validation = (errors, torch.from_numpy(validation.labels), validation.groups.tolist())

    def _pixels(self, images: Images) -> torch.Tensor:
        return torch.from_numpy(images.labels)

    def _classify(self, pixels: torch.Tensor):
        log_snr = torch.linspace(7.9, -8, 40)
        values = 1 + 0.1 * torch.rand(len(pixels), 3, 40, generator=torch.Generator().manual_seed(len(pixels)))
        values[torch.arange(len(pixels)), pixels] -= torch.exp(-((log_snr - 3) ** 2) / 0.5)
        errors = DenoisingErrors(values, torch.arange(40), log_snr, num_elements=100)
        return errors, classify_errors(errors, "mean").probabilities, 120


def test_one_draw_and_the_stopping_rule_are_fitted_on_validation() -> None:
    fitted = KnownErrors(blobs(150, 4, 1, 3, seed=1))
    one, on_validation, draws = fitted.few_draws(blobs(60, 4, 1, 3))
    assert abs(fitted.facts["few_draws"]["log_snr"][0] - 3) < 0.6
    labels = np.arange(60) % 3
    assert (one.probabilities.argmax(1) == labels).all() and one.probabilities.shape == (60, 3)
    assert on_validation.probabilities.shape == (150, 3)
    assert (draws["all"] == labels).all()
    assert (draws["stopped"] == draws["all"]).mean() >= 0.95
    assert 3 <= draws["evaluations"].mean() < 120
    assert fitted.facts["stopping"]["risk"] == bundles.RISK


@pytest.mark.parametrize(("count", "epochs"), [(640, 8), (128, 40), (20, 160)])
def test_the_fine_tuned_network_makes_as_many_steps_with_fewer_images(tmp_path: Path, monkeypatch, count, epochs):
    everything = blobs(640, 16, 3, 3, everywhere=True)
    told: dict = {}

    def adapt(encoder, train, validation, classes, **settings):
        told.update(settings, validated=validation is not None)
        network = torch.nn.Linear(1, 1)
        network.history = []
        return network

    monkeypatch.setattr(finetuned, "load", lambda name: (everything, everything))
    monkeypatch.setattr(finetuned, "make_encoder", lambda *args, **kwargs: None)
    monkeypatch.setattr(finetuned, "adapt_encoder", adapt)
    method = finetuned.FinetunedMethod("busi_224", size=8)
    few = everything.take(np.arange(count)).with_pixels(everything.pixels[:count])
    fitted = method.fit(few, few, 3, tmp_path)
    assert told["epochs"] * max(1, count // told["batch_size"]) == 8 * 20
    assert (told["epochs"], told["seed"], told["validated"]) == (epochs, 3, epochs == 8)
    assert fitted.facts["epochs"] == epochs


@pytest.mark.slow
def test_classifier_on_the_fine_tuned_encoder_sees_images_at_its_size(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra encoders")
    train, validation = (blobs(count, 224, 3, 3, seed, everywhere=True) for seed, count in ((0, 96), (1, 30)))
    monkeypatch.setattr(bundles, "load", lambda name: (train, validation))
    monkeypatch.setattr(finetuned, "load", lambda name: (train.take(np.arange(3)), validation))
    monkeypatch.setattr(finetuned, "EPOCHS", {"isic2017_224": 1})
    method = make_method("diffusion_adapted", "isic2017_224")
    method.settings |= {"max_epochs": 1, "val_interval": 1, "val_draws": 2, "batch_size": 32, "views": 1}
    monkeypatch.setattr(bundles, "same_steps", lambda *counts: {})
    fitted = method.fit(train.with_pixels(train.pixels), validation.with_pixels(validation.pixels), 0, tmp_path)
    assert fitted.bundle.image_size == (160, 160)
    assert fitted.bundle.inferer.latent_space.adapted
    assert fitted.predict(validation.take(np.arange(4)).with_pixels(validation.pixels[:4])).probabilities.shape == (
        4,
        3,
    )


def test_runs_that_are_not_there_are_refused(dataset) -> None:
    method, (train, validation) = make_method("diffusion_contrastive", "isic2017_64"), (blobs(6, 64, 3, 3),) * 2
    with pytest.raises(ValueError, match="expected a training on all images in .*isic2017_64_seed99"):
        method.fit(train, validation, 99, Path())
    with pytest.raises(ValueError, match="expected a training on all images in longer/seed_0/run"):  # not the primary's
        method.fit(train, validation, 0, Path("longer/seed_0"))


def test_the_first_comparison_keeps_the_tables_of_the_weights_it_had() -> None:
    for split, images in (("validation", 150), ("test", 600)):
        table = FORMER["skin_lesion_diffusion"] / f"{split}_diffusion_vote_seed_0.csv"
        assert len(read_predictions(table)["keys"]) == images


def test_what_is_shipped_is_opened_as_it_is(dataset, monkeypatch) -> None:
    opened: dict = {}
    images = blobs(6, 64, 3, 3)
    monkeypatch.setattr(bundles, "load", lambda *names: (images, images))
    monkeypatch.setattr(bundles, "open_bundle", lambda name, **given: opened.update(given) or name)
    monkeypatch.setattr(bundles, "FittedBundle", lambda *given: SimpleNamespace(facts={}))
    method = make_method("diffusion_contrastive", "isic2017_64")
    method.fit(images, images, 0, Path("shipped/seed_0"))
    assert opened["run"] is None and "denoiser#precondition" not in opened
    with pytest.raises(ValueError, match="expected a training on all images in shipped/seed_1/run"):
        method.fit(images, images, 1, Path("shipped/seed_1"))


def stored_results(folder: Path) -> tuple[Images, Images, dict]:
    """Validation and test images, and what results in a folder say of both, calibrated."""
    validation, test = blobs(60, 8, 1, 2), blobs(10, 8, 1, 2, seed=1)
    rng, said = np.random.default_rng(0), {}
    for method, seed in (("resnet18", 0), ("resnet18", 1), ("diffusion_pixels", 0)):
        first = [rng.uniform(0.05, 0.95, len(images)) for images in (validation, test)]
        p = [np.stack([one, 1 - one], 1).astype(np.float32) for one in first]
        record = {"data": "d", "split": "test", "method": method, "condition": "primary", "seed": seed}
        record["facts"] = {"evaluations": 1 if method == "resnet18" else 50}
        write_result(record, Prediction(p[1]), Prediction(p[0]), (test, validation), folder=folder)
        power = [part.astype(float) ** (1 / temperature(validation.labels, p[0].astype(float))) for part in p]
        said[method, seed] = [part / part.sum(1, keepdims=True) for part in power]
    return validation, test, said


def test_mean_of_methods_is_that_of_their_calibrated_probabilities(tmp_path: Path) -> None:
    validation, test, said = stored_results(tmp_path)
    both = CombinedMethod("d", "diffusion_pixels", "resnet18", results=tmp_path).fit(validation, validation, 1, Path())
    expected = (said["diffusion_pixels", 0][1] + said["resnet18", 1][1]) / 2
    np.testing.assert_allclose(both.predict(test).probabilities, expected, atol=1e-6)
    alone = CombinedMethod("d", "resnet18", results=tmp_path).fit(validation, validation, 0, Path())
    expected = (said["resnet18", 0][1] + said["resnet18", 1][1]) / 2
    np.testing.assert_allclose(alone.predict(test).probabilities, expected, atol=1e-6)
    assert (both.facts["evaluations"], alone.facts["evaluations"]) == (51, 2)
    with pytest.raises(ValueError, match="expected a result of resnet18 with seed 2"):
        CombinedMethod("d", "diffusion_pixels", "resnet18", results=tmp_path).fit(validation, validation, 2, Path())
    with pytest.raises(ValueError, match="expected a result of cnn_finetuned"):
        CombinedMethod("d", "cnn_finetuned", results=tmp_path).fit(validation, validation, 0, Path())


def test_a_cascade_asks_the_second_for_the_share_of_which_the_first_is_least_sure(tmp_path: Path) -> None:
    validation, test, said = stored_results(tmp_path)
    fitted = CascadeMethod("d", "resnet18", "diffusion_pixels", 0.25, tmp_path).fit(validation, validation, 1, Path())
    first, second = said["resnet18", 1], said["diffusion_pixels", 0]
    limit = np.sort(first[0].max(1))[round(0.25 * len(validation)) - 1]
    expected = np.where(first[1].max(1)[:, None] <= limit, (first[1] + second[1]) / 2, first[1])
    assert (expected != first[1]).any() and (expected == first[1]).any()
    np.testing.assert_allclose(fitted.predict(test).probabilities, expected, atol=1e-6)
    assert fitted.facts["evaluations"] == pytest.approx(1 + 0.25 * 50, abs=0.5)
    with pytest.raises(ValueError, match="expected a result of resnet18 with seed 2"):
        CascadeMethod("d", "resnet18", "resnet18", results=tmp_path).fit(validation, validation, 2, Path())


def test_fewer_images_make_the_same_steps() -> None:
    training = open_bundle("skin_lesion_diffusion", "train.json")
    batch, epochs = training.get("batch_size"), training.get("max_epochs")
    found = bundles.same_steps("skin_lesion_diffusion", 2 * batch, 20 * batch)
    assert found == {"max_epochs": 10 * epochs, "val_interval": 10 * training.get("val_interval")}
    assert bundles.same_steps("skin_lesion_diffusion", 3, 20 * batch)["max_epochs"] == 20 * epochs


def test_queue_holds_known_methods_and_data() -> None:
    for group in GROUPS:
        assert set(group.methods) <= set(METHODS)
        assert set(group.data) <= set(protocol()["data"])
    # What no command can make anew has to be there: a training that was kept.
    assert set(METHODS) - {method for group in GROUPS for method in group.methods} == {"diffusion_contrastive"}
    everything = list(runs())
    assert len({(m, d, s, tuple(c), step) for m, d, s, c, step in everything}) == len(everything)
    assert next(runs(first="scratch"))[0] == "resnet18"
    assert {step for *_, step in everything} == {"final", *(f"fold{k}" for k in range(5))}


@pytest.mark.parametrize("method", ["nothing", "diffusion_representation"])
def test_methods_that_are_not_there_are_refused(method: str) -> None:
    with pytest.raises(ValueError, match="expected one of"):
        make_method(method, "busi_64")


def test_weights_that_were_tuned_apart_are_those_of_the_encoder(tmp_path: Path) -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra encoders")
    model = package.EfficientNet.from_name("efficientnet-lite0")
    state = {name: value for name, value in model.state_dict().items() if not name.startswith("_fc.")}
    head = torch.nn.Linear(1280, 3)
    file = tmp_path / "trained.pt"
    torch.save({"encoder": state, "head": head.state_dict(), "history": [{"val_auc": 0.5}]}, file)
    network, facts = finetuned.read_trained(file, {"encoder": "efficientnet_lite0", "size": 64})
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        expected = head(model.eval().extract_features((images * 127.5 + 0.5) / 128).mean((2, 3)))
        torch.testing.assert_close(network.eval()(images), expected, rtol=1e-4, atol=1e-4)
    assert facts["history"] == [{"val_auc": 0.5}]


def test_images_are_reduced_once_where_they_are_those_of_the_files(dataset) -> None:
    root = dataset("busi_256").parent
    train, _ = data.load("busi_224", root=root)
    some = train.take(np.arange(3))
    np.testing.assert_array_equal(data.at_size(some, "busi_224", 224, root), some.pixels)
    assert data.at_size(some, "busi_224", 160, root).shape == (3, 160, 160, 1)
    with pytest.raises(ValueError, match="these were changed"):
        data.at_size(some.with_pixels(some.pixels), "busi_224", 160, root)
    assert data.is_same(some, train.take(np.arange(3)))
    assert not data.is_same(some, some.with_labels(some.labels + 1))
    assert not data.is_same(some, train.take(np.arange(1, 4)))
