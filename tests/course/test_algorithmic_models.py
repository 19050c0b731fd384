"""The rules behind `grokking`, `brackets` and `othello_6x6`, what these models claim, and that training repeats."""

import importlib.util
import json
import math
from collections import Counter

import pytest
import torch

from concrete_steps import models
from concrete_steps.games import brackets, measures, modular_addition, othello, plain
from concrete_steps.paths import course_root, data_dir

# ---- Othello ---------------------------------------------------------------------------------------------------------


def turned_by(board: list[list[int]], player: int, row: int, column: int) -> list[tuple[int, int]]:
    """The rules as plainly as can be: the discs that this move turns over; none if it is not legal."""
    if board[row][column] != 0:
        return []
    turned = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            passed = []
            r, c = row + down, column + right
            while (down, right) != (0, 0) and 0 <= r < 6 and 0 <= c < 6 and board[r][c] == -player:
                passed.append((r, c))
                r, c = r + down, c + right
            if passed and 0 <= r < 6 and 0 <= c < 6 and board[r][c] == player:
                turned += passed
    return turned


def legal_moves(board: list[list[int]], player: int) -> list[int]:
    return [6 * row + column for row in range(6) for column in range(6) if turned_by(board, player, row, column)]


def test_othello_games_follow_the_rules():
    games = othello.random_games(100, torch.Generator().manual_seed(3))
    passes = 0
    for game in range(100):
        board, player = [[0] * 6 for _ in range(6)], 1
        board[2][2] = board[3][3] = -1
        board[2][3] = board[3][2] = 1
        for ply in range(othello.PLIES):
            legal, move = legal_moves(board, player), games.moves[game, ply].item()
            where = f"game {game}, ply {ply}"
            assert games.boards[game, ply].view(6, 6).tolist() == board, where
            assert games.legal[game, ply].nonzero().flatten().tolist() == (legal or [othello.PASS]), where
            assert games.over[game, ply].item() == (not legal and not legal_moves(board, -player)), where
            assert move in (legal or [othello.PASS]), where
            if move == othello.PASS:
                passes += 1
            else:
                row, column = divmod(move, 6)
                for r, c in turned_by(board, player, row, column):
                    board[r][c] = player
                board[row][column] = player
            player = -player
    assert passes > 10, "the sample has too few passes to test them"


def test_othello_moves_are_uniform_and_repeat_with_the_seed():
    games = othello.random_games(4000, torch.Generator().manual_seed(0), plies=2)
    first = Counter(games.moves[:, 0].tolist())
    assert len(first) == 4
    assert all(abs(count - 1000) < 5 * math.sqrt(750) for count in first.values()), first
    again = othello.random_games(4000, torch.Generator().manual_seed(0), plies=2)
    assert torch.equal(games.moves, again.moves)
    assert games.inputs[:, 0].eq(othello.START).all() and torch.equal(games.inputs[:, 1:], games.moves[:, :-1])


# ---- Brackets --------------------------------------------------------------------------------------------------------


def balanced(string: str) -> bool:
    height = 0
    for bracket in string:
        height += 1 if bracket == "(" else -1
        if height < 0:
            return False
    return height == 0


def test_bracket_labels_and_kinds():
    tokens, label, kind = brackets.sample(5000, torch.Generator().manual_seed(1))
    strings = brackets.to_strings(tokens)
    assert label.tolist() == [balanced(string) for string in strings]
    assert torch.equal(brackets.tokenise(strings), tokens)
    assert {len(string) for string in strings} == set(range(1, 41))
    for string, truth, which in zip(strings, label.tolist(), kind.tolist(), strict=True):
        surplus = string.count("(") - string.count(")")
        if which == brackets.BALANCED:
            assert truth, string
        if which == brackets.ONE_FLIPPED:
            assert abs(surplus) == 2, string
        if which in (brackets.TWO_SWAPPED, brackets.SHUFFLED):
            assert surplus == 0, string
    assert 0.4 < label.float().mean() < 0.6
    swapped = label[kind == brackets.TWO_SWAPPED].float().mean()
    assert 0.2 < swapped < 0.8, "right count with wrong heights, and right in both, should both be common"


def test_balanced_strings_are_uniform():
    """There are 14 balanced strings of 4 pairs (Catalan's number); each should come up equally often."""
    tokens, _, kind = brackets.sample(80_000, torch.Generator().manual_seed(2))
    strings = brackets.to_strings(tokens[(kind == brackets.BALANCED) & ((tokens != brackets.PAD).sum(-1) == 10)])
    counts = Counter(strings)
    expected = len(strings) / 14
    assert len(counts) == 14 and expected > 100
    assert sum((count - expected) ** 2 / expected for count in counts.values()) < 34.5  # chi-squared, 13 df, p = 0.001


@pytest.mark.parametrize("bad", ["(" * 41, "(a)"])
def test_only_short_strings_of_brackets_are_tokenised(bad):
    with pytest.raises(ValueError, match="is not a string of at most 40 brackets"):
        brackets.tokenise([bad])


# ---- Modular addition ------------------------------------------------------------------------------------------------


def test_pairs_are_split_once():
    train, test = modular_addition.split_pairs(0)
    assert len(train) == 3830 and len(test) == 8939
    assert torch.equal(torch.cat([train, test]).unique(dim=0), modular_addition.all_pairs())


@pytest.mark.parametrize("step", [0, 2000, None])
def test_fast_logits_are_the_bridges(step):
    model = models.load("grokking", step)
    pairs = modular_addition.all_pairs()[::29]
    with torch.no_grad():
        slow = model(modular_addition.tokens(pairs))[:, -1]
        torch.testing.assert_close(modular_addition.fast_logits(model, pairs), slow, atol=1e-4, rtol=1e-4)


def test_fast_gradients_are_the_bridges():
    model, pairs = models.load("grokking", 0), modular_addition.all_pairs()[::97]
    gradients = []
    for logits in (modular_addition.fast_logits(model, pairs), model(modular_addition.tokens(pairs))[:, -1]):
        loss, _ = modular_addition.loss_and_accuracy(logits, pairs)
        weights = [model.embed.weight, model.blocks[0].attn.q.weight, model.blocks[0].mlp.out.weight]
        gradients.append(torch.autograd.grad(loss, weights))
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, atol=1e-6, rtol=1e-3)


def test_cosine_share_knows_a_cosine():
    a, b = modular_addition.all_pairs().T
    angle = (a + b)[:, None] - torch.arange(modular_addition.P)
    wave = torch.cos(2 * torch.pi * 7 * angle / modular_addition.P)
    noise = torch.randn(wave.shape, generator=torch.Generator().manual_seed(0)) * math.sqrt(0.5)
    assert modular_addition.cosine_share(wave, [7]) == pytest.approx(1, abs=1e-4)
    assert modular_addition.cosine_share(wave, [8]) == pytest.approx(0, abs=1e-4)
    assert modular_addition.cosine_share(wave + noise, [7]) == pytest.approx(0.5, abs=0.01)


# ---- The shipped models ----------------------------------------------------------------------------------------------

MEASURES = {
    "grokking": lambda model: measures.grokking(model, models.datasheet("grokking")["key_frequencies"]),
    "brackets": measures.bracket_classifier,
    "othello_6x6": measures.othello_6x6,
}


def trainer(name: str):
    """The module scripts/train/NAME.py."""
    path = course_root() / "scripts" / "train" / f"{name.removesuffix('_6x6')}.py"
    spec = importlib.util.spec_from_file_location(f"train_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", MEASURES)
def test_shipped_model_does_what_its_datasheet_claims_and_the_untrained_one_does_not(name):
    claims = {claim["key"]: claim for claim in models.datasheet(name)["claims"]}
    claims.pop("memorising", None)  # about the run, not the final model: the next test
    has, control = MEASURES[name](models.load(name)), MEASURES[name](trainer(name).new_model(0).eval())
    assert len(claims) >= 3
    for key, claim in claims.items():
        assert has[key] == pytest.approx(claim["measured"], abs=2e-3), key
        assert control[key] == pytest.approx(claim["control"], abs=2e-3), key
        if "at_least" in claim:
            assert has[key] >= claim["at_least"] > control[key], key
        else:
            assert has[key] <= claim["at_most"] < control[key], key


def test_grokking_generalises_long_after_it_memorised():
    curve = json.loads((data_dir() / "models" / "grokking" / "losses.json").read_text())["curve"]
    points = list(zip(curve["step"], curve["train_accuracy"], curve["test_accuracy"], strict=True))
    memorised = next(step for step, train, _ in points if train == 1)
    generalised = next(step for step, _, test in points if test >= 0.99)
    assert generalised > memorised + 2000
    assert all(test < 0.1 for step, _, test in points if step <= memorised + 1000)
    assert points[-1][1:] == (1, 1)


def test_grokking_checkpoints_lie_on_the_curve():
    curve = json.loads((data_dir() / "models" / "grokking" / "losses.json").read_text())["curve"]
    steps = models.checkpoints("grokking")
    assert len(steps) >= 20 and steps[0] == 0
    _, test = modular_addition.split_pairs(0)
    on_curve = [step for step in steps if step in curve["step"]]
    for step in on_curve[:: max(len(on_curve) // 5, 1)]:
        with torch.no_grad():
            logits = modular_addition.fast_logits(models.load("grokking", step), test)
        loss, accuracy = modular_addition.loss_and_accuracy(logits, test)
        index = curve["step"].index(step)
        assert loss.item() == pytest.approx(curve["test_loss"][index], rel=0.02, abs=1e-3), step
        assert accuracy == pytest.approx(curve["test_accuracy"][index], abs=0.005), step


def test_grokking_has_no_biases():
    weights = models.load("grokking").state_dict()
    assert all(tensor.eq(0).all() for name, tensor in weights.items() if name.endswith("bias"))


def test_plain_forward_is_the_bridges():
    bridge = models.load("othello_6x6")
    games = othello.random_games(5, torch.Generator().manual_seed(4))
    with torch.no_grad():
        fast = plain.logits(bridge.state_dict(), trainer("othello_6x6").CONFIG, games.inputs)
        torch.testing.assert_close(fast, bridge(games.inputs), atol=1e-4, rtol=1e-4)

    bridge = models.load("brackets")
    tokens, *_ = brackets.sample(50, torch.Generator().manual_seed(4))
    with torch.no_grad():
        fast = plain.logits(bridge.state_dict(), trainer("brackets").CONFIG, tokens, tokens != brackets.PAD)[:, 0]
        torch.testing.assert_close(fast, brackets.classify(bridge, tokens), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "steps"), [("grokking", 101), ("brackets", 31), ("othello_6x6", 31)])
def test_training_repeats(name, steps, tmp_path):
    """The first steps, made again, have the losses that were logged when the shipped model was made."""
    trainer(name).main(["--steps", str(steps), "--out", str(tmp_path), "--no-claims"])
    logged, again = (
        json.loads((folder / "losses.json").read_text()) for folder in (data_dir() / "models" / name, tmp_path)
    )
    assert again["step"] == list(range(0, steps, 10))
    assert again["loss"] == pytest.approx(logged["loss"][: len(again["loss"])], abs=1e-3)
