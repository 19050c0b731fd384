"""What the algorithmic models claim, measured: for the datasheets that scripts/train/ writes and for the tests.

Every measure takes a TransformerBridge, so that the same number can be taken from a control: the model untrained.
Data for measuring come from seeds that no training uses.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from concrete_steps.games import brackets, modular_addition, othello

if TYPE_CHECKING:
    from transformer_lens.model_bridge import TransformerBridge

HELD_OUT = 987_654_321  # the training of step k with seed s draws from seed 1,000,003 s + k


@torch.no_grad()
def grokking(model: "TransformerBridge", frequencies: list[int], seed: int = 0) -> dict[str, float]:
    """Accuracy and loss on both parts of the pairs, and how much of embedding and logits lies in the given frequencies.

    train_accuracy, test_accuracy, train_loss, test_loss (nats); embedding_share: of the power of the numbers' embedding
    without its constant; cosine_share: of the logits' variance, see `modular_addition.cosine_share`.
    """
    found = {}
    for part, pairs in zip(("train", "test"), modular_addition.split_pairs(seed), strict=True):
        logits = modular_addition.fast_logits(model, pairs)
        loss, found[f"{part}_accuracy"] = modular_addition.loss_and_accuracy(logits, pairs)
        found[f"{part}_loss"] = loss.item()
    shares = modular_addition.frequency_shares(model.embed.weight[: modular_addition.P])
    found["embedding_share"] = sum(shares[k - 1].item() for k in frequencies)
    logits = modular_addition.fast_logits(model, modular_addition.all_pairs())
    found["cosine_share"] = modular_addition.cosine_share(logits, frequencies)
    return found


@torch.no_grad()
def bracket_classifier(model: "TransformerBridge", count: int = 5_000) -> dict[str, float]:
    """Accuracy on held-out strings: `accuracy` over all, `accuracy 0` to `accuracy 4` over each kind of brackets.KINDS.

    count_r2 L and dip_r2 L: among the strings that are not balanced, how well a linear map of the residual stream at
    START after layer L tells whether the count is wrong, and whether the height falls below 0 (share of the variance
    explained on strings that the map was not fitted to). A model that kept only its verdict would have neither.
    """
    tokens, balanced, kind = brackets.sample(count, torch.Generator().manual_seed(HELD_OUT))
    logits = torch.cat([brackets.classify(model, part) for part in tokens.split(500)])
    right = (logits.argmax(-1) == balanced.long()).double()
    found = {"accuracy": right.mean().item()}
    found |= {f"accuracy {which}": right[kind == which].mean().item() for which in brackets.KINDS}

    tokens = tokens[~balanced][:2000]
    height = brackets.heights(tokens)
    reasons = {"count_r2": height[:, -1] != 0, "dip_r2": height.amin(-1) < 0}
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)]
    _, cache = model.run_with_cache(tokens, attention_mask=(tokens != brackets.PAD).long(), names_filter=names)
    everywhere = torch.ones(len(tokens), 1, dtype=torch.bool)
    for layer, name in enumerate(names):
        for which, reason in reasons.items():
            predicted, actual = linear_probe(cache[name][:, :1], reason.float()[:, None, None], everywhere)
            unexplained = (predicted - actual).square().sum() / (actual - actual.mean()).square().sum()
            found[f"{which} {layer}"] = 1 - unexplained.item()
    return found


@torch.no_grad()
def othello_6x6(model: "TransformerBridge", count: int = 500) -> dict[str, float]:
    """On `count` held-out games, over all plies before a game's end:

    top1_legal: how often the likeliest move is legal. legal_mass: probability given to legal moves, mean. gap: loss
    minus its lowest possible value, in nats: the mean KL divergence from the uniform distribution over legal moves.
    mine_yours L, black_white L: share of squares whose state a linear probe of the residual stream after layer L reads
    rightly (empty, the mover's, the opponent's; or empty, black, white), on games that the probe was not fitted to.
    """
    games = othello.random_games(count, torch.Generator().manual_seed(HELD_OUT))
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(model.cfg.n_layers)]
    logits, cache = model.run_with_cache(games.inputs, names_filter=names)
    live = ~games.over
    log_probs, legal = logits.log_softmax(-1)[live], games.legal[live]
    n_legal = legal.sum(-1)
    found = {
        "top1_legal": legal.gather(-1, log_probs.argmax(-1, keepdim=True)).double().mean().item(),
        "legal_mass": (log_probs.exp() * legal).sum(-1).mean().item(),
        "gap": (-(log_probs * legal).sum(-1) / n_legal - n_legal.log()).mean().item(),
    }
    mover = torch.tensor([1, -1]).repeat(othello.PLIES // 2)[:, None]  # black at even plies
    views = {"mine_yours": games.boards * mover, "black_white": games.boards}
    states = torch.stack([(board[..., None] == torch.tensor([-1, 0, 1])) for board in views.values()], dim=2)
    for layer, name in enumerate(names):
        probed = linear_probe(cache[name], states.flatten(2).float(), live)
        guess, truth = (part.unflatten(-1, states.shape[2:]).argmax(-1) for part in probed)  # position view square
        for which, right in zip(views, (guess == truth).double().mean((0, 2)).tolist(), strict=True):
            found[f"{which} {layer}"] = right
    return found


def linear_probe(
    resid: Float[Tensor, "row pos d_model"], target: Float[Tensor, "row pos feature"], use: Bool[Tensor, "row pos"]
) -> tuple[Float[Tensor, "position feature"], Float[Tensor, "position feature"]]:
    """A ridge-regression map from residual stream to target, fitted on the first half of the rows: predictions and
    truth on the second half, at the positions to use.

    In float64, and with a ridge: the stream's dimensions are nearly collinear, and plain least squares gives other
    answers with another number of threads.
    """
    half = len(resid) // 2
    inputs = torch.nn.functional.pad(resid, (0, 1), value=1.0).double()  # a constant for the offset
    seen = inputs[:half][use[:half]]
    gram = seen.mT @ seen
    ridge = 1e-4 * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    fitted = torch.linalg.solve(gram + ridge, seen.mT @ target[:half][use[:half]].double())
    return inputs[half:][use[half:]] @ fitted, target[half:][use[half:]].double()
