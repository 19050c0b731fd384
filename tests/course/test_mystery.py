"""The mystery models: their claims, their seal, what watchers and the sealed truth earn; and the board of problems."""

import functools
import importlib
import json
import re
from collections import deque

import pytest
import torch
from torch import nn

from concrete_steps import models, mystery, problems
from concrete_steps.course import load_course
from concrete_steps.errors import CourseError
from concrete_steps.mystery import copies, edits, rows, scoring, sealed, truth
from concrete_steps.mystery.questions import asked, drawn
from concrete_steps.paths import course_root, data_dir

FOLDER = data_dir() / "models" / "mystery"
SEED = 3


@pytest.fixture(params=mystery.NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(course_root() / "scripts" / "train")
    return importlib.import_module("mystery")


# The models


def test_every_claim_holds_and_its_numbers_are_the_measured_ones(name, script):
    sheet = models.datasheet(f"mystery/{name}")
    rule = sealed.rules()[name]
    now = script.measured(name, rule, mystery.load(name), script.new_model(rule, sheet["seed"]))
    assert len(now) == len(sheet["claims"]) == 2
    for measured, claimed in zip(now, sheet["claims"], strict=True):
        assert claimed["measured"] >= claimed["at_least"] > claimed["control"], claimed["property"]
        assert measured["measured"] == pytest.approx(claimed["measured"], abs=0.01), claimed["property"]


def test_the_first_steps_of_a_retraining_repeat_the_logged_losses(name, script, tmp_path):
    script.main([name, "--steps", "11", "--out", str(tmp_path), "--no-claims"])
    new, logged = (json.loads((folder / "losses.json").read_text()) for folder in (tmp_path, FOLDER / name))
    assert new["loss"] == pytest.approx(logged["loss"][:2], abs=1e-3)


def test_examples_follow_the_rule_that_is_taken_for_it_and_the_model_answers_them(name):
    tokens, answers = mystery.examples(name, 300, seed=SEED)
    assert tokens.shape == (300, sealed.rules()[name].length + 1) and answers.shape == (300,)
    assert (edits.answers(mystery.load(name), tokens) == answers).float().mean() > 0.98
    again, _ = mystery.examples(name, 300, seed=SEED)
    other, _ = mystery.examples(name, 300, seed=SEED + 1)
    assert torch.equal(tokens, again) and not torch.equal(tokens, other)


def test_all_are_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 5e6
    assert set(mystery.NAMES) == {path.name for path in FOLDER.iterdir() if path.is_dir()} == set(sealed.rules())


def test_an_unknown_model_is_refused_with_the_names_there_are():
    for call in (mystery.load, lambda key: mystery.examples(key, 3, seed=0)):
        with pytest.raises(CourseError, match=r"amber.*flint"):
            call("nobody")


# The seal


def test_no_released_file_has_the_rules_in_plain_words():
    source = sealed.opened()
    lines = {line.strip() for line in source.splitlines() if len(line.strip()) > 30 and "import" not in line}
    said = [rule.says for rule in sealed.rules().values()]
    assert len(lines) > 20
    for path in [
        *FOLDER.rglob("*.json"),
        *(course_root() / "scripts").rglob("*.py"),
        *(course_root() / "notebooks").rglob("6.2*.ipynb"),
        sealed.file(),
    ]:
        text = path.read_bytes().decode("utf-8", errors="replace")
        assert not [line for line in [*lines, *said] if line in text], path


def test_sealing_and_opening_give_back_the_same(tmp_path, monkeypatch, script):
    source = sealed.opened()
    monkeypatch.setattr(sealed, "data_dir", lambda: tmp_path)
    script.main(["--seal", str(write(tmp_path / "rules.py", source))])
    script.main(["--open", str(tmp_path / "again.py")])
    assert (tmp_path / "again.py").read_text() == source
    sealed.file().write_bytes(b"damaged")
    with pytest.raises(CourseError, match="git checkout"):
        sealed.opened()


def write(path, text):
    path.write_text(text)
    return path


# Points


def test_truth_is_far_above_the_heuristic_and_watching_earns_nothing(name):
    (row,) = truth.table([name], seeds=[SEED], fits=False)
    assert row["accuracy"] > 0.98
    assert row["watcher"] <= 0
    assert row["heuristic"] < 45 < 70 < row["truth"]


def test_every_watcher_has_zero_on_the_questions_that_it_was_chosen_on(name, monkeypatch):
    monkeypatch.setattr(scoring, "MOST", 1e9)
    for kind, ways in scoring.watched(name, SEED).items():
        for way in ways:

            def account(question, kind=kind, way=way):
                return mystery.watchers(name, question).get(way) if question.kind == kind else other(question)

            # Watchers run the model, and that is what an account may not do: so they answer from what was kept.
            kept = {(q.kind, q.heads): account(q) for q in mystery.questions(name, SEED)}
            score = mystery.score(name, lambda question, kept=kept: kept[question.kind, question.heads], SEED)
            assert score.points[kind] == 0, way


def other(question):
    return question.says if question.kind != "remove" else torch.zeros(len(question.tokens), dtype=torch.bool)


def test_an_account_that_runs_a_model_is_stopped_and_the_model_runs_afterwards():
    model = mystery.load("amber")
    with pytest.raises(CourseError, match="may not run a model"):
        mystery.score("amber", lambda question: edits.answers(mystery.load("amber"), question.tokens), SEED)
    with pytest.raises(CourseError, match="nor load one"):  # to compute it by hand from its weights
        mystery.score("amber", lambda question: mystery.load("amber").W_E[question.tokens].sum((1, 2)).long(), SEED)
    with pytest.raises(CourseError, match="nor load one"):
        mystery.score("amber", lambda question: asked("amber", SEED)[0][1], SEED)
    with pytest.raises(CourseError, match="nor load one"):
        mystery.score("amber", lambda question: models.load("mystery/amber").W_E[question.tokens].long(), SEED)
    for remembered in (
        lambda: drawn("amber", SEED),
        lambda: rows.kept("amber"),
        lambda: edits.mean_z("amber"),
        lambda: scoring.watched("amber", SEED),
        lambda: models.shipped.state_dict("mystery/amber"),
        lambda: models.shipped.verified_file("mystery/amber", "model.safetensors"),
    ):
        remembered()
        with pytest.raises(CourseError, match="nor load one"):
            mystery.score("amber", lambda question, remembered=remembered: remembered(), SEED)
    with pytest.raises(CourseError, match="in model"):
        mystery.score("amber", lambda question: edits.answers(model, question.tokens), SEED)
    assert edits.answers(model, mystery.examples("amber", 2, seed=0)[0]).shape == (2,)
    assert models.load("mystery/amber").cfg.n_heads == 3


def test_an_account_that_writes_into_its_question_spoils_no_other():
    def in_place(question):
        said = question.says
        if question.kind != "remove":
            question.tokens[:, 1] = question.source[:, 1]
            return said.zero_()
        return said > 3

    first = mystery.score("amber", in_place, SEED)
    assert mystery.score("amber", in_place, SEED) == first
    for question, _ in asked("amber", SEED):
        assert torch.equal(question.says, edits.answers(mystery.load("amber"), question.tokens))


def test_what_a_learner_imports_has_no_answers(name):
    assert not {"answers", "swapped", "removed", "mean_z", "asked", "edits"} & set(mystery.__all__)
    assert all(isinstance(question, mystery.Question) for question in mystery.questions(name, SEED))


def test_a_copy_within_what_an_account_may_hold_is_below_the_bar():
    account, numbers = copies.tabled("amber", 8, mystery.MOST)
    assert numbers <= mystery.MOST
    assert mystery.score("amber", account, SEED).total < 80


def test_a_larger_copy_is_refused():
    net = nn.Sequential(nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 10))
    with pytest.raises(CourseError, match=r"holds 77\d numbers, 770 of them in net"):
        mystery.score("amber", lambda question: net(question.tokens.float()).argmax(1), SEED)


TABLE = torch.arange(144).view(12, 12)
NAMED = {"a": [1, 2, 3], "b": "0 1 2 word " + "x" * 50}


def double(x):
    return x * 2 + TABLE


def told():
    """0123456789 0123456789 0123456789 0123456789"""


def attributed(question):
    return attributed.table[question.says]


attributed.table = TABLE


def packed(question):
    """Twenty 20 30 40 50."""
    return torch.tensor(0)


def helped(question):
    from its_tables import TABLE

    return TABLE[question.says]


PACKED = torch.full((10,), 2**50)
DEQUE = deque(range(50))


class Kept:
    factor = 7

    def __init__(self):
        self.numbers = list(range(30))

    def __call__(self, question):
        return self.factor


@pytest.mark.parametrize(
    ("account", "holders"),
    [
        (lambda question: question.says, {}),
        (lambda question: TABLE[0], {"TABLE": 144}),
        (lambda question: double(3), {"TABLE": 144}),
        (lambda question, more=(1.5,) * 4 + (2.5,) * 4: more, {"its code": 8}),
        (lambda question, table=100 * [True]: table, {"its code": 100}),
        (lambda question, table=["up", "down"] * 20: table, {"its code": 40}),
        (lambda question, big=3**2000: big, {"its code": 199}),
        (lambda question, lines="0123456789 " * 12: lines, {"its code": 120}),
        (TABLE.__getitem__, {"its code": 144}),
        (functools.partial(lambda question, x: x, x=torch.zeros(20)), {"its code": 21}),
        (lambda question: NAMED, {"NAMED": 58}),
        (lambda question: question.TABLE + question.NAMED, {}),  # attributes, of the same names as variables
        (Kept(), {"its code": 33}),
        (Kept().__call__, {"its code": 33}),
        (functools.cache(lambda question: TABLE), {"TABLE": 144}),
        (lambda question: told() or 3, {}),
        (lambda question: told.__doc__, {"told": 40}),
        (lambda question: getattr(told, "__doc__"), {"told": 40}),  # noqa: B009
        (lambda question: [("0123456789 " * 4)[i] for i in question.says], {"its code": 40}),
        (packed, {}),
        (attributed, {"its code": 145}),
        (lambda question: PACKED[question.says], {"PACKED": 40}),
        (lambda question: DEQUE[3], {"DEQUE": 50}),
        (lambda question: range(1000), {}),
        (helped, {"its_tables.TABLE": 144}),
        (lambda question: torch.where(question.says > 2, mystery.NAMES, models), {}),
    ],
)
def test_what_an_account_holds(account, holders, tmp_path, monkeypatch):
    (tmp_path / "its_tables.py").write_text("TABLE, UNUSED = [*range(144)], [*range(99)]")
    monkeypatch.syspath_prepend(tmp_path)
    found = mystery.held(account)
    assert {name: number for name, number in found.items() if number > 5} == holders


@pytest.mark.parametrize(
    "wrong",
    [
        lambda question: None,
        lambda question: [0] * len(question.tokens),
        lambda question: torch.zeros(len(question.tokens)),
        lambda question: torch.zeros(3, dtype=torch.long),
        lambda question: torch.zeros(len(question.tokens), dtype=torch.bool),
    ],
)
def test_an_answer_that_is_not_one_value_a_row_is_refused(wrong):
    with pytest.raises(CourseError, match=r"swap L0H0: .*a letter"):
        mystery.score("amber", wrong, SEED)


def test_questions_are_what_they_say(name):
    model = mystery.load(name)
    for question, happened in asked(name, SEED):
        assert len(happened) == len(question.tokens) == 64
        assert torch.equal(question.says, edits.answers(model, question.tokens))
        if question.kind == "remove":
            after = edits.removed(model, name, question.tokens, question.heads[0])
            assert torch.equal(happened, after != question.says)
            continue
        assert torch.equal(question.source_says, edits.answers(model, question.source))
        assert torch.equal(happened, edits.swapped(model, question.tokens, question.source, question.heads))
        if question.kind == "swap":
            assert (question.says != question.source_says).all()
        else:
            plain = truth.after_swap(name, question.tokens, question.source, question.heads, blind=False)
            assert 0.4 < (happened != plain).float().mean() < 0.6


# The board

BOARD = list(problems.load_problems().values())


def test_there_are_fifteen_problems_or_more():
    assert len(BOARD) >= 15
    assert all(problem.id in problems.board().data for problem in BOARD)


@pytest.mark.parametrize("problem", BOARD, ids=lambda problem: problem.id)
def test_a_problem_is_whole(problem):
    assert problem.question.endswith("?")
    for part in ("why", "start", "done_when", "falsifier"):
        text = getattr(problem, part)
        assert len(text.split()) >= 8 and text[-1] in ".?", f"{part}: {text!r}"
        assert text in problems.show(problem.id).data
    assert re.match("if", problem.falsifier, re.IGNORECASE)
    assert problem.hours <= 12
    assert set(problem.needs) <= {notebook.id for notebook in load_course().notebooks}
    assert set(problem.models) <= {*models.names(), "smollm2", "trained here"}


def test_an_unknown_problem_is_refused_with_those_there_are():
    with pytest.raises(CourseError, match="latest-copy"):
        problems.show("nothing")
