"""Four abstracts in our words, for notebook 6.3: one sentence of four is supported, the others say more or other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import Markdown


@dataclass(frozen=True)
class Abstract:
    """What a paper's abstract says, in our words, and four sentences; `wrong` says what each unsupported one does."""

    paper: str
    link: str
    says: str
    options: dict[str, str]
    right: str
    wrong: dict[str, str]


ABSTRACTS = {
    1: Abstract(
        "Kantamneni et al. 2025, Are Sparse Autoencoders Useful?",
        "https://arxiv.org/abs/2502.16681",
        "Probes on the features of sparse autoencoders are tried in four hard settings: few data, uneven classes, "
        "wrong labels, shifted inputs. On single datasets they are sometimes better than baselines. No ensemble of "
        "both was found that is consistently better than an ensemble of baselines. Where they looked promising for "
        "other aims, simple methods did as well. Use for other tasks is not ruled out.",
        {
            "a": "Features of autoencoders never help a probe, on any dataset.",
            "b": "Added to good baselines, such features gave no steady gain.",
            "c": "Autoencoders find no features that a model really has in it.",
            "d": "Where labels are few, baselines are better than features are.",
        },
        "b",
        {
            "a": "it turns 'not consistently' into 'never'",
            "c": "it says more than was tested: whether features are the model's own is another question",
            "d": "it takes 'no steady gain' for 'worse'",
        },
    ),
    2: Abstract(
        "Miller, Chughtai and Saunders 2024, Transformer Circuit Faithfulness Metrics are not Robust",
        "https://arxiv.org/abs/2407.08734",
        "How well a circuit stands for the whole model is measured by ablating the rest. A survey of ways to do so "
        "finds the scores highly sensitive to changes of the ablation that seem insignificant. So a score reflects the "
        "researcher's choices as well as the circuit, and the task that a circuit must do depends on the ablation. The "
        "authors ask for clearer claims.",
        {
            "a": "The circuits that were published name the wrong components.",
            "b": "Faithfulness should be measured by ablation to the mean.",
            "c": "A score belongs to a circuit and an ablation, taken together.",
            "d": "A smaller circuit has a lower score than a larger one has.",
        },
        "c",
        {
            "a": "it goes from the score to the circuit: what is shown is that scores move",
            "b": "it recommends one way, and the abstract recommends none",
            "d": "it is about size, which the abstract does not speak of",
        },
    ),
    3: Abstract(
        "Prieto et al. 2025, Grokking at the Edge of Numerical Stability",
        "https://arxiv.org/abs/2501.04697",
        "Without regularisation, tasks that are known for grokking drive logits so far that the softmax loses terms to "
        "rounding, and learning stops. Where this is prevented, networks grok without regularisation. After the "
        "training data are fitted, gradients mostly scale the logits up, which explains the delay. A replaced softmax "
        "and a changed optimiser bear this out.",
        {
            "a": "Grokking was reached by networks without regularisation.",
            "b": "Weight decay does nothing to when a network generalises.",
            "c": "Grokking is caused by rounding, wherever it was observed.",
            "d": "The larger a network is, the less it loses to rounding.",
        },
        "a",
        {
            "b": "it takes 'possible without' for 'no effect': that was not compared",
            "c": "it turns the cause round: rounding is said to stop grokking, not to cause it",
            "d": "it is about size, which the abstract does not speak of",
        },
    ),
    4: Abstract(
        "Chughtai, Chan and Nanda 2023, A Toy Model of Universality",
        "https://arxiv.org/abs/2302.03025",
        "Small networks are trained to compose elements of a group. They consistently learn one algorithm, made from "
        "the group's representations, as logits, weights and ablations show. Over architectures and groups, the "
        "evidence on universality is mixed: the family of circuits can be characterised completely; which of them a "
        "given network learns, and in which order, is arbitrary.",
        {
            "a": "Two networks that learn one group have the same circuits.",
            "b": "What such a network learns cannot be foreseen at all.",
            "c": "Larger groups are learnt by another algorithm than small ones.",
            "d": "The family of circuits is shared, the choice in it is not.",
        },
        "d",
        {
            "a": "it is the strong form of universality, which the abstract denies",
            "b": "it forgets the half that can be foreseen: the family",
            "c": "it is about size, which the abstract does not speak of",
        },
    ),
}


def abstracts() -> Markdown:
    """The four abstracts with their sentences, as a page."""
    from IPython.display import Markdown

    blocks = []
    for number, its in ABSTRACTS.items():
        options = "\n".join(f"- ({letter}) {text}" for letter, text in its.options.items())
        blocks.append(f"**{number}.** [{its.paper}]({its.link}). {its.says}\n\n{options}")
    return Markdown("\n\n".join(blocks))
