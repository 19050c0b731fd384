"""The training loop that scripts/train/ shares: resumable, repeatable; and a datasheet that is sealed."""

import itertools
import json

import pytest
import torch
from safetensors.torch import load_file

from concrete_steps.errors import CourseError
from concrete_steps.models import training as tr

SHEET = {"architecture": {}, "data": "", "licence": "MIT", "circuit": "", "claims": []}


def run(folder, steps, *options, kept=(0, 5, 20)):
    """A small regression with dropout: (args, record, weights)."""
    args = tr.arguments("toy", 40, "A toy.", ["--steps", str(steps), "--out", str(folder), *options])
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.2), torch.nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), 0.05)

    def loss_at(step):
        inputs = torch.randn(16, 4, generator=tr.step_generator(args.seed, step))
        return (model(inputs) - inputs.sum(1, keepdim=True)).square().mean()

    def schedule(step):
        return tr.warmup_cosine(step, 5, 40)

    record = tr.train(args, model, optimizer, loss_at, schedule=schedule, checkpoint_steps=kept, log_every=5)
    return args, record, {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path):
    _, whole, weights = run(tmp_path / "whole", 40)
    run(tmp_path / "parts", 11)
    _, resumed, same_weights = run(tmp_path / "parts", 40)
    assert resumed.logged_losses == whole.logged_losses
    assert resumed.checkpoints.keys() == whole.checkpoints.keys() == {0, 5, 20}
    for name, tensor in weights.items():
        assert torch.equal(tensor, same_weights[name])
    assert whole.logged_losses[-1] < whole.logged_losses[0]


def test_a_short_run_repeats_the_first_steps_of_a_long_one(tmp_path):
    _, long, _ = run(tmp_path / "long", 40)
    _, short, _ = run(tmp_path / "short", 16)
    assert short.logged_losses == long.logged_losses[:4]


def test_a_run_of_another_seed_or_beyond_the_steps_or_damaged_is_not_resumed(tmp_path):
    run(tmp_path, 20)
    with pytest.raises(CourseError, match="--seed 0"):
        run(tmp_path, 40, "--seed", "1")
    with pytest.raises(CourseError, match="already at step 20, beyond --steps 10"):
        run(tmp_path, 10)
    file = tmp_path / "resume" / "resume.pt"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(CourseError, match=r"resume\.pt.*--restart"):
        run(tmp_path, 40)
    assert run(tmp_path, 10, "--restart")[1].steps_done == 10


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    args = tr.arguments("toy", 5, "A toy.", ["--out", str(tmp_path)])
    weight = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(weight.parameters(), 0.1)
    with pytest.raises(CourseError, match="loss is nan at step 0"):
        tr.train(args, weight, optimizer, lambda step: weight(torch.ones(1, 1)).sum() * float("nan"))


@pytest.mark.parametrize("options", [["--steps", "0"], ["--device", "cuda:99"]])
def test_bad_options_are_refused_with_a_sentence(options, capsys):
    with pytest.raises(SystemExit):
        tr.arguments("toy", 5, "A toy.", options)
    assert options[0] in capsys.readouterr().err


def test_the_schedule_warms_up_and_cools_down():
    factors = [tr.warmup_cosine(step, 10, 100, 0.1) for step in range(120)]
    assert factors[0] == pytest.approx(0.1) and factors[9] == factors[10] == pytest.approx(1)
    assert factors[100] == factors[119] == pytest.approx(0.1)
    assert all(later <= earlier for earlier, later in itertools.pairwise(factors[10:]))


def test_what_is_written(tmp_path):
    args, record, weights = run(tmp_path, 40)
    tr.write_model(args, record, weights, {**SHEET, "claims": [tr.claim("p", "h", 1, 0.12345, "c", at_least=0.5)]})
    sheet = json.loads((tmp_path / "datasheet.json").read_text())
    assert sheet["seal"] == tr.seal(sheet)
    assert sheet["seal"] != tr.seal({**sheet, "seed": 5})
    assert sheet["checkpoints"] == [0, 5, 20] and sheet["steps"] == 40
    assert sheet["claims"][0]["control"] == 0.1235 and sheet["claims"][0]["at_least"] == 0.5
    for name, facts in sheet["files"].items():
        assert facts["sha256"] == tr.sha256(tmp_path / name)
    stored = load_file(tmp_path / "checkpoints.safetensors")
    assert stored["000020/0.weight"].dtype == torch.float16
    assert torch.equal(load_file(tmp_path / "model.safetensors")["0.weight"], weights["0.weight"])
    assert json.loads((tmp_path / "losses.json").read_text())["step"] == [0, 5, 10, 15, 20, 25, 30, 35, 39]


def test_a_datasheet_that_lacks_a_part_is_refused(tmp_path):
    args, record, weights = run(tmp_path, 2)
    with pytest.raises(CourseError, match="lacks licence"):
        tr.write_model(args, record, weights, {key: value for key, value in SHEET.items() if key != "licence"})
