"""Handlers of a training: seeds, clipping, checkpoints, and a bundle's training that survives being killed."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, RandFlipd, RandGaussianNoised
from PIL import Image

from monai_diffclf.engines import DenoisingPrepareBatch
from monai_diffclf.handlers import BestModelSaver, EpochSeed, GradientClipping, ResumableCheckpoint

ROOT = Path(__file__).resolve().parents[2]


# EpochSeed


def draws_of(engine_epoch: int, seed: int = 0) -> list[float]:
    """What everything that can be seeded draws in an epoch, after having drawn before."""
    from monai.networks.schedulers import DDPMScheduler

    transform = Compose([RandFlipd("image", prob=0.5, spatial_axis=1), RandGaussianNoised("image", prob=1.0)])
    generator = torch.Generator()
    prepare = DenoisingPrepareBatch(DDPMScheduler(10))
    handler = EpochSeed(seed, [transform, generator, prepare])
    transform({"image": torch.zeros(1, 2, 2)})
    torch.rand(3, generator=generator)
    handler(SimpleNamespace(state=SimpleNamespace(epoch=engine_epoch)))
    return [
        float(transform({"image": torch.zeros(1, 2, 2)})["image"].sum()),
        float(torch.rand(1, generator=generator)),
        float(prepare({"image": torch.zeros(2, 1, 2, 2), "label": torch.tensor([0, 1])})[0].sum()),
        float(torch.rand(1)),
        random.random(),  # noqa: S311 (the state that the handler seeds)
        float(np.random.rand()),  # noqa: NPY002 (the state that the handler seeds)
    ]


def test_an_epoch_draws_the_same_whatever_came_before():
    assert draws_of(3) == draws_of(3)
    assert all(a != b for a, b in zip(draws_of(3), draws_of(4), strict=True))
    assert all(a != b for a, b in zip(draws_of(3), draws_of(3, seed=1), strict=True))


def test_targets_get_seeds_of_their_own():
    first, second = torch.Generator(), torch.Generator()
    EpochSeed(0, [first, second])(SimpleNamespace(state=SimpleNamespace(epoch=1)))
    assert first.initial_seed() != second.initial_seed()


def test_seeds_every_epoch_of_an_engine():
    generator, seeds = torch.Generator(), []
    engine = Engine(lambda engine, batch: seeds.append(generator.initial_seed()))
    EpochSeed(0, [generator]).attach(engine)
    engine.run([0, 0], max_epochs=3)
    assert seeds[0::2] == seeds[1::2]
    assert len(set(seeds)) == 3


def test_what_cannot_be_seeded_is_refused():
    with pytest.raises(TypeError, match="targets: expected set_random_state or a torch.Generator, got Linear"):
        EpochSeed(0, [torch.Generator(), torch.nn.Linear(1, 1)])


# GradientClipping


@pytest.mark.parametrize(("max_norm", "expected"), [(1.0, 1.0), (1e6, None)])
def test_gradients_are_clipped_before_the_step(max_norm, expected):
    network, norms = torch.nn.Linear(4, 1), []

    class Recorder(torch.optim.SGD):
        def step(self, *args, **kwargs):
            norms.append(torch.stack([p.grad.norm() for p in network.parameters()]).norm().item())
            return super().step(*args, **kwargs)

    data = [{"image": torch.full((4,), 100.0), "label": torch.zeros(1)} for _ in range(4)]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(data), batch_size=2),
        network=network,
        optimizer=Recorder(network.parameters(), 1e-6),
        loss_function=torch.nn.MSELoss(),
        train_handlers=[GradientClipping(max_norm)],
    )
    trainer.run()
    assert len(norms) == 2
    if expected:
        assert norms == pytest.approx([expected] * 2, rel=1e-4)
    else:
        assert min(norms) > 2, "a generous limit leaves them as they are"


def test_clipping_unscales_the_gradients_of_mixed_precision():
    network, calls = torch.nn.Linear(1, 1), []
    network.weight.grad, network.bias.grad = torch.full((1, 1), 30.0), torch.full((1,), 40.0)
    scaler = SimpleNamespace(unscale_=lambda optimizer: calls.append(optimizer))
    GradientClipping(5.0)(SimpleNamespace(amp=True, scaler=scaler, optimizer="optimizer", network=network))
    assert calls == ["optimizer"]
    assert network.weight.grad.item() == pytest.approx(3, rel=1e-4)
    assert network.bias.grad.item() == pytest.approx(4, rel=1e-4)


@pytest.mark.parametrize("norm", [0, -1.0, math.nan])
def test_norm_is_checked(norm):
    with pytest.raises(ValueError, match=f"max_norm: expected a positive number, got {norm}"):
        GradientClipping(norm)


# ResumableCheckpoint


def trainer_of(network: torch.nn.Module, path: Path, *, interval: int = 1, **objects) -> tuple[Engine, list[int]]:
    """An engine that adds 1 to the network's bias in each of its two iterations an epoch, and the epochs it makes."""
    epochs: list[int] = []

    def step(engine, batch):
        network.bias.data += 1

    engine = Engine(step)
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: epochs.append(engine.state.epoch))
    ResumableCheckpoint(path, {"network": network, **objects}, interval=interval).attach(engine)
    return engine, epochs


def zero() -> torch.nn.Linear:
    network = torch.nn.Linear(1, 1)
    torch.nn.init.zeros_(network.bias)
    return network


@pytest.mark.parametrize(("interval", "resumed"), [(1, [4, 5]), (2, [3, 4, 5])])
def test_goes_on_after_the_last_saved_epoch(tmp_path, interval, resumed):
    path = tmp_path / "checkpoint.pt"
    first = zero()
    engine, _ = trainer_of(first, path, interval=interval)

    @engine.on(Events.EPOCH_STARTED(once=4))
    def fail():
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        engine.run([0, 0], max_epochs=5)
    assert first.bias.item() == 6
    second = zero()
    engine, epochs = trainer_of(second, path, interval=interval)
    engine.run([0, 0], max_epochs=5)
    assert epochs == resumed
    assert second.bias.item() == 10
    assert torch.load(path, weights_only=True)["network"]["bias"].item() == 10, "the last epoch is always saved"


def test_more_epochs_than_before(tmp_path):
    path = tmp_path / "checkpoint.pt"
    trainer_of(zero(), path)[0].run([0, 0], max_epochs=2)
    network = zero()
    engine, epochs = trainer_of(network, path)
    engine.run([0, 0], max_epochs=3)
    assert epochs == [3]
    assert network.bias.item() == 6


def test_a_finished_training_is_not_run_again(tmp_path):
    path = tmp_path / "checkpoint.pt"
    trainer_of(zero(), path)[0].run([0, 0], max_epochs=2)
    network = zero()
    engine, epochs = trainer_of(network, path)
    engine.run([0, 0], max_epochs=2)
    assert epochs == []
    assert network.bias.item() == 4


def test_a_checkpoint_of_other_objects_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    trainer_of(zero(), path)[0].run([0], max_epochs=1)
    engine, _ = trainer_of(zero(), path, ema=zero())
    with pytest.raises(ValueError, match=r"path: expected \['ema', 'network', 'trainer'\] in .*checkpoint.pt, got \["):
        engine.run([0], max_epochs=2)


class Scaler:
    """Stands in for a gradient scaler."""

    scale = 1.0

    def state_dict(self):
        return {"scale": self.scale}

    def load_state_dict(self, state):
        self.scale = state["scale"]


def test_the_gradient_scaler_is_kept(tmp_path):
    path = tmp_path / "checkpoint.pt"

    def run(scaler, max_epochs):
        engine = Engine(lambda engine, batch: None)
        engine.scaler = scaler
        ResumableCheckpoint(path, {"network": zero()}).attach(engine)
        engine.run([0], max_epochs=max_epochs)
        return engine

    old, new = Scaler(), Scaler()
    old.scale = 8.0
    run(old, 1)
    run(new, 2)
    assert new.scale == 8.0
    # To the CPU, which has no scaler, and back.
    assert run(None, 3).state.epoch == 3
    assert run(Scaler(), 4).state.epoch == 4


def test_a_renamed_folder_of_images_is_gone_on_with(tmp_path):
    """Their hash and number are what counts, not the name of the folder that they lie in."""

    def run(epochs, **data):
        read = {"name": "own images in MIX", "train": {"images": 4, "hash": "aa"}, **data}
        settings = {"model": {"classes": ["a", "b"]}, "training": {"seed": 0, "data": read}}
        engine = Engine(lambda engine, batch: None)
        ResumableCheckpoint(tmp_path / "checkpoint.pt", {"network": zero()}, settings=settings).attach(engine)
        return engine.run([0], max_epochs=epochs).epoch

    assert run(1) == 1 and run(2, name="own images in films") == 2
    with pytest.raises(ValueError, match="training data train hash: made with 'aa', asked for 'bb'"):
        run(3, train={"images": 4, "hash": "bb"})


def test_a_training_that_was_stopped_before_its_first_epoch_was_kept_goes_on(tmp_path):
    """Weights may be saved by a validation before the checkpoint is: then the folder was one that cannot go on."""
    path = tmp_path / "checkpoint.pt"
    network = zero()
    engine, _ = trainer_of(network, path, interval=3)

    @engine.on(Events.EPOCH_COMPLETED(once=1))
    def fail():
        torch.save(network.state_dict(), tmp_path / "model.pt")
        raise RuntimeError("no space left")

    with pytest.raises(RuntimeError, match="no space left"):
        engine.run([0, 0], max_epochs=2)
    network = zero()
    network.bias.data.fill_(9)
    ResumableCheckpoint(path, {"network": network}).check()
    engine, epochs = trainer_of(network, path)
    engine.run([0, 0], max_epochs=2)
    assert epochs == [1, 2]
    assert network.bias.item() == 4, "it begins with the weights that it began with"


def test_weights_to_begin_with_are_a_setting_also_where_there_were_none(tmp_path):
    def run(epochs, **training):
        settings = {"training": {"seed": 0, "rate": math.nan, **training}}
        engine = Engine(lambda engine, batch: None)
        ResumableCheckpoint(tmp_path / "checkpoint.pt", {"network": zero()}, settings=settings).attach(engine)
        return engine.run([0], max_epochs=epochs).epoch

    assert run(1, initial_weights=None) == 1
    assert run(2, initial_weights=None) == 2
    with pytest.raises(
        ValueError, match="training initial_weights: made with None, asked for 'abc'; give|asked for 'abc'"
    ):
        run(3, initial_weights="abc")
    assert run(3) == 3, "what is not asked for is no matter"


def test_settings_are_json_values(tmp_path):
    odd = {"rate": np.float32(0.5), "size": (np.int64(2), 3), "dtype": torch.bfloat16, "path": Path("a")}
    made = ResumableCheckpoint(tmp_path / "a.pt", {}, settings=odd).settings
    assert made == {"rate": 0.5, "size": [2, 3], "dtype": "bfloat16", "path": "a"}
    with pytest.raises(TypeError, match="settings: expected numbers, text, lists and dictionaries, got object"):
        ResumableCheckpoint(tmp_path / "a.pt", {}, settings={"a": object()})


def test_an_optimizer_with_numbers_of_numpy_goes_on_to_the_same_bits(tmp_path):
    def run(epochs, path):
        torch.manual_seed(0)
        network = torch.nn.Linear(3, 1)
        optimizer = torch.optim.AdamW(network.parameters(), lr=np.float32(1e-2), weight_decay=np.float32(0.1))

        def step(engine, batch):
            optimizer.zero_grad()
            network(torch.arange(3.0)).square().sum().backward()
            optimizer.step()

        engine = Engine(step)
        ResumableCheckpoint(path, {"network": network, "optimizer": optimizer}).attach(engine)
        engine.run([0, 0, 0], max_epochs=epochs)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    whole = run(4, tmp_path / "whole.pt")
    run(2, tmp_path / "stopped.pt")
    assert torch.equal(run(4, tmp_path / "stopped.pt"), whole)


def test_settings_are_checked(tmp_path):
    with pytest.raises(ValueError, match="save_dict: expected no object called 'trainer'"):
        ResumableCheckpoint(tmp_path / "a.pt", {"trainer": zero()})
    with pytest.raises(ValueError, match="interval: expected a positive integer, got 0"):
        ResumableCheckpoint(tmp_path / "a.pt", {}, interval=0)


# BestModelSaver


def validate(saver: BestModelSaver, network: torch.nn.Linear, values: list[float]) -> None:
    """Validate once for each value, the network's bias being the epoch."""
    for epoch, value in enumerate(values, 1):
        network.bias.data.fill_(epoch)
        evaluator = Engine(lambda engine, batch: None)

        @evaluator.on(Events.EPOCH_COMPLETED)
        def measure(engine, value=value, epoch=epoch):
            engine.state.metrics["auc"] = value
            engine.state.epoch = epoch

        saver.attach(evaluator)
        evaluator.run([0], max_epochs=epoch)


@pytest.mark.parametrize(
    ("values", "best"),
    [([0.7, 0.9, 0.8], 2), ([0.7, 0.7], 2), ([0.7, 0.7, 0.6], 2), ([0.5, 0.6, math.nan], 2), ([math.nan, 0.5, 0.4], 2)],
)
def test_keeps_the_best(tmp_path, values, best):
    network = zero()
    saver = BestModelSaver(network, tmp_path / "model.pt", "auc")
    validate(saver, network, values)
    assert torch.load(tmp_path / "model.pt", weights_only=True)["bias"].item() == best
    note = json.loads((tmp_path / "model.json").read_text())
    assert {name: note[name] for name in ("metric", "value", "epoch")} == {
        "metric": "auc",
        "value": values[best - 1],
        "epoch": best,
    }
    assert sorted(os.listdir(tmp_path)) == ["model.json", "model.pt"]


def test_a_metric_that_is_nan_is_logged(tmp_path, caplog):
    validate(BestModelSaver(zero(), tmp_path / "model.pt", "auc"), zero(), [math.nan])
    assert "auc is NaN: the weights are not saved" in caplog.text
    assert os.listdir(tmp_path) == []


def test_the_best_value_survives_a_restart(tmp_path):
    network = zero()
    first = BestModelSaver(network, tmp_path / "model.pt", "auc")
    validate(first, network, [0.9])
    second = BestModelSaver(network, tmp_path / "model.pt", "auc")
    second.load_state_dict(first.state_dict())
    network.bias.data.fill_(7)
    validate(second, network, [0.8])
    assert second.best == 0.9
    assert torch.load(tmp_path / "model.pt", weights_only=True)["bias"].item() == 1


# The training of a bundle


@pytest.fixture(scope="module")
def trainings(tmp_path_factory):
    """Folder of an undisturbed and a killed training of the pneumonia bundle, on a folder of tiny images."""
    root, rng = tmp_path_factory.mktemp("training"), np.random.default_rng(0)
    for split, counts in {"train": (5, 9), "validation": (3, 3)}.items():
        for (name, level), count in zip((("normal", 60), ("pneumonia", 110)), counts, strict=True):
            folder = root / "images" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.clip(level + rng.normal(0, 40, (16, 16)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    config = ROOT / "bundles" / "pneumonia_xray_diffusion" / "configs" / "train.json"
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("train_and_kill.py"), config, root / "images", root],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    codes = json.loads((root / "codes.json").read_text())
    assert codes == {
        "undisturbed": 0,
        "killed while saving epoch 2": -9,
        "killed in epoch 3": -9,
        "resumed": 0,
        "started when done": 0,
        "untouched when done": True,
    }, done.stderr[-4000:]
    return root


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def assert_same(a, b, where: str = "") -> None:
    """Equal to the bit, all the way down."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for i, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


def test_a_killed_training_ends_as_an_undisturbed_one(trainings):
    undisturbed, killed = (load(trainings / name / "checkpoint.pt") for name in ("undisturbed", "killed"))
    kept = {"network", "ema", "loss", "optimizer", "lr_scheduler", "best", "trainer", "settings", "images"}
    assert set(undisturbed) == kept
    assert_same(killed, undisturbed)


def test_the_best_model_is_the_same(trainings):
    assert_same(*(load(trainings / name / "model.pt") for name in ("undisturbed", "killed")))
    notes = [(trainings / name / "model.json").read_text() for name in ("undisturbed", "killed")]
    assert notes[0] == notes[1]
    assert json.loads(notes[0])["epoch"] in (2, 4)


def test_a_kill_while_saving_leaves_the_checkpoint_before(trainings):
    epochs = [load(trainings / f"{name}.pt")["trainer"]["iteration"] / 3 for name in ("first", "second")]
    assert epochs == [1, 2]


def test_the_training_was_not_idle(trainings):
    first, last = load(trainings / "first.pt"), load(trainings / "killed" / "checkpoint.pt")
    key = "unet.conv_in.conv.weight"
    assert not torch.equal(first["network"][key], last["network"][key])
    averages = [part["ema"]["weights"][key] for part in (first, last)]
    assert not torch.equal(*averages)
    assert not torch.equal(averages[1], last["network"][key])
    assert last["ema"]["steps"] == 12
    assert last["lr_scheduler"]["last_epoch"] == 12
    assert last["best"]["best"] is not None


def audit(folder: Path, train: str, test: str = "t") -> None:
    content = {"content": {"train": train, "validation": "v", "test": test}}
    (folder / "audit.json").write_text(json.dumps(content))


def test_images_that_were_replaced_are_noticed(tmp_path):
    path = tmp_path / "checkpoint.pt"
    audit(tmp_path, "a")
    trainer_of(zero(), path)[0].run([0, 0], max_epochs=1)
    audit(tmp_path, "a", test="other")  # no matter of the training
    trainer_of(zero(), path)[0].run([0, 0], max_epochs=2)
    before = path.read_bytes()
    audit(tmp_path, "b")
    with pytest.raises(ValueError, match=r"--dataset_dir: images of train have changed since the training in .* was"):
        trainer_of(zero(), path)[0].run([0, 0], max_epochs=3)
    assert path.read_bytes() == before
    (tmp_path / "audit.json").unlink()
    trainer_of(zero(), path)[0].run([0, 0], max_epochs=3)  # not known


def test_weights_without_their_checkpoint_are_not_trained_over(tmp_path):
    resume = ResumableCheckpoint(tmp_path / "checkpoint.pt", {})
    resume.check()
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(
        ValueError, match="--output_dir: .* holds the weights of an earlier training, model.pt, without"
    ):
        resume.check()
    assert (tmp_path / "model.pt").read_bytes() == b"weights"


def test_events_of_a_former_training_go_where_one_begins_anew(tmp_path):
    path = tmp_path / "checkpoint.pt"
    own = tmp_path / f"events.out.tfevents.1.host.{os.getpid()}.0"
    own.write_bytes(b"of the first")
    (tmp_path / "events.out.tfevents.1.host.7.0").write_bytes(b"not known to us")
    trainer_of(zero(), path)[0].run([0, 0], max_epochs=1)
    trainer_of(zero(), path)[0].run([0, 0], max_epochs=2)
    assert own.exists(), "the training goes on"
    path.unlink()
    trainer_of(zero(), path)[0].run([0, 0], max_epochs=1)
    assert not own.exists()
    assert (tmp_path / "events.out.tfevents.1.host.7.0").exists()


@pytest.mark.parametrize("name", ["checkpoint.pt", "model.pt"])
@pytest.mark.parametrize("share", [0, 0.5])
def test_a_damaged_file_of_a_run_is_refused_before_it_goes_on(tmp_path, name, share):
    network = torch.nn.Linear(3, 1)
    resume = ResumableCheckpoint(tmp_path / "checkpoint.pt", {"network": network})
    engine = Engine(lambda engine, batch: None)
    resume.attach(engine)
    engine.run([0], max_epochs=1)
    torch.save(network.state_dict(), tmp_path / "model.pt")
    resume.check()
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=rf"{name}.*; where there is no copy, move the folder away, or name another"):
        resume.check()
