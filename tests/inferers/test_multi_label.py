"""The inferer of several findings: what it asks, what it shares, where it stops, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator
from monai.handlers import ROCAUC, ConfusionMatrix, from_engine
from monai.networks.nets import DiffusionModelUNet
from monai.networks.schedulers import DDPMScheduler
from monai.transforms import AsDiscreted, Compose, CopyItemsd, ToDeviced
from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score
from torchmetrics.classification import MultilabelAUROC

from monai_diffclf.classification import CurtailedVote, SequentialTest, by_finding, replay
from monai_diffclf.inferers import DiffusionClassifierInferer, MultiLabelClassifierInferer, provenance
from monai_diffclf.metrics import FindingsROCAUCMetric
from monai_diffclf.networks.nets import DiT, WaveletDiffusionUNet
from tests.inferers.findings_closed_form import POPULATIONS, TwoFindings

SCHEDULER = DDPMScheduler(100, schedule="cosine_log_snr", log_snr_min=-6.0, log_snr_max=6.0)


class Columns(torch.nn.Module):
    """Knows that finding i, where present, makes column i white; where unknown, grey. Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[torch.Tensor] = []
        self.eval()

    def forward(self, x, timesteps, states):
        self.asked.append(states.cpu())
        values = torch.tensor([0.0, 1.0, 0.5], device=x.device)[states]
        return values.reshape(len(x), 1, *[1] * (x.ndim - 3), -1).expand_as(x)


class Unconditional(torch.nn.Module):
    def forward(self, x, timesteps):
        return x


def columns(findings: int = 3, **settings) -> MultiLabelClassifierInferer:
    scheduler = DDPMScheduler(100, prediction_type="sample", schedule="cosine_log_snr", log_snr_min=-6, log_snr_max=6)
    settings = {"num_draws": 5, "conditioning": lambda states: {"states": states}, **settings}
    return MultiLabelClassifierInferer(scheduler, num_findings=findings, **settings)


def images_of(findings: torch.Tensor, dims: int = 2) -> torch.Tensor:
    """Images [B, 1, 4, L] whose columns are white where the finding is present."""
    shape = (len(findings), 1, *[4] * (dims - 1), findings.shape[1])
    return findings.float().reshape(len(findings), 1, *[1] * (dims - 1), -1).expand(shape).contiguous()


def test_an_empty_batch_has_an_empty_answer(device):
    images = images_of(torch.zeros(2, 3)).to(device)
    found = columns().classify(images[:0], Columns(), error_maps=True)
    assert found.probabilities.shape[0] == len(found) == 0
    assert found.errors.values.shape == (0, *columns().classify(images, Columns()).errors.values.shape[1:])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("rule", ["vote", "mean"])
def test_finds_each_finding_by_two_questions_a_draw(rule, dims, device):
    truth = torch.cartesian_prod(*[torch.arange(2)] * 3)
    network = Columns()
    result = columns(rule=rule).classify(images_of(truth, dims).to(device), network, error_maps=True)
    assert torch.equal(result.predicted.cpu(), truth)
    assert torch.equal((result.probabilities > 0.5).long().cpu(), truth)
    assert result.network_evaluations.tolist() == [2 * 3 * 5] * 8
    assert sum(map(len, network.asked)) == 8 * 30
    states = torch.cat(network.asked)
    assert ((states == 2).sum(1) == 2).all(), "all findings but the one in question are unknown"
    assert result.errors.values.shape == (8, 6, 5)
    assert result.error_maps.shape == (8, 3, 2, *[4] * (dims - 1), 3)
    assert {tuple(value.shape) for value in result.uncertainty.values()} == {(8, 3)}


def test_findings_are_seen_where_they_are():
    result = columns(map_smoothing=0).classify(images_of(torch.tensor([[1, 0, 1]])), Columns(), error_maps=True)
    maps = result.finding_maps[0].mean(1)  # [finding, column]
    for finding in range(3):
        assert maps[finding].abs().argmax() == finding
    assert maps[0, 0] > 0 > maps[1, 1]


def test_maps_add_up_to_the_difference_of_errors(device):
    inferer = columns(map_weighting=None, rule="mean")
    images = torch.rand(4, 1, 4, 3, device=device)
    result = inferer.classify(images, Columns(), error_maps=True)
    torch.testing.assert_close(result.error_maps.flatten(3).mean(3).double(), result.mean_error, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(inferer.error_maps(images, Columns()), result.error_maps)


def test_questions_that_ask_the_same_state_are_asked_once(device):
    """Given findings 0 and 1 of two: three states in place of four; given none of three: six."""
    images = torch.rand(3, 1, 4, 2, device=device)
    given = torch.tensor([[1, 1], [0, 2], [2, 2]], device=device)
    network, inferer = Columns(), columns(2, map_smoothing=0)
    result = inferer.classify(images, network, given=given, error_maps=True)
    assert result.network_evaluations.tolist() == [15, 20, 20]
    assert sum(map(len, network.asked)) == 55
    values = result.errors.values
    assert torch.equal(values[0, 1], values[0, 3]), "both ask for present and present"
    assert torch.equal(result.error_maps[0, 0, 1], result.error_maps[0, 1, 1])
    assert (result.error_maps.flatten(3).sum(3) > 0).all()


def test_what_is_given_of_a_finding_is_no_answer_to_its_own_question():
    images, truth = images_of(torch.tensor([[1, 0]])), torch.tensor([[1, 0]])
    inferer = columns(2)
    right, wrong = (inferer.classify(images, Columns(), given=given) for given in (truth, 1 - truth))
    assert torch.equal(right.predicted, wrong.predicted)


def test_the_answer_for_one_finding_is_that_of_a_binary_classifier(device):
    """Finding i alone, the others unknown, is a question of two classes: the same draws, the same result."""
    world = TwoFindings(POPULATIONS["correlated"], gap=0.5)
    images = world.sample(8)[0].to(device)
    inferer = MultiLabelClassifierInferer(SCHEDULER, 2, num_draws=21, conditioning=world.conditioning)
    network = world.denoiser(inferer.process)
    result = inferer.classify(images, network)
    for finding in range(2):

        def states(labels, finding=finding):
            every = torch.full((len(labels), 2), 2, device=labels.device)
            every[:, finding] = labels
            return world.conditioning(every)

        binary = DiffusionClassifierInferer(SCHEDULER, 2, num_draws=21, conditioning=states).classify(images, network)
        assert torch.equal(binary.predicted, result.predicted[:, finding])
        assert torch.equal(binary.probabilities[:, 1], result.probabilities[:, finding])
        assert torch.equal(binary.uncertainty["vote_entropy"], result.uncertainty["vote_entropy"][:, finding])


@pytest.mark.parametrize("stopping", [CurtailedVote(2), SequentialTest(0.2, block=3, seed=5)])
@pytest.mark.parametrize("rule", ["vote", "mean"])
def test_each_finding_stops_for_itself(stopping, rule, device):
    if rule not in stopping.rules:
        pytest.skip("not made for this rule")
    world = TwoFindings(POPULATIONS["correlated"], gap=0.5)
    images = world.sample(12)[0].to(device)
    settings = {"num_draws": 31, "rule": rule, "conditioning": world.conditioning, "batch_size": 7}
    inferer = MultiLabelClassifierInferer(SCHEDULER, 2, stopping=stopping, **settings)
    network = world.denoiser(inferer.process)
    result = inferer.classify(images, network)
    errors = inferer.compute_errors(images, network)
    again = replay(by_finding(errors), stopping, rule=rule)
    assert torch.equal(again.predicted, result.predicted.flatten())
    assert torch.equal(again.decided, result.decided.flatten())
    made = result.errors.evaluated.sum(2).reshape(12, 2, 2)[..., 0]
    assert (made[:, 0] != made[:, 1]).any(), "findings of one image need different numbers of draws"
    assert torch.equal(result.network_evaluations, 2 * made.sum(1))
    stored = inferer.classify_stored(errors.values, errors.num_elements)
    assert torch.equal(stored.probabilities, result.probabilities)


def test_an_image_depends_on_nothing_but_itself(device):
    world = TwoFindings(POPULATIONS["independent"])
    images = world.sample(6)[0].to(device)
    given = torch.tensor([[2, 1]] * 6, device=device)
    inferer = MultiLabelClassifierInferer(SCHEDULER, 2, num_draws=9, conditioning=world.conditioning, batch_size=5)
    network = world.denoiser(inferer.process)
    whole = inferer.classify(images, network, given=given)
    alone = [inferer.classify(images[i : i + 1], network, given=given[i : i + 1]) for i in reversed(range(6))]
    torch.testing.assert_close(torch.cat([r.errors.values for r in reversed(alone)]), whole.errors.values)


@pytest.mark.parametrize("stopping", [CurtailedVote(), SequentialTest(0.01)])
def test_a_prior_is_refused_beside_a_rule_that_stops_without_it(stopping):
    with pytest.raises(ValueError, match="prior: expected none with a stopping rule"):
        columns(1, prior=[0.33], stopping=stopping)
    with pytest.raises(ValueError, match="prior: expected none with a stopping rule.*: leave out stopping"):
        columns(1, stopping=stopping).classify(torch.rand(2, 1, 4, 1), Columns(), prior=[[0.2], [0.4]])


def test_a_prior_moves_the_odds_by_bayes_rule():
    images, prior = torch.rand(5, 1, 4, 3), torch.tensor([0.1, 0.5, 0.9])
    even = columns(rule="mean")(images, Columns()).double()
    moved = columns(rule="mean", prior=prior.tolist())(images, Columns()).double()
    torch.testing.assert_close(moved.logit(), even.logit() + prior.double().logit(), rtol=1e-3, atol=1e-3)
    own = columns(rule="mean").classify(images, Columns(), prior=prior.expand(5, 3)).probabilities
    torch.testing.assert_close(own.double(), moved)


def make_networks(findings: int) -> dict[str, tuple[str, torch.nn.Module]]:
    unet = {"channels": (8, 8), "attention_levels": (False, True), "num_res_blocks": 1, "norm_num_groups": 4}
    unet |= {"num_head_channels": 8}
    cross = {"with_conditioning": True, "cross_attention_dim": 3 * findings}
    dit = {"input_size": 8, "patch_size": 4, "hidden_size": 16, "num_layers": 1, "num_heads": 2}
    return {
        "WaveletDiffusionUNet": ("class_labels", WaveletDiffusionUNet(2, 1, num_findings=findings, **unet)),
        "DiT": ("class_labels", DiT(2, 1, num_findings=findings, **dit)),
        "DiT, a token": ("crossattn", DiT(2, 1, cross_attention_dim=3 * findings, **dit)),
        "MONAI's U-Net, a token": ("crossattn", DiffusionModelUNet(2, 1, 1, **unet, **cross)),
        "3D": ("class_labels", WaveletDiffusionUNet(3, 1, num_findings=findings, **unet)),
    }


@pytest.mark.parametrize("name", make_networks(2))
def test_networks_take_the_states(name, device):
    torch.manual_seed(0)
    conditioning, network = make_networks(2)[name]
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)  # MONAI begins with zeros at the end, where all classes tie
    shape = (2, 1, 8, 8, 8) if name == "3D" else (2, 1, 8, 8)
    inferer = MultiLabelClassifierInferer(SCHEDULER, 2, num_draws=3, conditioning=conditioning)
    result = inferer.classify(torch.rand(shape, device=device), network.eval().to(device))
    values = result.errors.values
    assert (values[:, ::2] != values[:, 1::2]).any(2).all(), "every finding makes a difference"
    assert provenance(inferer, network)["num_classes"] == 4


def test_in_reduced_precision_near_ties_are_made_again(device):
    torch.manual_seed(0)
    _, network = make_networks(2)["WaveletDiffusionUNet"]
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    images = torch.rand(4, 1, 8, 8, device=device)
    network.eval().to(device)
    full, half = (
        MultiLabelClassifierInferer(SCHEDULER, 2, num_draws=9, rule="mean", amp_dtype=dtype)
        for dtype in (None, torch.bfloat16)
    )
    expected, result = full.classify(images, network), half.classify(images, network)
    assert torch.equal(expected.predicted, result.predicted)
    assert (result.network_evaluations > 4 * 9).all()


def decide(output) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Findings as decided and as they are, of decollated items."""
    return [(item["pred"] > 0.5).long() for item in output], [item["label"] for item in output]


def test_in_monais_evaluator_with_its_own_metrics(device):
    truth = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]])
    batches = [{"image": images_of(truth), "label": truth}]
    evaluator = SupervisedEvaluator(
        device=device,
        val_data_loader=batches,
        network=Columns(),
        inferer=columns(),
        postprocessing=lambda item: {**item, "pred": item["pred"].cpu(), "label": item["label"].cpu()},
        key_val_metric={"auc": ROCAUC(average="macro", output_transform=from_engine(["pred", "label"]))},
        additional_metrics={"sensitivity": ConfusionMatrix(metric_name="sensitivity", output_transform=decide)},
    )
    evaluator.run()
    assert evaluator.state.metrics == {"auc": 1.0, "sensitivity": 1.0}


def noisy(unknown: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Images that hide their findings well, and the states of these [B, 3]; of some unknown."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 2, (40, 3), generator=generator)
    images = images_of(truth) + 2 * torch.randn(40, 1, 4, 3, generator=generator)
    hidden = torch.rand(40, 3, generator=generator) < 0.2
    return images, truth.masked_fill(hidden, 2) if unknown else truth


@pytest.mark.parametrize("average", ["macro", "weighted", "micro"])
def test_monais_multi_label_metrics_say_what_scikit_learn_says(average, device):
    images, truth = noisy(unknown=False)
    metrics = {"auc": ROCAUC(average=average, output_transform=from_engine(["pred", "label"]))}
    # As MONAI's tutorials have it, on what MONAI's transforms make of the output.
    rates = {"sensitivity": recall_score, "precision": precision_score, "f1 score": f1_score}
    for name in rates:
        metrics[name] = ConfusionMatrix(metric_name=name, output_transform=from_engine(["called", "label"]))
    evaluator = SupervisedEvaluator(
        device=device,
        val_data_loader=DataLoader(
            [{"image": i, "label": t} for i, t in zip(images, truth, strict=True)], batch_size=9
        ),
        network=Columns(),
        inferer=columns(rule="mean"),
        postprocessing=Compose(
            [
                ToDeviced(["pred", "label"], "cpu"),
                CopyItemsd("pred", names="called"),
                AsDiscreted("called", threshold=0.5),
            ]
        ),
        key_val_metric={"auc": metrics.pop("auc")},
        additional_metrics=metrics,
    )
    evaluator.run()
    scores = columns(rule="mean")(images.to(device), Columns()).cpu().numpy()
    wanted = roc_auc_score(truth, scores, average=average)
    assert 0.5 < wanted < 1
    assert evaluator.state.metrics["auc"] == pytest.approx(wanted, abs=1e-6)
    for name, score in rates.items():  # MONAI pools the findings
        pooled = score(truth.flatten(), scores.flatten() > 0.5)
        assert evaluator.state.metrics[name] == pytest.approx(pooled, abs=1e-6), name


def test_torchmetrics_leaves_out_the_unknown_as_ours_does(device):
    images, states = noisy(unknown=True)
    scores = columns(rule="mean")(images.to(device), Columns()).cpu()
    theirs = MultilabelAUROC(3, average="none", ignore_index=2)(scores, states)
    ours = FindingsROCAUCMetric("none")
    ours(scores, states)
    torch.testing.assert_close(ours.aggregate().float(), theirs.float())
    known = [(states[:, i] != 2).numpy() for i in range(3)]
    expected = [roc_auc_score(states[k, i], scores[k, i]) for i, k in enumerate(known)]
    assert ours.aggregate().tolist() == pytest.approx(expected)
    ours.reset()
    ours(scores[:1], torch.tensor([[0, 1, -1]]))
    with pytest.raises(ValueError, match="got -1 for finding 2 of image 0; choose what an uncertain or missing label"):
        ours.aggregate()


REFUSED = {
    "given too long": (
        {"given": [[0, 1, 2, 2]] * 2},
        r"given: expected a state for each of the 3 findings .* \[2, 4\]",
    ),
    "given of fewer images": ({"given": [[0, 1, 2]]}, r"given: expected .*\[2, 3\], got \[1, 3\]"),
    "given -1": ({"given": [[0, 1, 2], [0, -1, 2]]}, "given: .* got -1 for finding 1 of image 1"),
    "prior of two": ({"prior": [0.5, 0.5]}, r"prior: expected one number a finding, \[3\] or \[2, 3\], got \[2\]"),
    "prior 0": ({"prior": [0.5, 0.0, 0.5]}, "prior: expected probabilities between 0 and 1.* 0.0 for finding 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_what_does_not_fit_in_one_line(name):
    arguments, message = REFUSED[name]
    with pytest.raises(ValueError, match=message) as caught:
        columns().classify(torch.rand(2, 1, 4, 3), Columns(), **arguments)
    assert "\n" not in str(caught.value)


def test_refuses_settings_that_do_not_fit():
    for findings in (0, True, 2.0):
        with pytest.raises(ValueError, match="num_findings: expected a positive integer"):
            columns(findings)
    with pytest.raises(ValueError, match="prior: expected one number a finding"):
        columns(3, prior=[0.5])
    with pytest.raises(ValueError, match="num_classes: expected num_findings alone"):
        columns(3, num_classes=2)
    with pytest.raises(ValueError, match="conditioning: expected 'class_labels', 'crossattn' or a callable"):
        columns(3, conditioning="token")
    with pytest.raises(ValueError, match="error_maps: expected False with a stopping rule"):
        columns(stopping=CurtailedVote()).classify(torch.rand(1, 1, 4, 3), Columns(), error_maps=True)


def test_refuses_a_network_that_ignores_a_finding(device):
    class Blind(Columns):
        def forward(self, x, timesteps, states):
            states = states.clone()
            states[:, 1] = 2
            return super().forward(x, timesteps, states)

    with pytest.raises(ValueError, match="each of the 3 findings, got the same whether finding 1 is absent or present"):
        columns().classify(torch.rand(2, 1, 4, 3, device=device), Blind())
    with pytest.raises(ValueError, match="expected predictions that depend on the class"):
        columns(conditioning=lambda states: {}).classify(torch.rand(1, 1, 8, 8, device=device), Unconditional().eval())
