"""The progress bar and the grid of samples."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.networks.schedulers import DDPMScheduler

from monai_diffclf.engines import DiffusionClassifierEvaluator
from monai_diffclf.handlers import EpochLog, ProgressBar, SampleGrid, display
from monai_diffclf.inferers import DiffusionClassifierInferer
from monai_diffclf.sampling import sample_classes


class Bar:
    """Stands in for tqdm and keeps what it is told."""

    made: list[Bar]

    def __init__(self, total, initial, desc, unit, **_) -> None:
        self.total, self.initial, self.description, self.unit = total, initial, desc, unit
        self.n = self.last_print_n = initial
        self.steps, self.closed, self.shown = 0, False, {}
        Bar.made.append(self)

    def set_postfix(self, refresh, **shown):
        self.shown = shown

    def set_postfix_str(self, shown, refresh):
        self.shown = shown

    def update(self, n=1):
        self.steps += 1
        self.n += n

    def close(self):
        self.closed = True


@pytest.fixture(autouse=True)
def bars(monkeypatch) -> list[Bar]:
    Bar.made = []
    monkeypatch.setattr(display, "tqdm", Bar)
    return Bar.made


def engine_of(output=lambda batch: {"loss": torch.tensor([1.0, 2.0])}) -> Engine:
    return Engine(lambda engine, batch: output(batch))


def test_one_bar_for_all_epochs(bars):
    engine = engine_of()
    ProgressBar(description="train").attach(engine)
    engine.run(range(5), max_epochs=3)
    (bar,) = bars
    assert (bar.total, bar.initial, bar.steps, bar.closed, bar.description) == (15, 0, 15, True, "train")
    assert bar.unit == " batches"
    assert bar.shown == {"epoch": 3, "loss": "1.5000"}


@pytest.mark.parametrize(("drop_last", "images"), [(False, 10), (True, 8)])
def test_images_of_a_loader_are_counted(bars, drop_last, images):
    engine = engine_of()
    ProgressBar().attach(engine)
    engine.run(torch.utils.data.DataLoader(range(10), batch_size=4, drop_last=drop_last), max_epochs=3)
    assert (bars[0].unit, bars[0].total, bars[0].n) == (" images", 3 * images, 3 * images)


def test_the_first_steps_say_how_long_all_will_take(caplog):
    caplog.set_level("INFO")
    engine = engine_of()
    EpochLog().attach(engine)
    engine.run(range(15), max_epochs=2)
    (line,) = [text for text in caplog.messages if "a step" in text]
    assert line.endswith("s for the 20 steps left, without validations")


def test_a_resumed_run_starts_where_it_was(bars):
    engine = engine_of()
    ProgressBar().attach(engine)
    engine.load_state_dict({"epoch_length": 5, "max_epochs": 3, "iteration": 10})
    engine.run(range(5))
    (bar,) = bars
    assert (bar.total, bar.initial, bar.steps) == (15, 10, 5)


def test_outputs_without_a_loss(bars):
    engine = engine_of(lambda batch: None)
    ProgressBar().attach(engine)
    engine.run(range(2))
    assert (bars[0].steps, bars[0].shown) == (2, {})


def test_an_engine_can_run_again(bars):
    engine = engine_of()
    ProgressBar().attach(engine)
    engine.run(range(2))
    engine.run(range(2))
    assert [bar.closed for bar in bars] == [True, True]


def test_disabled(bars):
    engine = engine_of()
    ProgressBar(enabled=False).attach(engine)
    engine.run(range(2))
    assert bars == []


def test_an_error_closes_the_bar_and_is_raised(bars):
    def fail(batch):
        raise RuntimeError("out of memory")

    engine = engine_of(fail)
    ProgressBar().attach(engine)
    with pytest.raises(RuntimeError, match="out of memory"):
        engine.run(range(2))
    assert bars[0].closed


def test_a_terminated_run_closes_the_bar(bars):
    engine = engine_of()
    ProgressBar().attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda engine: engine.terminate())
    engine.run(range(5))
    assert (bars[0].steps, bars[0].closed) == (2, True)


@pytest.mark.parametrize("sampler", [None, [3, 1, 2]])
def test_an_evaluation_counts_images(bars, sampler):
    evaluator_of(4, sampler=sampler).run()
    (bar,) = bars
    images = 4 if sampler is None else 3
    assert (bar.total, bar.n, bar.initial, bar.unit, bar.closed) == (images, images, 0, " images", True)
    assert bar.shown == "10.0 evaluations/image"


def test_images_in_the_journal_count_as_done_but_not_for_the_speed(bars, tmp_path):
    evaluator_of(3, journal_dir=tmp_path).run()
    evaluator_of(5, journal_dir=tmp_path).run()
    first, second = bars
    assert (first.total, first.n, first.initial) == (3, 3, 0)
    assert (second.total, second.n, second.initial, second.last_print_n) == (5, 5, 3, 3)
    assert second.shown == "10.0 evaluations/image"


def test_the_real_bar_says_images_per_second_and_time_left(monkeypatch, capsys):
    from tqdm.auto import tqdm

    monkeypatch.setattr(display, "tqdm", lambda **options: tqdm(**(options | {"mininterval": 0, "smoothing": 0})))
    evaluator_of(4, description="test").run()
    last = capsys.readouterr().err.strip().split("\r")[-1]
    assert re.search(r"^test: 100%.* 4/4 \[\d\d:\d\d<00:00, +[\d.]+ images/s, 10.0 evaluations/image\]", last), last


class Constant(torch.nn.Module):
    """Knows that the images of class k are constant, k / 2, plus a little of the noise they start from."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, timesteps, context=None, class_labels=None):
        return class_labels.reshape(-1, *[1] * (x.ndim - 1)) / 2 + 0.01 * x + self.weight


def evaluator_of(count, *, sampler=None, journal_dir=None, description="") -> DiffusionClassifierEvaluator:
    items = [{"image": torch.full((1, 4, 4), i / 7), "label": 0} for i in range(count)]
    return DiffusionClassifierEvaluator(
        torch.device("cpu"),
        DataLoader(Dataset(items), batch_size=2, sampler=sampler),
        Constant(),
        inferer=DiffusionClassifierInferer(DDPMScheduler(100), num_draws=5),
        explain=False,
        journal_dir=journal_dir,
        val_handlers=[ProgressBar(description=description)],
    )


def grid_of(shape, device="cpu", **kwargs) -> SampleGrid:
    scheduler = DDPMScheduler(100, prediction_type="sample")
    writer = SimpleNamespace(
        images={}, add_image=lambda tag, image, step: writer.images.__setitem__((tag, step), image)
    )
    network = Constant().eval().to(device)
    return SampleGrid(writer, network, scheduler, shape, num_classes=3, num_images=4, num_steps=2, **kwargs)


@pytest.mark.parametrize("shape", [(1, 4, 6), (3, 4, 6), (1, 4, 6, 3)])
def test_grid(shape, device):
    handler = grid_of(shape, device)
    grid = handler.grid()
    assert grid.shape == (shape[0], 3 * 4, 4 * 6)
    assert grid.device.type == "cpu"
    assert grid.min() >= 0
    assert grid.max() <= 1
    # Rows are classes, -1 to 1 shown as 0 to 1.
    for label in range(3):
        assert grid[:, 4 * label : 4 * label + 4].mean().item() == pytest.approx(min((label / 2 + 1) / 2, 1), abs=0.02)
    # Columns share their noise: column j of class 1 is the j-th sample.
    images = sample_classes(
        handler.network, handler.scheduler, torch.ones(4).long(), shape, num_classes=3, num_steps=2, device=device
    ).cpu()
    images = images[..., 1] if len(shape) == 4 else images
    torch.testing.assert_close(grid[:, 4:8, 6:12], (images[1] + 1) / 2)


def test_written_every_few_epochs():
    handler = grid_of((1, 4, 4), interval=2)
    engine = engine_of()
    handler.attach(engine)
    engine.run([0], max_epochs=5)
    assert list(handler.summary_writer.images) == [("samples_by_class", 2), ("samples_by_class", 4)]
