# %% [markdown]
# # 2.0 What of step 2 can you do already?
#
# Ten small exercises, some 40 minutes, two for each notebook of this step. They are not the notebooks' own. Give each a
# few minutes and no more.
#
# **Not to try an exercise is a fine answer.** It says: this notebook is for me. Nobody needs to know these things
# before the step that teaches them.
#
# ![Two exercises for a notebook: both passed, skip it; one, skim it; none, work through
# it](../1_prerequisites/figures/1.0_placement.svg)
# %% generated="overview"
# %% [markdown]
# There are no hints here. When you are done, run `concrete_steps.placement(2)` in a new cell, or
# `python scripts/placement.py 2` in a terminal: it says which notebooks to skip, which to skim, and where to begin.
# Nothing is sent anywhere, and you can come back after a notebook and see what has changed.
# %% setup=True
import math

import torch
from einops import einsum, rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor

# %% [markdown]
# ## 1. Tokens
#
# A tokenizer of byte-pair encoding has learned some merges. (Here they join letters, to be easy to read.) Given a
# piece of text, which of them does it use?
# %% exercise="merges_used" points=1 difficulty=3 minutes=4
def merges_used(piece: str, merges: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The merges by which the piece becomes tokens, each once, in the order of learning.

    Args:
        merges: (left, right), in the order of learning. Each makes another string.
    """
    ### BEGIN SOLUTION
    symbols, used = list(piece), []
    for left, right in merges:
        joined, i = [], 0
        while i < len(symbols):
            found = symbols[i : i + 2] == [left, right]
            joined.append(left + right if found else symbols[i])
            i += 2 if found else 1
        if len(joined) < len(symbols):
            used.append((left, right))
        symbols = joined
    return used
    ### END SOLUTION


# %% check="merges_used"
# %% [markdown]
# A model writes, and a chat window shows its text token by token. Tokens are bytes; together they are a text in UTF-8,
# but one may end within a character. A character is shown as soon as all of it is there.
# %% exercise="stream_text" points=1 difficulty=3 minutes=4
def stream_text(tokens: list[bytes]) -> list[str]:
    """What each token adds to the screen: the characters that are whole once it has come."""
    ### BEGIN SOLUTION
    added, waiting = [], b""
    for token in tokens:
        waiting += token
        for cut in range(len(waiting), -1, -1):  # the longest beginning that is text
            try:
                added.append(waiting[:cut].decode())
                break
            except UnicodeDecodeError:
                continue
        waiting = waiting[cut:]
    return added
    ### END SOLUTION


# %% check="stream_text"
# %% [markdown]
# ## 2. Attention by hand
#
# A causal head knows nothing of a position but its token. So the scores of all queries and keys come from one table,
# which has the division by $\sqrt{d_\text{head}}$ in it already.
# %% exercise="pattern_from_table" points=1 difficulty=2 minutes=3
def pattern_from_table(
    table: Float[Tensor, "vocab vocab"], tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "batch query key"]:
    """The head's attention pattern. `table[i, j]` is the score of a query whose token is i
    with a key whose token is j.
    """
    ### BEGIN SOLUTION
    scores = table[tokens[:, :, None], tokens[:, None, :]]
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(-1)
    ### END SOLUTION


# %% check="pattern_from_table"
# %% [markdown]
# Now two layers. Heads of layer 0 have written a note at each position: which token stands so many places before it. A
# head of layer 1 looks where the note of the key equals the note of the query; a note of 0 places is the position's
# own token. With `query_back=0` and `key_back=1` this is induction.
# %% exercise="matching_keys" points=1 difficulty=3 minutes=4
def matching_keys(
    tokens: Int[Tensor, "batch pos"], query_back: int, key_back: int
) -> Bool[Tensor, "batch query key"]:
    """True where the head may look, keys up to the query's own position, and finds a match.

    The query at position i holds token i - query_back, the key at j holds token j - key_back.
    Where the text has no such place there is no note, and no match.
    """
    ### BEGIN SOLUTION
    pos = torch.arange(tokens.shape[1], device=tokens.device)
    query, key = pos - query_back, pos - key_back
    same = tokens[:, query.clamp(min=0)][:, :, None] == tokens[:, key.clamp(min=0)][:, None, :]
    has_notes = (query >= 0)[:, None] & (key >= 0)
    return same & has_notes & (pos <= pos[:, None])
    ### END SOLUTION


# %% check="matching_keys"
# %% [markdown]
# ## 3. GPT-2
#
# GPT-2's attention, with the weights as its files have them. One matrix makes queries, keys and values: the first third
# of its columns the queries, then the keys, then the values. In each third one head comes after another.
# %% exercise="packed_attention" points=2 difficulty=4 minutes=6
def packed_attention(
    x: Float[Tensor, "batch pos d_model"],
    W_qkv: Float[Tensor, "d_model 3*d_model"],
    b_qkv: Float[Tensor, "3*d_model"],
    W_out: Float[Tensor, "d_model d_model"],
    b_out: Float[Tensor, "d_model"],
    n_heads: int,
) -> Float[Tensor, "batch pos d_model"]:
    """What causal multi-head attention adds to the stream; x is normalised already."""
    ### BEGIN SOLUTION
    packed = "batch pos (three head d_head) -> three batch head pos d_head"
    q, k, v = rearrange(x @ W_qkv + b_qkv, packed, three=3, head=n_heads)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    later = torch.ones_like(scores, dtype=torch.bool).triu(1)
    z = scores.masked_fill(later, -torch.inf).softmax(-1) @ v
    return rearrange(z, "batch head pos d_head -> batch pos (head d_head)") @ W_out + b_out
    ### END SOLUTION


# %% check="packed_attention"
# %% [markdown]
# How many numbers does a GPT-2 hold, and where? It has biases wherever GPT-2 has them, and its unembedding is the
# embedding once more. For GPT-2 small the sum is 124,439,808.
# %% exercise="parameters_by_part" points=1 difficulty=2 minutes=4
def parameters_by_part(
    n_layers: int,
    d_model: int,
    n_heads: int,
    d_head: int,
    d_mlp: int,
    n_ctx: int,
    d_vocab: int,
) -> dict[str, int]:
    """The parameters of "embed", "pos_embed", "attention", "mlp" and "norms", in all layers.

    Nothing is counted twice; "norms" has every LayerNorm of the model.
    """
    ### BEGIN SOLUTION
    inner = n_heads * d_head
    attention = 3 * (d_model * inner + inner) + inner * d_model + d_model
    mlp = d_model * d_mlp + d_mlp + d_mlp * d_model + d_model
    return {
        "embed": d_vocab * d_model,
        "pos_embed": n_ctx * d_model,
        "attention": n_layers * attention,
        "mlp": n_layers * mlp,
        "norms": (2 * n_layers + 1) * 2 * d_model,
    }
    ### END SOLUTION


# %% check="parameters_by_part"
# %% [markdown]
# ## 4. Training and sampling
#
# A chat model is trained on its replies alone. In each row the reply is the tokens at positions `start` up to, but
# without, `end`; before it stands a prompt, and behind it padding.
# %% exercise="reply_loss" points=1 difficulty=3 minutes=4
def reply_loss(
    logits: Float[Tensor, "batch pos vocab"],
    tokens: Int[Tensor, "batch pos"],
    start: Int[Tensor, "batch"],
    end: Int[Tensor, "batch"],
) -> Float[Tensor, ""]:
    """Mean of -log p, in nats, over the tokens of all replies; each token counts the same.

    logits are what a language model gives for tokens. Every start is 1 or more.
    """
    ### BEGIN SOLUTION
    losses = -logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    pos = torch.arange(1, tokens.shape[1], device=tokens.device)
    counts = (pos >= start[:, None]) & (pos < end[:, None])
    return losses[counts].mean()
    ### END SOLUTION


# %% check="reply_loss"
# %% [markdown]
# Another way to cut off the tail. **Min-p** keeps a token if its probability is at least `share` times that of the
# likeliest one: few tokens where the model is sure, many where it is not.
# %% exercise="min_p" points=1 difficulty=2 minutes=3
def min_p(logits: Float[Tensor, "... vocab"], share: float) -> Float[Tensor, "... vocab"]:
    """Logits of the tokens that are kept, as they are; all others at minus infinity.

    Args:
        share: above 0, and at most 1.
    """
    ### BEGIN SOLUTION
    least = logits.amax(-1, keepdim=True) + math.log(share)
    return logits.masked_fill(logits < least, -torch.inf)
    ### END SOLUTION


# %% check="min_p"
# %% [markdown]
# ## 5. Llama
#
# Rotary embedding turns pair $i$ of a query or key, coordinates $i$ and $i + d_\text{head}/2$, by the angle
# $m\,\theta^{-2i/d_\text{head}}$ at position $m$.
# %% exercise="scores_at_distance" points=2 difficulty=3 minutes=5
def scores_at_distance(
    q: Float[Tensor, "d_head"],
    k: Float[Tensor, "d_head"],
    distances: Int[Tensor, "n"],
    theta: float,
) -> Float[Tensor, "n"]:
    """The dot product of the turned query and the turned key, for each distance: how many
    positions the key stands before the query. In the dtype that q and k have.
    """
    ### BEGIN SOLUTION
    half = len(q) // 2
    frequencies = theta ** (-torch.arange(half, dtype=q.dtype, device=q.device) / half)
    angles = distances[:, None] * frequencies
    alike = q[:half] * k[:half] + q[half:] * k[half:]
    across = q[half:] * k[:half] - q[:half] * k[half:]
    return einsum(angles.cos(), alike, "n pair, pair -> n") - einsum(angles.sin(), across, "n pair, pair -> n")
    ### END SOLUTION


# %% check="scores_at_distance"
# %% [markdown]
# In a trained model each head has keys of its own. To go on with grouped-query attention, each key-value head begins as
# the mean of the heads that it stands for (Ainslie et al. 2023).
# %% exercise="share_heads" points=1 difficulty=2 minutes=3
def share_heads(
    W_K: Float[Tensor, "n_heads d_model d_head"], n_kv_heads: int
) -> Float[Tensor, "n_kv_heads d_model d_head"]:
    """W_K for grouped queries, in the order in which Llama's query heads read them."""
    ### BEGIN SOLUTION
    return reduce(W_K, "(kv group) d_model d_head -> kv d_model d_head", "mean", kv=n_kv_heads)
    ### END SOLUTION


# %% check="share_heads"
# %% [markdown]
# ## What now
#
# Run `concrete_steps.placement(2)` in a new cell. A notebook that it says to skim: read its criteria, and do the
# exercises of those that you doubt. One to work through takes two to five hours, by our guess.
