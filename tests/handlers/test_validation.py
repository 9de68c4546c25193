"""When a training validates, what it logs, and what its weights say of themselves."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from ignite.engine import Engine

from monai_diffclf.handlers import BestModelSaver, EpochLog, MovingAverage, ResumableCheckpoint, Validation
from monai_diffclf.networks import network_hash


class Validator:
    """Runs like an evaluator; its metric after each epoch is given."""

    def __init__(self, values, saver):
        self.values, self.saver, self.epochs = values, saver, []

    def run(self, epoch):
        self.epochs.append(epoch)
        engine = Engine(lambda engine, batch: None)
        engine.state.epoch, engine.state.metrics = epoch, {"auc": self.values[epoch - 1]}
        self.saver(engine)


def train(tmp_path, values, interval=1, **options):
    network = torch.nn.Linear(1, 1)
    saver = BestModelSaver(network, tmp_path / "model.pt", "auc", **options)
    validator = Validator(values, saver)
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(float(batch))})
    Validation(validator, interval, saver).attach(engine)
    EpochLog(saver).attach(engine)
    engine.run([1.0, 2.0], max_epochs=len(values))
    return validator, network


@pytest.mark.parametrize(
    ("epochs", "interval", "expected"), [(1, 8, [1]), (10, 8, [8, 10]), (16, 8, [8, 16]), (3, 1, [1, 2, 3])]
)
def test_the_last_epoch_is_validated(tmp_path, epochs, interval, expected):
    validator, network = train(tmp_path, [0.1 * epoch for epoch in range(epochs)], interval)
    assert validator.epochs == expected
    assert json.loads((tmp_path / "model.json").read_text())["epoch"] == expected[-1]
    assert torch.equal(torch.load(tmp_path / "model.pt", weights_only=True)["bias"], network.bias)


def test_the_log_has_loss_metric_and_time_left(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    train(tmp_path, [0.5, 0.9, 0.8])
    lines = [record.message for record in caplog.records if record.message.startswith("Epoch ")]
    assert lines[0].startswith("Epoch 1/3, loss 1.5000, best auc 0.5000 (epoch 1), ") and lines[0].endswith(" left")
    assert lines[2].startswith("Epoch 3/3, loss 1.5000, best auc 0.9000 (epoch 2), done in ")


@pytest.mark.parametrize(
    ("values", "rising"),
    [([0.5, 0.6, 0.7], True), ([0.5, 0.8, 0.7], False), ([0.5, 0.7, 0.7], False), ([0.5], False)],
)
def test_says_whether_validation_was_still_rising(tmp_path, caplog, values, rising):
    caplog.set_level(logging.INFO)
    train(tmp_path, values)
    best = max(range(1, len(values) + 1), key=lambda epoch: (values[epoch - 1], epoch))
    assert f"Best auc {max(values):.4f} after epoch {best} of {len(values)}" in caplog.text
    assert ("it was still rising when the training stopped" in caplog.text) == rising
    assert ("It was the only validation: more epochs" in caplog.text) == (len(values) == 1)


@pytest.mark.parametrize("interval", [0, -1, 1.5, True, "8"])
def test_interval_is_checked(interval):
    with pytest.raises(ValueError, match="interval: expected a positive integer, got"):
        Validation(None, interval)


def test_the_weights_say_what_they_are(tmp_path):
    (tmp_path / "audit.json").write_text(json.dumps({"shared_patients": 0}))
    network = torch.nn.Linear(1, 1)
    average = MovingAverage(network)
    average.update()
    saver = BestModelSaver(
        average.ema_model,
        tmp_path / "model.pt",
        "auc",
        description={"classes": ["a", "b"]},
        training={"seed": 3, "data": {"name": "x"}},
        average=average,
    )
    Validator([0.7], saver).run(1)
    note = json.loads((tmp_path / "model.json").read_text())
    assert note["weights"] == network_hash(average.ema_model)
    assert note["package"].startswith("monai-diffclf ") and note["average"] == {"steps": 1, "limit": 0.995, "start": 0}
    assert note["model"] == {"classes": ["a", "b"]} and note["training"]["seed"] == 3
    assert note["audit"] == {"shared_patients": 0}
    (tmp_path / "audit.json").write_text(json.dumps({"near duplicates": ["x" * 30_000]}))
    assert set(saver.note()["audit"]) == {"file", "sha256"}


def test_the_old_place_still_answers():
    from monai_diffclf.handlers import training

    with pytest.warns(DeprecationWarning, match="is now monai_diffclf.handlers.BestModelSaver"):
        assert training.BestModelSaver is BestModelSaver


# Resuming


def resume(path, settings, network=None):
    engine = Engine(lambda engine, batch: None)
    ResumableCheckpoint(path, {"network": network or torch.nn.Linear(1, 1)}, settings=settings).attach(engine)
    return engine


SETTINGS = {
    "model": {"classes": ["a", "b"], "image_size": [8, 8]},
    "training": {"learning_rate": 0.1, "data": {"hash": 1}},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"classes": ["b", "a"]}}, r"model classes: made with \['a', 'b'\], asked for \['b', 'a'\]"),
        ({"model": {"image_size": [16, 16]}}, "model image_size"),
        ({"training": {"learning_rate": 0.2}}, "training learning_rate: made with 0.1, asked for 0.2"),
        ({"training": {"data": {"hash": 2}}}, "training data hash"),
    ],
)
def test_other_settings_are_not_resumed(tmp_path, change, message):
    path = tmp_path / "checkpoint.pt"
    resume(path, SETTINGS).run([0], max_epochs=1)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        resume(path, {name: {**part, **change.get(name, {})} for name, part in SETTINGS.items()}).run([0], max_epochs=2)
    assert "was started with other settings" in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == before
    engine = resume(path, SETTINGS)
    engine.run([0], max_epochs=2)
    assert engine.state.epoch == 2


def test_a_state_without_settings_is_not_resumed_by_one_with(tmp_path):
    path = tmp_path / "checkpoint.pt"
    resume(path, None).run([0], max_epochs=1)
    with pytest.raises(ValueError, match="settings were not recorded, by an earlier version; move the folder away"):
        resume(path, SETTINGS).run([0], max_epochs=2)


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x03\x04cut"])
def test_a_damaged_state_is_named(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"expected a file of a training's state, but {path} is "):
        resume(path, SETTINGS).run([0], max_epochs=2)
