"""Wrong answers to 3.2 Attention heads and induction, and what each of them is."""

import functools
import random

import einops
import torch

from concrete_steps.checking.mistakes import mistake, right

# --- 1. and 2. Where a head looks


@mistake("counts query 0 too, which can only look at itself, and query 1: begin with query 2")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1).mean((0, 2))


@mistake("leaves out query 0, but not query 1")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 1:].mean((0, 2))


@mistake("takes the mean over heads, too: each head has a score of its own")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 2:].mean()


@mistake("keeps the batch: take the mean over it, too")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 2:].mean(-1)


@mistake("adds the weights up: divide by the number of queries and rows")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 2:].sum((0, 2))


def _below(pattern, offset, leave_out):
    return pattern.diagonal(-offset, dim1=-2, dim2=-1)[..., leave_out:].mean((0, 2))


@mistake("counts query 1 too, whose previous position is the first: the diagonal at -1 begins with query 1, not 0")
def previous_token_score(pattern):
    return _below(pattern, 1, 0)


@mistake("leaves out query 2 as well: the diagonal at -1 begins with query 1, so only one entry goes")
def previous_token_score(pattern):
    return _below(pattern, 1, 2)


@mistake("looks at the query itself: the offset is missing")
def previous_token_score(pattern):
    return _below(pattern, 0, 2)


@mistake("looks at the next position, above the diagonal, where a causal pattern is 0: the offset is negative")
def previous_token_score(pattern):
    return pattern.diagonal(1, dim1=-2, dim2=-1)[..., 1:].mean((0, 2))


@mistake("looks two positions back")
def previous_token_score(pattern):
    return _below(pattern, 2, 0)


@mistake("counts queries 0 and 1, too: begin with query 2")
def first_token_score(pattern):
    return pattern[..., 0].mean((0, 2))


@mistake("takes what query 0 looks at, a row: the key is the last axis")
def first_token_score(pattern):
    return pattern[:, :, 0, 2:].mean((0, 2))


@mistake("looks at key 1: positions are counted from 0")
def first_token_score(pattern):
    return pattern[:, :, 2:, 1].mean((0, 2))


@mistake("counts how often position 0 has the largest weight: the score is the mean weight")
def first_token_score(pattern):
    return (pattern[:, :, 2:].argmax(-1) == 0).float().mean((0, 2))


@right("a loop over queries")
def current_token_score(pattern):
    n = pattern.shape[-1]
    return sum(pattern[:, :, q, q] for q in range(2, n)).mean(0) / (n - 2)


@right("a mask")
def current_token_score(pattern):
    n = pattern.shape[-1]
    mask = torch.eye(n, dtype=torch.bool, device=pattern.device)
    mask[:2] = False
    return pattern[:, :, mask].mean((0, -1))


@right("einsum")
def current_token_score(pattern):
    late = pattern[:, :, 2:, 2:]
    return torch.einsum("bhqq->h", late) / (late.shape[0] * late.shape[2])


@mistake("keeps an axis of size 1: use .mean((0, 2)), which takes both away")
def current_token_score(pattern):
    return pattern.diagonal(dim1=-2, dim2=-1)[..., 2:].mean((0, 2), keepdim=True)


@right("advanced indexing")
def previous_token_score(pattern):
    queries = torch.arange(2, pattern.shape[-1])
    return pattern[:, :, queries, queries - 1].mean(dim=(0, 2))


@right("shift, then the diagonal")
def previous_token_score(pattern):
    return einops.reduce(pattern[:, :, 1:, :-1].diagonal(dim1=2, dim2=3)[..., 1:], "b h q -> h", "mean")


@right("einops")
def first_token_score(pattern):
    return einops.reduce(pattern[:, :, 2:, 0], "batch head query -> head", "mean")


@right("select, then two means")
def first_token_score(pattern):
    return pattern.select(-1, 0)[..., 2:].mean(-1).mean(0)


@mistake("nothing of the text can be read there: attention is causal, and position 0 has seen the start token alone")
def answer_rest():
    return "a"


@mistake("weight is not importance: what is moved from the start token is the same in every text")
def answer_rest():
    return "b"


# --- 3. Repeated tokens


def _once(rows, block, ordinary, seed):
    generator = torch.Generator().manual_seed(seed)
    return ordinary[torch.randint(len(ordinary), (rows, block), generator=generator)]


def _after(bos, *parts):
    return torch.cat([torch.full((len(parts[0]), 1), bos), *parts], dim=1)


@mistake("leaves bos out")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _once(rows, block, ordinary, seed)
    return torch.cat([once, once], dim=1)


@mistake("puts bos before the second copy, too")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _after(bos, _once(rows, block, ordinary, seed))
    return torch.cat([once, once], dim=1)


@mistake("draws the second half anew: it must repeat the first")
def repeated_tokens(rows, block, bos, ordinary, seed):
    return _after(bos, _once(rows, 2 * block, ordinary, seed))


@mistake("repeats each token at once (A A B B): the whole block comes again (A B A B)")
def repeated_tokens(rows, block, bos, ordinary, seed):
    return _after(bos, _once(rows, block, ordinary, seed).repeat_interleave(2, dim=1))


@mistake("gives places in the list of ordinary tokens, not the tokens: index the list with them")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _once(rows, block, torch.arange(len(ordinary)), seed)
    return _after(bos, once, once)


@mistake("draws from all tokens up to the largest, special ones included: draw from ordinary")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _once(rows, block, torch.arange(int(ordinary.max()) + 1), seed)
    return _after(bos, once, once)


@mistake("gives every row the same block")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = _once(1, block, ordinary, seed).expand(rows, -1)
    return _after(bos, once, once)


@mistake("does not use the seed: the same seed gives other tokens each time")
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = ordinary[torch.randint(len(ordinary), (rows, block))]
    return _after(bos, once, once)


@mistake("shuffles the list, so that no token can come twice in a block: draws are independent")
def repeated_tokens(rows, block, bos, ordinary, seed):
    generator = torch.Generator().manual_seed(seed)
    once = torch.stack([ordinary[torch.randperm(len(ordinary), generator=generator)[:block]] for _ in range(rows)])
    return _after(bos, once, once)


@mistake(
    "seeds row r with seed + r, so that another seed gives the same rows again, moved by one: one generator for all"
)
def repeated_tokens(rows, block, bos, ordinary, seed):
    once = torch.cat([_once(1, block, ordinary, seed + row) for row in range(rows)])
    return _after(bos, once, once)


@mistake("sets the global seed (torch.manual_seed), and so everybody else's random numbers: make a torch.Generator")
def repeated_tokens(rows, block, bos, ordinary, seed):
    torch.manual_seed(seed)
    once = ordinary[torch.randint(len(ordinary), (rows, block))]
    return _after(bos, once, once)


@right("Python's random, a generator of its own")
def repeated_tokens(rows, block, bos, ordinary, seed):
    draw, listed = random.Random(seed), ordinary.tolist()
    blocks = [[draw.choice(listed) for _ in range(block)] for _ in range(rows)]
    return torch.tensor([[bos, *once, *once] for once in blocks])


@right("multinomial, repeat and pad")
def repeated_tokens(rows, block, bos, ordinary, seed):
    generator = torch.Generator().manual_seed(seed)
    places = torch.multinomial(torch.ones(rows, len(ordinary)), block, replacement=True, generator=generator)
    return torch.nn.functional.pad(ordinary[places].repeat(1, 2), (1, 0), value=bos)


@right("writes into a tensor")
def repeated_tokens(rows, block, bos, ordinary, seed):
    g = torch.Generator()
    g.manual_seed(seed)
    out = torch.empty(rows, 2 * block + 1, dtype=torch.long).fill_(bos)
    for row in range(rows):
        for i in range(block):
            out[row, 1 + i] = out[row, 1 + block + i] = ordinary[torch.randint(0, len(ordinary), (), generator=g)]
    return out


# --- 4. The stripe


def _stripe(pattern, back, first=1):
    """Key = query - block + back, over the queries from block + first on."""
    block = pattern.shape[-1] // 2
    queries = torch.arange(block + first, 2 * block + 1)
    return pattern[:, :, queries, queries - block + back].mean((0, 2))


@mistake("looks at the first copy of the token (key query - block), as duplicate-token heads do: take the key after")
def induction_score(pattern):
    return _stripe(pattern, 0)


@mistake("looks two positions after the first copy, not one")
def induction_score(pattern):
    return _stripe(pattern, 2)


@mistake("counts a query of the first copy, too: the second copy begins at block + 1, because of bos")
def induction_score(pattern):
    return _stripe(pattern, 1, first=0)


@mistake("takes the whole diagonal: its first two entries belong to queries of the first copy")
def induction_score(pattern):
    return _stripe(pattern, 1, first=-1)


@mistake("forgets that bos moves everything by one: its key is one position too early, and its queries, too")
def induction_score(pattern):
    block = pattern.shape[-1] // 2
    queries = torch.arange(block, 2 * block)
    return pattern[:, :, queries, queries - block + 1].mean((0, 2))


@mistake("leaves out the last query: its key, the first token of the second copy, comes after the first copy as well")
def induction_score(pattern):
    block = pattern.shape[-1] // 2
    queries = torch.arange(block + 1, 2 * block)
    return pattern[:, :, queries, queries - block + 1].mean((0, 2))


@mistake("takes the mean over heads, too: each head has a score of its own")
def induction_score(pattern):
    return _stripe(pattern, 1).mean()


@mistake("divides by the number of all positions: the mean is over the queries of the second copy")
def induction_score(pattern):
    return _stripe(pattern, 1) * (pattern.shape[-1] // 2) / pattern.shape[-1]


@right("the diagonal, cut")
def induction_score(pattern):
    block = (pattern.shape[-2] - 1) // 2
    return pattern.diagonal(1 - block, dim1=-2, dim2=-1)[..., 2:].mean((0, -1))


@right("a loop over the tokens of the block")
def induction_score(pattern):
    block = (pattern.size(2) - 1) // 2
    total = torch.zeros_like(pattern[:, :, 0, 0])
    for i in range(1, block + 1):
        total = total + pattern[:, :, block + i, i + 1]
    return (total / block).mean(0)


@mistake("induction heads look one position further, at what came after the first copy: query - block + 1")
def answer_stripe():
    return "b"


@mistake("the previous token is at query - 1; the block is longer than that")
def answer_stripe():
    return "c"


def _heights(z, W_O, W_U):
    """[row pos head d_vocab]: what each head adds to the logits, in standard deviations above the mean."""
    added = torch.einsum("rphd,hdm,mv->rphv", z, W_O, W_U)
    return (added - added.mean(-1, keepdim=True)) / added.std(-1, keepdim=True)


def _at_next(heights, tokens, first=1, last=0, ahead=1):
    block = tokens.shape[1] // 2
    queries = torch.arange(block + first, 2 * block + last)
    places = tokens[:, queries + ahead, None, None].expand(-1, -1, heights.shape[2], -1)
    return heights[:, queries].gather(-1, places)[..., 0].mean((0, 1))


@mistake("reads the logit of the query's own token: the head copies the next one, tokens[:, query + 1]")
def copying_score(z, W_O, W_U, tokens):
    return _at_next(_heights(z, W_O, W_U), tokens, ahead=0)


@mistake("takes queries of the first copy as well: they have nothing to copy yet")
def copying_score(z, W_O, W_U, tokens):
    return _at_next(_heights(z, W_O, W_U), tokens, first=-(tokens.shape[1] // 2))


@mistake("begins one query early, with the last of the first copy: the second copy begins at block + 1, because of bos")
def copying_score(z, W_O, W_U, tokens):
    return _at_next(_heights(z, W_O, W_U), tokens, first=0)


@mistake("leaves out the last two queries: only the last one has no next token")
def copying_score(z, W_O, W_U, tokens):
    return _at_next(_heights(z, W_O, W_U), tokens, last=-1)


@mistake("does not subtract the mean over the vocabulary")
def copying_score(z, W_O, W_U, tokens):
    added = torch.einsum("rphd,hdm,mv->rphv", z, W_O, W_U)
    return _at_next(added / added.std(-1, keepdim=True), tokens)


@mistake("does not divide by the standard deviation over the vocabulary")
def copying_score(z, W_O, W_U, tokens):
    added = torch.einsum("rphd,hdm,mv->rphv", z, W_O, W_U)
    return _at_next(added - added.mean(-1, keepdim=True), tokens)


@mistake("divides by the variance: the standard deviation is its root")
def copying_score(z, W_O, W_U, tokens):
    added = torch.einsum("rphd,hdm,mv->rphv", z, W_O, W_U)
    return _at_next((added - added.mean(-1, keepdim=True)) / added.var(-1, keepdim=True), tokens)


@mistake("adds up all heads before it looks: each head's own part of the logits, by itself")
def copying_score(z, W_O, W_U, tokens):
    added = torch.einsum("rphd,hdm,mv->rpv", z, W_O, W_U)[:, :, None].expand(-1, -1, z.shape[2], -1)
    return _at_next((added - added.mean(-1, keepdim=True)) / added.std(-1, keepdim=True), tokens)


@mistake("divides by d_vocab where x.std() divides by d_vocab - 1")
def copying_score(z, W_O, W_U, tokens):
    n = W_U.shape[1]
    return _at_next(_heights(z, W_O, W_U), tokens) * (n / (n - 1)) ** 0.5


@mistake("takes the mean over heads, too: each head has a score of its own")
def copying_score(z, W_O, W_U, tokens):
    return _at_next(_heights(z, W_O, W_U), tokens).mean()


@right("all heads at once")
def copying_score(z, W_O, W_U, tokens):
    return _at_next(_heights(z, W_O, W_U), tokens)


@right("the circuit W_O W_U first, and a loop over rows and queries")
def copying_score(z, W_O, W_U, tokens):
    rows, n = tokens.shape
    scores = []
    for circuit, its in zip(W_O @ W_U, z.unbind(2), strict=True):
        seen = []
        for row in range(rows):
            for query in range(n // 2 + 1, n - 1):
                logits = its[row, query] @ circuit
                seen.append((logits[tokens[row, query + 1]] - logits.mean()) / logits.std())
        scores.append(torch.stack(seen).mean())
    return torch.stack(scores)


@right("standardised by a library")
def copying_score(z, W_O, W_U, tokens):
    block = (z.shape[1] - 1) // 2
    added = torch.einsum("rqhd,hdm->rqhm", z[:, block + 1 : -1], W_O) @ W_U
    n = added.shape[-1]
    even = torch.nn.functional.layer_norm(added, (n,), eps=0.0) * ((n - 1) / n) ** 0.5
    next_token = torch.nn.functional.one_hot(tokens[:, block + 2 :], n).to(even.dtype)
    return torch.einsum("rqhv,rqv->h", even, next_token) / (z.shape[0] * (block - 1))


# --- 5. A hook that watches


@right("a loop over heads")
def induction_hook(pattern, hook, scores):
    for head in range(pattern.shape[1]):
        scores[hook.layer(), head] = _stripe(pattern[:, [head]], 1)[0]


@right("copy_, and the pattern returned")
def induction_hook(pattern, hook, scores):
    scores[int(hook.name.split(".")[1])].copy_(_stripe(pattern, 1))
    return pattern


@mistake("returns the scores, and what a hook returns replaces the activation: return nothing")
def induction_hook(pattern, hook, scores):
    scores[hook.layer()] = _stripe(pattern, 1)
    return scores


@mistake("leaves scores as it was: write into the tensor, scores[...] = ...; scores = ... only reuses the name")
def induction_hook(pattern, hook, scores):
    scores = _stripe(pattern, 1)  # noqa: F841


@mistake("writes into every row: this layer's row is hook.layer()")
def induction_hook(pattern, hook, scores):
    scores[:] = _stripe(pattern, 1)


@mistake("always writes into row 0: this layer's row is hook.layer()")
def induction_hook(pattern, hook, scores):
    scores[0] = _stripe(pattern, 1)


@mistake("adds to what is there: the row is to hold the scores alone")
def induction_hook(pattern, hook, scores):
    scores[hook.layer()] += _stripe(pattern, 1)


@mistake("gives every head of the layer the same number")
def induction_hook(pattern, hook, scores):
    scores[hook.layer()] = _stripe(pattern, 1).mean()


# --- 6. Hooks that edit


@mistake("returns a copy in which nothing has changed")
def zero_ablate(z, hook, heads):
    return z.clone()


@mistake("forgets to return: then the model goes on with the z that it had")
def zero_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads] = 0


@mistake("ablates every head, not the listed ones")
def zero_ablate(z, hook, heads):
    return torch.zeros_like(z)


@mistake("changes z itself: write into z.clone()")
def zero_ablate(z, hook, heads):
    z[:, :, heads] = 0
    return z


@mistake("ablates positions: heads are axis 2 of [batch pos head d_head]")
def zero_ablate(z, hook, heads):
    z = z.clone()
    z[:, [head for head in heads if head < z.shape[1]]] = 0
    return z


@mistake("ablates entries of d_head, in all heads: heads are axis 2 of [batch pos head d_head]")
def zero_ablate(z, hook, heads):
    z = z.clone()
    z[..., [head for head in heads if head < z.shape[-1]]] = 0
    return z


@mistake("ablates all heads but the listed ones")
def zero_ablate(z, hook, heads):
    out = torch.zeros_like(z)
    out[:, :, heads] = z[:, :, heads]
    return out


@mistake("ablates the first head of the list only")
def zero_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads[0]] = 0
    return z


def _with_mean(z, heads, axes):
    z = z.clone()
    z[:, :, heads] = z[:, :, heads].mean(axes, keepdim=True).expand_as(z[:, :, heads])
    return z


@mistake("takes the mean over the batch only, another at each position: mean over positions, too")
def mean_ablate(z, hook, heads):
    return _with_mean(z, heads, 0)


@mistake("takes the mean over positions only, another in each row: mean over the batch, too")
def mean_ablate(z, hook, heads):
    return _with_mean(z, heads, 1)


@mistake("takes the mean over the listed heads, too: each head has a mean of its own")
def mean_ablate(z, hook, heads):
    return _with_mean(z, heads, (0, 1, 2))


@mistake("takes the mean over d_head, too, one number: the mean of a head is a vector [d_head]")
def mean_ablate(z, hook, heads):
    return _with_mean(z, heads, (0, 1, 3))


@mistake("puts the mean over heads in place: the mean is over batch and positions, of each head by itself")
def mean_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads] = z.mean(2, keepdim=True)
    return z


@mistake("puts 0 in place, not the mean")
def mean_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads] = 0
    return z


@mistake("ablates every head, not the listed ones")
def mean_ablate(z, hook, heads):
    return z.mean((0, 1)).expand_as(z).clone()


@mistake("changes z itself: write into z.clone()")
def mean_ablate(z, hook, heads):
    z[:, :, heads] = z[:, :, heads].mean((0, 1))
    return z


@mistake("forgets to return: then the model goes on with the z that it had")
def mean_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads] = z[:, :, heads].mean((0, 1))


@right("a mask times z")
def zero_ablate(z, hook, heads):
    keep = torch.ones(z.shape[2], dtype=z.dtype, device=z.device)
    keep[heads] = 0
    return z * keep[:, None]


@right("index_fill")
def zero_ablate(z, hook, heads):
    return z.index_fill(2, torch.tensor(heads, dtype=torch.long), 0.0)


@right("stacks head by head")
def mean_ablate(z, hook, heads):
    parts = [part.mean((0, 1)).expand_as(part) if i in heads else part for i, part in enumerate(z.unbind(2))]
    return torch.stack(parts, dim=2)


@right("where")
def mean_ablate(z, hook, heads):
    listed = torch.tensor([head in heads for head in range(z.shape[2])])
    return torch.where(listed[:, None], z.mean((0, 1), keepdim=True), z)


@mistake("takes the median, not the mean")
def mean_ablate(z, hook, heads):
    z = z.clone()
    z[:, :, heads] = z[:, :, heads].flatten(0, 1).median(0).values
    return z


@mistake("zero ablation takes the mean away as well: if its variation mattered, both kinds would hurt")
def answer_zero():
    return "a"


@mistake("both can be right: they differ by what the head adds everywhere alike")
def answer_zero():
    return "c"


# --- 7. Which heads matter


def _losses(logits, tokens):
    """[row], on the second copy without its first token."""
    log_probs = logits[:, :-1].log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return -log_probs[:, tokens.shape[1] // 2 + 1 :].mean(-1)


def _z(layer):
    return f"blocks.{layer}.attn.hook_z"


@torch.no_grad()
def _loss_without(model, tokens, heads, ablate):
    hooks = [(_z(layer), lambda z, hook, head=head: ablate(z, hook, [head])) for layer, head in heads]
    return _losses(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)


@mistake("makes hooks in a loop that look variables up when they run: then all have the last ones; use partial")
@torch.no_grad()
def loss_without(model, tokens, heads, ablate):
    hooks = [(_z(layer), lambda z, hook: ablate(z, hook, [head])) for layer, head in heads]  # noqa: B023
    return _losses(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)


@mistake(
    "makes hooks in a loop over layers that look the layer up when they run: then all have the last one; use partial"
)
@torch.no_grad()
def loss_without(model, tokens, heads, ablate):
    hooks = []
    for layer in range(model.cfg.n_layers):
        hooks.append((_z(layer), lambda z, hook: ablate(z, hook, [h for its, h in heads if its == layer])))  # noqa: B023
    return _losses(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)


@mistake(
    "makes hooks in a loop over the layers of the list that look them up when they run: then all have the last one"
)
@torch.no_grad()
def loss_without(model, tokens, heads, ablate):
    hooks, by_layer = [], _by_layer(heads)
    for layer, here in by_layer.items():
        hooks.append((_z(layer), lambda z, hook: ablate(z, hook, here)))  # noqa: B023
    return _losses(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)


@mistake("counts the first token of the second copy, which nothing foretells: copy_loss leaves it out")
@torch.no_grad()
def loss_without(model, tokens, heads, ablate):
    hooks = [(_z(layer), lambda z, hook, head=head: ablate(z, hook, [head])) for layer, head in heads]
    log_probs = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, :-1].log_softmax(-1)
    losses = -log_probs.gather(-1, tokens[:, 1:, None])[..., 0]
    return losses[:, tokens.shape[1] // 2 :].mean(-1)


@mistake("takes the mean over all positions: copy_loss counts the second copy only")
@torch.no_grad()
def loss_without(model, tokens, heads, ablate):
    hooks = [(_z(layer), lambda z, hook, head=head: ablate(z, hook, [head])) for layer, head in heads]
    log_probs = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, :-1].log_softmax(-1)
    return -log_probs.gather(-1, tokens[:, 1:, None])[..., 0].mean(-1)


@mistake("keeps a gradient: run the model under torch.no_grad()")
def loss_without(model, tokens, heads, ablate):
    hooks = [(_z(layer), lambda z, hook, head=head: ablate(z, hook, [head])) for layer, head in heads]
    return _losses(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)


@mistake("your code changes the model it was given: requires_grad of")
def loss_without(model, tokens, heads, ablate):
    model.requires_grad_(False)
    return _loss_without(model, tokens, heads, ablate)


@mistake("empties the list of heads that it was given (pop): go over it, or copy it")
def loss_without(model, tokens, heads, ablate):
    taken = []
    while heads:
        taken.append(heads.pop())
    return _loss_without(model, tokens, taken, ablate)


@right("the context manager, a hook for each layer, and a default argument")
def loss_without(model, tokens, heads, ablate):
    def make(layer):
        mine = [head for its, head in heads if its == layer]
        return lambda z, hook: ablate(z, hook, heads=mine)

    layers = sorted({layer for layer, _ in heads})
    with torch.no_grad(), model.hooks(fwd_hooks=[(_z(layer), make(layer)) for layer in layers]):
        return _losses(model(tokens), tokens)


@right("one hook for all layers, found by hook.layer()")
@torch.no_grad()
def loss_without(model, tokens, heads, ablate):
    def edit(z, hook):
        here = [head for layer, head in heads if layer == hook.layer()]
        return ablate(z, hook, heads=here) if here else z

    logits = model.run_with_hooks(tokens, fwd_hooks=[(lambda name: name.endswith("hook_z"), edit)])
    return _losses(logits, tokens)


@right("add_hook, taken away again; detach")
def loss_without(model, tokens, heads, ablate):
    for layer, here in _by_layer(heads).items():
        model.add_hook(_z(layer), functools.partial(ablate, heads=here))
    try:
        logits = model(tokens)
    finally:
        model.reset_hooks()
    return _losses(logits, tokens).detach()


@mistake("ablates these heads in every layer: a pair names its layer, too")
def loss_without(model, tokens, heads, ablate):
    everywhere = sorted({(layer, head) for layer in range(model.cfg.n_layers) for _, head in heads})
    return _loss_without(model, tokens, everywhere, ablate)


@mistake("ablates the first head of the list only")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, heads[:1], ablate)


@mistake("ablates the last head of the list only: collect all hooks, then run once")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, heads[-1:], ablate)


@mistake("keeps one head for each layer: a layer can have several in the list")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, list(dict(heads).items()), ablate)


@mistake("takes (layer, head) for (head, layer)")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, [(head, layer) for layer, head in heads], ablate)


@mistake("always ablates by zero: use the hook that was given")
def loss_without(model, tokens, heads, ablate):
    def to_zero(z, hook, heads):
        z = z.clone()
        z[:, :, heads] = 0
        return z

    return _loss_without(model, tokens, heads, to_zero)


@mistake("takes the mean over rows: each row has a loss of its own")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, heads, ablate).mean()


@mistake("does not run the model with the hooks: it gives the loss of the whole model")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, [], ablate)


@mistake("gives the rise of the loss, not the loss itself")
def loss_without(model, tokens, heads, ablate):
    return _loss_without(model, tokens, heads, ablate) - _loss_without(model, tokens, [], ablate)


@mistake("hooks stay behind in the model")
@torch.no_grad()
def loss_without(model, tokens, heads, ablate):
    for layer, head in heads:
        model.add_hook(_z(layer), lambda z, hook, head=head: ablate(z, hook, [head]))
    return _losses(model(tokens), tokens)


def _scores(model, loss_of):
    layers, heads = range(model.cfg.n_layers), range(model.cfg.n_heads)
    return torch.tensor([[float(loss_of(layer, head)) for head in heads] for layer in layers])


@mistake("gives the loss without each head: subtract the loss of the whole model")
def ablation_scores(model, tokens, ablate):
    return _scores(model, lambda layer, head: _loss_without(model, tokens, [(layer, head)], ablate).mean())


@mistake("has the sign turned: a head that helps has a positive score")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()
    return _scores(model, lambda layer, head: whole - _loss_without(model, tokens, [(layer, head)], ablate).mean())


@mistake("gives the loss as a multiple of the whole model's: subtract, do not divide")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()
    return _scores(model, lambda layer, head: _loss_without(model, tokens, [(layer, head)], ablate).mean() / whole)


@mistake("leaves ablated what was ablated before: one head at a time")
def ablation_scores(model, tokens, ablate):
    whole, gone = _loss_without(model, tokens, [], ablate).mean(), []

    def rise(layer, head):
        gone.append((layer, head))
        return _loss_without(model, tokens, gone, ablate).mean() - whole

    return _scores(model, rise)


@mistake("ablates all other heads, and keeps this one")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()
    everything = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]

    def rise(layer, head):
        others = [other for other in everything if other != (layer, head)]
        return _loss_without(model, tokens, others, ablate).mean() - whole

    return _scores(model, rise)


@mistake("gives [head layer]: layers are the rows")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()
    return _scores(model, lambda layer, head: _loss_without(model, tokens, [(layer, head)], ablate).mean() - whole).T


@mistake("ablates the same head of every layer at once")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()

    def rise(_, head):
        column = [(layer, head) for layer in range(model.cfg.n_layers)]
        return _loss_without(model, tokens, column, ablate).mean() - whole

    return _scores(model, rise)


@mistake("takes the largest rise over rows: the mean loss of the rows")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate)
    return _scores(model, lambda layer, head: (_loss_without(model, tokens, [(layer, head)], ablate) - whole).max())


@mistake("gives the size of the change without its sign: a head that hurts has a negative score")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate).mean()
    return _scores(
        model, lambda layer, head: (_loss_without(model, tokens, [(layer, head)], ablate).mean() - whole).abs()
    )


@right("row by row, then the mean; stacked")
def ablation_scores(model, tokens, ablate):
    whole = _loss_without(model, tokens, [], ablate)
    rows = []
    for layer in range(model.cfg.n_layers):
        of_layer = [_loss_without(model, tokens, [(layer, head)], ablate) for head in range(model.cfg.n_heads)]
        rows.append(torch.stack([(loss - whole).mean() for loss in of_layer]))
    return torch.stack(rows)


# --- 8. Composition


def _kept_part(model, tokens, heads, layer, part, ablate):
    kept, name = [], f"blocks.{layer}.attn.hook_{part}"
    hooks = [(_z(below), lambda z, hook, head=head: ablate(z, hook, [head])) for below, head in heads]
    model.run_with_hooks(tokens, fwd_hooks=[*hooks, (name, lambda x, hook: kept.append(x.clone()))])
    return name, kept[0]


@torch.no_grad()
def _composition(model, tokens, heads, layer, part, ablate):
    name, kept = _kept_part(model, tokens, heads, layer, part, ablate)
    return _losses(model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: kept)]), tokens)


@mistake("ablates the heads everywhere: only one input of one layer is to lack them")
def composition_ablation(model, tokens, heads, layer, part, ablate):
    return _loss_without(model, tokens, heads, ablate)


@mistake("gives the loss of the whole model: the second run's hook returns what a run with the heads ablated has there")
def composition_ablation(model, tokens, heads, layer, part, ablate):
    return _composition(model, tokens, [], layer, part, ablate)


@mistake("always replaces the keys: use the part that was asked for")
def composition_ablation(model, tokens, heads, layer, part, ablate):
    return _composition(model, tokens, heads, layer, "k", ablate)


@mistake("always works on layer 1: use the layer that was asked for")
def composition_ablation(model, tokens, heads, layer, part, ablate):
    return _composition(model, tokens, heads, 1, part, ablate)


@mistake("replaces the input the other way round: the heads are ablated, and one input is as in the whole model")
@torch.no_grad()
def composition_ablation(model, tokens, heads, layer, part, ablate):
    name, kept = _kept_part(model, tokens, [], layer, part, ablate)
    hooks = [(_z(below), lambda z, hook, head=head: ablate(z, hook, [head])) for below, head in heads]
    return _losses(model.run_with_hooks(tokens, fwd_hooks=[*hooks, (name, lambda x, hook: kept)]), tokens)


@mistake("ablates the first head of the list only")
def composition_ablation(model, tokens, heads, layer, part, ablate):
    return _composition(model, tokens, heads[:1], layer, part, ablate)


@mistake("gives the rise of the loss, not the loss itself")
def composition_ablation(model, tokens, heads, layer, part, ablate):
    return _composition(model, tokens, heads, layer, part, ablate) - _loss_without(model, tokens, [], ablate)


@mistake("sets the whole input to 0: only what these heads give to it is to be missing")
@torch.no_grad()
def composition_ablation(model, tokens, heads, layer, part, ablate):
    name = f"blocks.{layer}.attn.hook_{part}"
    return _losses(model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: torch.zeros_like(x))]), tokens)


@mistake("replaces the keys, queries and values of the layer all three: only the part that was asked for")
@torch.no_grad()
def composition_ablation(model, tokens, heads, layer, part, ablate):
    kept = [_kept_part(model, tokens, heads, layer, each, ablate) for each in "qkv"]
    hooks = [(name, lambda x, hook, value=value: value) for name, value in kept]
    return _losses(model.run_with_hooks(tokens, fwd_hooks=hooks), tokens)


@mistake("takes the mean over rows: each row has a loss of its own")
def composition_ablation(model, tokens, heads, layer, part, ablate):
    return _composition(model, tokens, heads, layer, part, ablate).mean()


@right("a cache in place of the first hook")
@torch.no_grad()
def composition_ablation(model, tokens, heads, layer, part, ablate):
    name = f"blocks.{layer}.attn.hook_{part}"
    hooks = [(_z(below), functools.partial(ablate, heads=here)) for below, here in _by_layer(heads).items()]
    with model.hooks(fwd_hooks=hooks):
        _, cache = model.run_with_cache(tokens, names_filter=lambda at: at == name or at.endswith(f"{part}.hook_out"))
    kept = cache[part, layer]
    with model.hooks(fwd_hooks=[(name, lambda x, hook: kept.reshape(x.shape))]):
        return _losses(model(tokens), tokens)


@right("keeps the difference, and adds it")
@torch.no_grad()
def composition_ablation(model, tokens, heads, layer, part, ablate):
    name, without = _kept_part(model, tokens, heads, layer, part, ablate)
    _, whole = _kept_part(model, tokens, [], layer, part, ablate)
    return _losses(model.run_with_hooks(tokens, fwd_hooks=[(name, lambda x, hook: x + (without - whole))]), tokens)


# --- 9. Controls


def _drawn(others, needed, generator):
    return [others[i] for i in torch.randperm(len(others), generator=generator)[:needed].tolist()]


def _by_layer(heads):
    layers = sorted({layer for layer, _ in heads})
    return {layer: [head for its_layer, head in heads if its_layer == layer] for layer in layers}


def _drawn_beside(heads, n_heads, generator, at_most=99):
    controls = []
    for layer, its in _by_layer(heads).items():
        others = [head for head in range(n_heads) if head not in its]
        controls += [(layer, head) for head in _drawn(others, min(len(its), at_most), generator)]
    return controls


@mistake("draws from all heads of the layer, the given ones included: controls are other heads")
def control_heads(heads, n_heads, seed):
    generator = torch.Generator().manual_seed(seed)
    everything = list(range(n_heads))
    return [(ly, h) for ly, its in _by_layer(heads).items() for h in _drawn(everything, len(its), generator)]


@mistake("draws each control by itself, so that one can come twice")
def control_heads(heads, n_heads, seed):
    generator = torch.Generator().manual_seed(seed)
    controls = []
    for layer, _ in heads:
        others = [head for head in range(n_heads) if (layer, head) not in heads]
        controls += [(layer, others[int(torch.randint(len(others), (), generator=generator))])]
    return controls


@mistake("takes the same numbers in another layer: controls come from the layers of the heads")
def control_heads(heads, n_heads, seed):
    return [(layer + 1, head) for layer, head in heads]


@mistake("takes the first other heads of each layer: draw them at random")
def control_heads(heads, n_heads, seed):
    by_layer = _by_layer(heads).items()
    return [(ly, h) for ly, its in by_layer for h in [x for x in range(n_heads) if x not in its][: len(its)]]


@mistake("does not use the seed: the same seed gives other heads each time")
def control_heads(heads, n_heads, seed):
    generator = torch.Generator().manual_seed(int(torch.randint(10**9, ())))
    by_layer = _by_layer(heads).items()
    return [
        (ly, h)
        for ly, its in by_layer
        for h in _drawn([x for x in range(n_heads) if x not in its], len(its), generator)
    ]


@mistake("makes the generator anew for each layer, so that all layers get the same draw")
def control_heads(heads, n_heads, seed):
    controls = []
    for layer, its in _by_layer(heads).items():
        generator = torch.Generator().manual_seed(seed)
        others = [head for head in range(n_heads) if head not in its]
        controls += [(layer, head) for head in _drawn(others, len(its), generator)]
    return controls


@mistake("draws from all layers together: each layer has as many controls as heads")
def control_heads(heads, n_heads, seed):
    layers = list(_by_layer(heads))
    others = [(layer, head) for layer in layers for head in range(n_heads) if (layer, head) not in heads]
    return _drawn(others, len(heads), torch.Generator().manual_seed(seed))


@mistake("leaves out only the one head in hand: the layer's other heads of the list are no controls either")
def control_heads(heads, n_heads, seed):
    generator = torch.Generator().manual_seed(seed)
    pairs = [(layer, [x for x in range(n_heads) if x != head]) for layer, head in heads]
    return [(layer, _drawn(others, 1, generator)[0]) for layer, others in pairs]


@mistake("takes one control for each layer: as many as the layer has heads in the list")
def control_heads(heads, n_heads, seed):
    return _drawn_beside(heads, n_heads, torch.Generator().manual_seed(seed), at_most=1)


@mistake("takes all other heads of the layers: only as many as there are in the list")
def control_heads(heads, n_heads, seed):
    return [(layer, head) for layer, its in _by_layer(heads).items() for head in range(n_heads) if head not in its]


@mistake("draws ends half as often (round of a uniform number): every other head with equal chances")
def control_heads(heads, n_heads, seed):
    draw, controls = random.Random(seed), []
    for layer, its in _by_layer(heads).items():
        others = [head for head in range(n_heads) if head not in its]
        for _ in its:
            controls.append((layer, others.pop(round(draw.uniform(0, len(others) - 1)))))
    return controls


@mistake(
    "takes neighbours from a random place on, in a circle, from one number for all layers: draw each layer by itself"
)
def control_heads(heads, n_heads, seed):
    start = random.Random(seed).random()
    controls = []
    for layer, its in _by_layer(heads).items():
        others = [head for head in range(n_heads) if head not in its]
        first = int(start * len(others))
        controls += [(layer, others[(first + i) % len(others)]) for i in range(len(its))]
    return controls


@mistake("takes heads out of the list that it was given: copy it first")
def control_heads(heads, n_heads, seed):
    kept = _drawn_beside(list(heads), n_heads, torch.Generator().manual_seed(seed))
    heads.clear()
    return kept


@right("random.sample, layer by layer")
def control_heads(heads, n_heads, seed):
    draw, controls = random.Random(seed), []
    for layer, its in _by_layer(heads).items():
        controls.extend((layer, head) for head in draw.sample(sorted(set(range(n_heads)) - set(its)), len(its)))
    return controls


@right("all others shuffled, and a count for each layer")
def control_heads(heads, n_heads, seed):
    layers = [layer for layer, _ in heads]
    others = [(layer, head) for layer in sorted(set(layers)) for head in range(n_heads) if (layer, head) not in heads]
    controls = []
    for i in torch.randperm(len(others), generator=torch.Generator().manual_seed(seed)).tolist():
        if sum(layer == others[i][0] for layer, _ in controls) < layers.count(others[i][0]):
            controls.append(others[i])
    return controls


@mistake("there is damage in both, and much more without the top two: induction matters here")
def answer_control():
    return "a"


@mistake("other heads can be taken away at little cost, as the heat map of section 7 shows")
def answer_control():
    return "b"


# --- 10. The real model


@torch.no_grad()
def _all_scores(model, tokens, back=1):
    _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
    return torch.stack([_stripe(cache["pattern", layer], back) for layer in range(model.cfg.n_layers)])


def _pairs(places, n_heads):
    return [divmod(place, n_heads) for place in places]


@mistake("gives the heads with the lowest scores")
def induction_heads(model, tokens, count):
    scores = _all_scores(model, tokens).flatten()
    return _pairs(scores.topk(count, largest=False).indices.tolist(), model.cfg.n_heads)


@mistake("ranks by attention to the first copy itself: those are duplicate-token heads")
def induction_heads(model, tokens, count):
    scores = _all_scores(model, tokens, back=0).flatten()
    return _pairs(scores.topk(count).indices.tolist(), model.cfg.n_heads)


@mistake("turns a place in the flat list into (layer, head) by the number of layers: divide by the number of heads")
def induction_heads(model, tokens, count):
    return _pairs(_all_scores(model, tokens).flatten().topk(count).indices.tolist(), model.cfg.n_layers)


@mistake("gives (head, layer): the layer comes first")
def induction_heads(model, tokens, count):
    places = _all_scores(model, tokens).flatten().topk(count).indices.tolist()
    return [(head, layer) for layer, head in _pairs(places, model.cfg.n_heads)]


@mistake("has the right heads, but the best comes last: best first")
def induction_heads(model, tokens, count):
    places = _all_scores(model, tokens).flatten().topk(count).indices.tolist()
    return _pairs(places[::-1], model.cfg.n_heads)


@mistake("gives places in the flat list of scores, not pairs (layer, head)")
def induction_heads(model, tokens, count):
    return _all_scores(model, tokens).flatten().topk(count).indices.tolist()


@mistake("takes the best head of each layer: several of one layer can be among the best")
def induction_heads(model, tokens, count):
    best = _all_scores(model, tokens).max(dim=1)
    layers = best.values.topk(min(count, len(best.values))).indices.tolist()
    return [(layer, int(best.indices[layer])) for layer in layers]


@right("sorts all heads")
def induction_heads(model, tokens, count):
    scores = _all_scores(model, tokens)
    heads = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    return sorted(heads, key=lambda head: -scores[head].item())[:count]


@right("argsort and unravel_index")
@torch.no_grad()
def induction_heads(model, tokens, count):
    scores = _all_scores(model, tokens)
    places = scores.flatten().argsort(descending=True)[:count]
    return [(int(layer), int(head)) for layer, head in zip(*torch.unravel_index(places, scores.shape), strict=True)]


# --- 11. Open task


def _heads_of(model):
    return [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]


def _rows_for(model, rows=16, different=False):
    """Blocks of ordinary tokens that come twice."""
    n = model.cfg.d_vocab - 2
    block = min(n, (model.cfg.n_ctx - 1) // 2)
    generator = torch.Generator().manual_seed(0)
    once = torch.randint(1, n + 1, (rows, block), generator=generator)
    if different:
        once = torch.rand(rows, n, generator=generator).argsort(-1)[:, :block] + 1
    return _after(0, once, once)


@torch.no_grad()
def _next_logits(model, tokens, heads):
    """[row place]: the next token's logit less the mean of the ordinary ones', on the second copy."""
    hooks = [(_z(layer), lambda z, hook, head=head: _zeroed(z, head)) for layer, head in heads]
    block = tokens.shape[1] // 2
    logits = model.run_with_hooks(tokens, fwd_hooks=hooks)[:, block + 1 : -1, 1:-1]
    return logits.gather(-1, tokens[:, block + 2 :, None] - 1)[..., 0] - logits.mean(-1)


def _zeroed(z, head):
    z = z.clone()
    z[:, :, head] = 0
    return z


def _by_pattern(model, back, least=0.5):
    return {head for head in _heads_of(model) if _all_scores(model, _rows_for(model), back)[head] > least}


@mistake("others were named, too")
def find_induction_circuit(model):
    """By patterns alone: the stripe, and attention to the previous token."""
    tokens = _rows_for(model)
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name.endswith("hook_pattern"))
    found = _by_pattern(model, 1)
    for layer, head in _heads_of(model):
        if _below(cache["pattern", layer], 1, 1)[head] > 0.5:
            found.add((layer, head))
    return found


@mistake("spare circuits count, too) were found; missed were")
def find_induction_circuit(model):
    """By the loss: where a second circuit stands in, the loss hardly moves."""
    tokens = _rows_for(model, different=True)
    whole = _loss_without(model, tokens, [], lambda z, hook, heads: z).mean()
    rises = {
        head: _loss_without(model, tokens, [head], lambda z, hook, heads: _zeroed(z, heads[0])).mean() - whole
        for head in _heads_of(model)
    }
    return {head for head, rise in rises.items() if rise > 2}


@mistake("no head was named in any model")
def find_induction_circuit(model):
    return set()


@right("heads removed from rows without doubles, half of the smallest share")
def find_induction_circuit(model):
    tokens = _rows_for(model, 16, different=True)
    whole = _next_logits(model, tokens, []).mean()
    least = max(0.1 * whole, 1)
    return {head for head in _heads_of(model) if whole - _next_logits(model, tokens, [head]).mean() > least}


@right("each head's mean, and a null from the rows before the repeat")
@torch.no_grad()
def find_induction_circuit(model):
    tokens = _rows_for(model, different=True)
    whole = _next_logits(model, tokens, [])
    found = set()
    for layer, head in _heads_of(model):
        hook = (_z(layer), lambda z, hook, head=head: z.index_copy(2, torch.tensor([head]), _mean_of(z, head)))
        block = tokens.shape[1] // 2
        logits = model.run_with_hooks(tokens, fwd_hooks=[hook])[:, block + 1 : -1, 1:-1]
        now = logits.gather(-1, tokens[:, block + 2 :, None] - 1)[..., 0] - logits.mean(-1)
        if (whole - now).mean() > 2:
            found.add((layer, head))
    return found


def _mean_of(z, head):
    return z[:, :, [head]].mean((0, 1), keepdim=True).expand(*z.shape[:2], 1, -1)
