"""Wrong answers to 4.1 A Mathematical Framework, in code, and what each of them is."""

import functools
import itertools
import math

import torch
from einops import einsum
from torch.nn import functional as F

from concrete_steps.checking.mistakes import mistake, right

# --- 1. No layers


@mistake("gives logits, without a softmax")
def bigram_of_zero_layers(model):
    return model.W_E @ model.W_U


@mistake("gives probabilities: take their logarithm")
def bigram_of_zero_layers(model):
    return (model.W_E @ model.W_U).softmax(-1)


@mistake("takes the softmax over the token before: each row is one distribution of the next token")
def bigram_of_zero_layers(model):
    return (model.W_E @ model.W_U).log_softmax(0)


@mistake("has the next token in rows")
def bigram_of_zero_layers(model):
    return (model.W_E @ model.W_U).log_softmax(-1).T


@mistake("unembeds with the embedding: this model's W_U is a matrix of its own")
def bigram_of_zero_layers(model):
    return (model.W_E @ model.W_E.T).log_softmax(-1)


@right("logits minus their logsumexp")
def bigram_of_zero_layers(model):
    logits = einsum(model.W_E, model.W_U, "token d, d next -> token next")
    return logits - logits.logsumexp(1, keepdim=True)


def _rows(counts, log_q, reverse=False):
    """KL of each row, 0 without counts."""
    p = counts / counts.sum(1, keepdim=True).clamp(min=1)
    if reverse:
        return torch.where(p > 0, log_q.exp() * (log_q - p.log()), 0.0).sum(1)
    return torch.where(p > 0, p * (p.log() - log_q), 0.0).sum(1)


@mistake("takes the mean over rows: a token that occurs more often counts more")
def bigram_kl(counts, log_q):
    return _rows(counts, log_q).mean().item()


@mistake("adds the rows' KLs up")
def bigram_kl(counts, log_q):
    return _rows(counts, log_q).sum().item()


@mistake("goes from the table to the law: the law's shares weight the logarithms")
def bigram_kl(counts, log_q):
    return (_rows(counts, log_q, reverse=True) * counts.sum(1) / counts.sum()).sum().item()


@mistake("gives the cross-entropy: the law's own entropy is still to be taken off")
def bigram_kl(counts, log_q):
    return -(torch.where(counts > 0, counts * log_q, 0.0).sum() / counts.sum()).item()


@mistake("is nan: pairs that never occur add nothing, and 0 * log 0 is nan")
def bigram_kl(counts, log_q):
    p = counts / counts.sum(1, keepdim=True)
    return ((p * (p.log() - log_q)).sum(1) * counts.sum(1) / counts.sum()).sum().item()


@right("xlogy, row by row")
def bigram_kl(counts, log_q):
    n = counts.sum(1)
    of_rows = [
        (torch.xlogy(row, row / row.sum()) - torch.where(row > 0, row * q, 0.0)).sum()
        for row, q, m in zip(counts, log_q, n, strict=True)
        if m > 0
    ]
    return float(torch.stack(of_rows).sum() / n.sum())


# --- 2. All paths


def _shared(model):
    return model.W_O.shape[1] // model.W_V.shape[1]


def _ov(model, layer, head, kv=None):
    return model.W_V[layer, head // _shared(model) if kv is None else kv] @ model.W_O[layer, head]


@mistake("mixes with the pattern transposed: rows are queries")
def through_head(model, x, pattern, layer, head):
    return pattern.mT @ x @ _ov(model, layer, head)


@mistake("leaves the positions unmixed: the head looks where the pattern says")
def through_head(model, x, pattern, layer, head):
    return x @ _ov(model, layer, head)


@mistake("reads with value head `head % (number of value heads)`: neighbours share one")
def through_head(model, x, pattern, layer, head):
    return pattern @ x @ _ov(model, layer, head, head % model.W_V.shape[1])


@mistake("adds x itself: that is the path past the head")
def through_head(model, x, pattern, layer, head):
    return x + pattern @ x @ _ov(model, layer, head)


@mistake("takes the layer before")
def through_head(model, x, pattern, layer, head):
    return pattern @ x @ _ov(model, layer - 1, head)


@right("values first, then the pattern")
def through_head(model, x, pattern, layer, head):
    values = x @ model.W_V.repeat_interleave(_shared(model), dim=1)[layer, head]
    return einsum(pattern, values, "b q k, b k d -> b q d") @ model.W_O[layer, head]


@torch.no_grad()
def _expand(model, tokens, positions=True, sequential=False, shared=True, turned=False):
    _, cache = model.run_with_cache(tokens)
    start = model.W_E[tokens]
    parts = {(): start + model.W_pos[: tokens.shape[1]] if positions else start}
    for layer in range(model.cfg.n_layers):
        before = dict(parts)
        for head in range(model.cfg.n_heads):
            kv = None if shared else head % model.W_V.shape[1]
            for path, x in list((parts if sequential else before).items()):
                pattern = cache["pattern", layer][:, head]
                moved = (pattern.mT if turned else pattern) @ x @ _ov(model, layer, head, kv)
                parts[*path, (layer, head)] = moved
    return parts, cache


@mistake("leaves the positions out: they are embedded with the tokens")
def path_expansion(model, tokens):
    parts, _ = _expand(model, tokens, positions=False)
    return {path: x @ model.W_U for path, x in parts.items()}


@mistake("is no path: a path passes at most one head of each layer, in order")
def path_expansion(model, tokens):
    parts, _ = _expand(model, tokens, sequential=True)
    return {path: x @ model.W_U for path, x in parts.items()}


@mistake("lets a single head of a later layer read the whole stream: then it holds the virtual heads, too")
def path_expansion(model, tokens):
    parts, cache = _expand(model, tokens)
    for layer, head in itertools.product(range(model.cfg.n_layers), range(model.cfg.n_heads)):
        stream = sum(x for path, x in parts.items() if all(passed[0] < layer for passed in path))
        parts[(layer, head),] = cache["pattern", layer][:, head] @ stream @ _ov(model, layer, head)
    return {path: x @ model.W_U for path, x in parts.items()}


@mistake("mixes positions with transposed patterns: each query sums over its keys")
def path_expansion(model, tokens):
    parts, _ = _expand(model, tokens, turned=True)
    return {path: x @ model.W_U for path, x in parts.items()}


@mistake("reads with value head `head % (their number)`: neighbours share one")
def path_expansion(model, tokens):
    parts, _ = _expand(model, tokens, shared=False)
    return {path: x @ model.W_U for path, x in parts.items()}


@right("path by path, from the last head back")
def path_expansion(model, tokens):
    with torch.no_grad():
        _, cache = model.run_with_cache(tokens)
    start = model.W_E[tokens] + model.W_pos[: tokens.shape[1]]
    terms = {}
    for choice in itertools.product(range(-1, model.cfg.n_heads), repeat=model.cfg.n_layers):
        path = tuple((layer, head) for layer, head in enumerate(choice) if head >= 0)
        read, pattern = model.W_U, None
        for layer, head in reversed(path):
            read = _ov(model, layer, head) @ read
            its = cache["pattern", layer][:, head]
            pattern = its if pattern is None else pattern @ its
        terms[path] = start @ read if pattern is None else pattern @ (start @ read)
    return terms


# --- 3. How much is a term worth?


def _losses(logits, tokens, pad=True, shift=True):
    if shift:
        logits, tokens = logits[:, :-1], tokens[:, 1:]
    real = (tokens != 0).float() if pad else torch.ones_like(tokens).float()
    return (F.cross_entropy(logits.mT, tokens, reduction="none") * real).sum(1) / real.sum(1)


def _falls(terms, tokens, **how):
    total, losses = torch.zeros_like(terms[0]), []
    for term in [torch.zeros_like(terms[0]), *terms]:
        total = total + term
        losses.append(_losses(total, tokens, **how))
    return torch.stack(losses[:-1]) - torch.stack(losses[1:])


@mistake("adds each term to nothing, not to those before it")
def term_importance(terms, tokens):
    nothing = torch.zeros_like(terms[0])
    return torch.stack([_losses(nothing, tokens) - _losses(term, tokens) for term in terms])


@mistake("takes each term out of the whole: that is another measure")
def term_importance(terms, tokens):
    whole = sum(terms)
    return torch.stack([_losses(whole - term, tokens) - _losses(whole, tokens) for term in terms])


@mistake("counts padding as tokens to be predicted")
def term_importance(terms, tokens):
    return _falls(terms, tokens, pad=False)


@mistake("compares logits with the token at their own place: they are about the next one")
def term_importance(terms, tokens):
    return _falls(terms, tokens, shift=False)


@mistake("gives the loss after each term, not by how much it fell")
def term_importance(terms, tokens):
    total, losses = 0, []
    for term in terms:
        total = total + term
        losses.append(_losses(total, tokens))
    return torch.stack(losses)


@mistake("has the sign turned round: a loss that falls is a gain above 0")
def term_importance(terms, tokens):
    return -_falls(terms, tokens)


@right("cumulative sums, and log-probabilities gathered")
def term_importance(terms, tokens):
    sums = torch.stack([torch.zeros_like(terms[0]), *terms]).cumsum(0)[:, :, :-1].log_softmax(-1)
    target = tokens[:, 1:]
    said = sums.gather(-1, target[None, ..., None].expand(len(sums), *target.shape, 1))[..., 0]
    real = target != 0
    return ((said * real).sum(-1) / real.sum(-1)).diff(dim=0)


@mistake("takes a difference between two questions for an error")
def answer_order():
    return "a"


@mistake("takes what a term says alone for what is lost without it")
def answer_order():
    return "c"


@mistake("takes what is absent from the terms for absent from the model")
def answer_frozen():
    return "a"


@mistake("looks for noise where the interval is narrow")
def answer_frozen():
    return "b"


# --- 4. Skip-trigrams


@mistake("takes the softmax over the vocabulary: each token counts as often as it occurs, and `others` times")
def key_weight(scores, frequency, others):
    return scores.softmax(1)


@mistake("counts all other tokens alike: frequent ones stand beside the source more often")
def key_weight(scores, frequency, others):
    average = scores.logsumexp(1, keepdim=True) - math.log(scores.shape[1])
    return (scores - average - math.log(others)).sigmoid()


@mistake("forgets the source itself among the keys")
def key_weight(scores, frequency, others):
    average = (scores + frequency.log()).logsumexp(1, keepdim=True)
    return (scores - average - math.log(others)).exp()


@mistake("has one other key, not as many as `others` says")
def key_weight(scores, frequency, others):
    average = (scores + frequency.log()).logsumexp(1, keepdim=True)
    return (scores - average).sigmoid()


@mistake("averages over the queries: keys compete for one query")
def key_weight(scores, frequency, others):
    average = scores.logsumexp(0, keepdim=True) - math.log(len(scores))
    return (scores - average - math.log(others)).sigmoid()


@mistake("give nan or infinity: exp overflows; use logsumexp, or take a row's maximum away")
def key_weight(scores, frequency, others):
    own = scores.exp()
    return own / (own + others * (own @ frequency)[:, None])


@right("the row's maximum taken away first")
def key_weight(scores, frequency, others):
    own = (scores - scores.amax(1, keepdim=True)).double().exp()
    return (own / (own + others * (own * frequency).sum(1, keepdim=True))).float()


def _listed(weight, ov, allowed, k, centred=True, order="spo", size=False, least=False):
    above = ov - ov.mean(1, keepdim=True) if centred else ov
    boost = weight.T[:, :, None] * above[:, None, :]
    measure = boost.abs() if size else -boost if least else boost
    measure = measure.masked_fill(~allowed[None], -torch.inf)
    best = measure.flatten().topk(k).indices
    source, present, out = (part.tolist() for part in torch.unravel_index(best, boost.shape))
    named = {"s": source, "p": present, "o": out}
    return list(zip(*(named[letter] for letter in order), strict=True))


@mistake("takes OV as it is: a constant of a row changes nothing after the softmax")
def skip_trigrams(weight, ov, allowed, k):
    return _listed(weight, ov, allowed, k, centred=False)


@mistake("lists what the direct path forbids as well")
def skip_trigrams(weight, ov, allowed, k):
    return _listed(weight, ov, torch.ones_like(allowed), k)


@mistake("has the present token before the source: the order is source, present, out")
def skip_trigrams(weight, ov, allowed, k):
    return _listed(weight, ov, allowed, k, order="pso")


@mistake("ranks by size: outs that are lowered are no skip-trigrams")
def skip_trigrams(weight, ov, allowed, k):
    return _listed(weight, ov, allowed, k, size=True)


@mistake("gives the weakest")
def skip_trigrams(weight, ov, allowed, k):
    return _listed(weight, ov, allowed, k, least=True)


@mistake("gives forbidden ones a boost of 0: that is above the allowed ones below 0")
def skip_trigrams(weight, ov, allowed, k):
    boost = weight.T[:, :, None] * (ov - ov.mean(1, keepdim=True))[:, None, :] * allowed
    best = torch.unravel_index(boost.flatten().topk(k).indices, boost.shape)
    return list(zip(*(part.tolist() for part in best), strict=True))


@right("a loop, sorted")
def skip_trigrams(weight, ov, allowed, k):
    w, o = weight.tolist(), (ov.T - ov.mean(1)).T.tolist()
    every = [(w[p][s] * o[s][out], (s, p, out)) for p, out in allowed.nonzero().tolist() for s in range(len(o))]
    return [triple for _, triple in sorted(every, reverse=True)[:k]]


def _shares(tokens, source, present, out, before=None, pad=True):
    is_source = (tokens == source).int()
    before = (is_source.cumsum(1) - is_source) > 0 if before is None else before
    place = tokens[:, :-1] == present
    if pad:
        place = place & (tokens[:, 1:] != 0)
    hit = (tokens[:, 1:] == out).float()
    return hit[place & before[:, :-1]].mean().item(), hit[place & ~before[:, :-1]].mean().item()


@mistake("counts the present token as its own source: the source stands before it")
def skip_trigram_shares(tokens, source, present, out):
    return _shares(tokens, source, present, out, before=(tokens == source).cumsum(1) > 0)


@mistake("looks for the source anywhere in the row, after the present token as well")
def skip_trigram_shares(tokens, source, present, out):
    return _shares(tokens, source, present, out, before=(tokens == source).any(1, keepdim=True).expand_as(tokens))


@mistake("asks for the source directly before the present token: it may stand anywhere before")
def skip_trigram_shares(tokens, source, present, out):
    before = torch.zeros_like(tokens, dtype=torch.bool)
    before[:, 1:] = tokens[:, :-1] == source
    return _shares(tokens, source, present, out, before=before)


@mistake("counts places before padding")
def skip_trigram_shares(tokens, source, present, out):
    return _shares(tokens, source, present, out, pad=False)


@mistake("has the two shares exchanged")
def skip_trigram_shares(tokens, source, present, out):
    return _shares(tokens, source, present, out)[::-1]


@right("plain lists")
def skip_trigram_shares(tokens, source, present, out):
    hits = {True: [], False: []}
    for row in tokens.tolist():
        for i, (here, after) in enumerate(itertools.pairwise(row)):
            if here == present and after != 0:
                hits[source in row[:i]].append(after == out)
    return tuple(sum(of) / len(of) if of else float("nan") for of in (hits[True], hits[False]))


# --- 5. The bug


def _bugs(weight, ov, wanted, centred=True, whose=min, own=True, unwanted=True, strong=True):
    above = ov - ov.mean(1, keepdim=True) if centred else ov
    found = set()
    for source in {triple[0] for triple in wanted}:
        of = [triple for triple in wanted if triple[0] == source]
        bar = whose((weight[p, source] * above[source, o]).item() for _, p, o in of)
        outs = {o for _, _, o in (of if own else wanted)}
        for p, o in itertools.product({p for _, p, _ in of}, outs):
            boost = (weight[p, source] * above[source, o]).item()
            if (boost >= bar or not strong) and not (unwanted and (source, p, o) in of):
                found.add((source, p, o))
    return found


@mistake("crosses one source with another one's outs")
def skip_trigram_bug(weight, ov, wanted):
    return _bugs(weight, ov, wanted, own=False)


@mistake("lists the wanted ones, too")
def skip_trigram_bug(weight, ov, wanted):
    return _bugs(weight, ov, wanted, unwanted=False)


@mistake("lists every crossing, however weak")
def skip_trigram_bug(weight, ov, wanted):
    return _bugs(weight, ov, wanted, strong=False)


@mistake("asks for the strength of the strongest wanted one: the weakest sets the bar")
def skip_trigram_bug(weight, ov, wanted):
    return _bugs(weight, ov, wanted, whose=max)


@mistake("leaves out those just as strong as the weakest: at least as strong is enough")
def skip_trigram_bug(weight, ov, wanted):
    boost = weight.T[:, :, None] * (ov - ov.mean(1, keepdim=True))[:, None]
    found = _bugs(weight, ov, wanted)
    return [each for each in found if boost[each] > min(boost[t] for t in wanted if t[0] == each[0])]


@mistake("does not take the row's mean off OV")
def skip_trigram_bug(weight, ov, wanted):
    return _bugs(weight, ov, wanted, centred=False)


@right("from all pairs of wanted ones")
def skip_trigram_bug(weight, ov, wanted):
    boost = weight.T[:, :, None] * (ov - ov.mean(1, keepdim=True))[:, None]
    crossed = {(s, p, o) for (s, p, _), (t, _, o) in itertools.product(wanted, repeat=2) if s == t} - set(wanted)
    return [each for each in crossed if any(t[0] == each[0] and boost[each] >= boost[t] for t in wanted)]


# --- 6. Not a sum of skip-trigrams


@mistake("says out for both as well: that is an inclusive or")
def exclusive_or():
    scores = torch.tensor([[0.0, 20.0, 10.0], [0.0, 10.0, 20.0]])
    return scores, torch.tensor([[-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])


@mistake("looks at A and B alike: without an order they do not compete")
def exclusive_or():
    scores = torch.tensor([[0.0, 15.0, 15.0], [0.0, 15.0, 15.0]])
    return scores, torch.tensor([[-1.0, -1.0, 2.0], [-1.0, 2.0, -1.0]])


@mistake("has both heads prefer A: one must prefer B")
def exclusive_or():
    scores = torch.tensor([[0.0, 20.0, 10.0], [0.0, 20.0, 10.0]])
    return scores, torch.tensor([[-1.0, -1.0, 2.0], [-1.0, 2.0, -1.0]])


@mistake("has scores so small that many fillers drown A and B")
def exclusive_or():
    scores = torch.tensor([[0.0, 4.0, 2.0], [0.0, 2.0, 4.0]])
    return scores, torch.tensor([[-1.0, -1.0, 2.0], [-1.0, 2.0, -1.0]])


@right("large values of their own sizes")
def exclusive_or():
    scores = torch.tensor([[-9.0, 21.0, 6.0], [-9.0, 6.0, 21.0]], dtype=torch.float64)
    return [scores, torch.tensor([[-3.0, -5.0, 9.0], [-3.0, 9.0, -5.0]], dtype=torch.float64)]


# --- 7. Do heads copy?


def _eigenvalues(model, layer, head, kv=None):
    kv = head // _shared(model) if kv is None else kv
    return torch.linalg.eigvals(model.W_O[layer, head] @ model.W_U @ model.W_E @ model.W_V[layer, kv])


@mistake("takes the circuit in the stream: a copy is from a token to its own logit")
def copying_eigenvalues(model, layer, head):
    return torch.linalg.eigvals(model.W_O[layer, head] @ model.W_V[layer, head // _shared(model)])


@mistake("gives singular values: they have no sign")
def copying_eigenvalues(model, layer, head):
    small = model.W_O[layer, head] @ model.W_U @ model.W_E @ model.W_V[layer, head // _shared(model)]
    return torch.linalg.svdvals(small).to(torch.complex64)


@mistake("reads with value head `head % (how many there are)`: neighbours share one")
def copying_eigenvalues(model, layer, head):
    return _eigenvalues(model, layer, head, kv=head % model.W_V.shape[1])


@mistake("has the whole circuit, [300 300], in memory")
def copying_eigenvalues(model, layer, head):
    whole = torch.linalg.eigvals(
        model.W_E @ model.W_V[layer, head // _shared(model)] @ model.W_O[layer, head] @ model.W_U
    )
    return whole[whole.abs().topk(model.W_O.shape[2]).indices]


@mistake("takes the layer below")
def copying_eigenvalues(model, layer, head):
    return _eigenvalues(model, layer - 1, head)


@right("factors first, then the small product")
def copying_eigenvalues(model, layer, head):
    a = model.W_E @ model.W_V.repeat_interleave(_shared(model), 1)[layer, head]
    b = model.W_O[layer, head] @ model.W_U
    return torch.linalg.eig(b @ a).eigenvalues.flip(0)


@mistake("takes an average over mixes of tokens for a statement about each token")
def answer_copying():
    return "b"


@mistake("takes eigenvalues for entries")
def answer_copying():
    return "c"


# --- 8. A virtual head


def _virtual(model, path, kv=None):
    (below, first), (layer, second) = path
    kvs = [head // _shared(model) if kv is None else head % kv for head in (first, second)]
    a = model.W_E @ model.W_V[below, kvs[0]]
    return a, model.W_O[below, first] @ model.W_V[layer, kvs[1]] @ model.W_O[layer, second] @ model.W_U


@mistake(
    "multiplies the earlier pattern by the later: the later head looks first, at places where the earlier looked on"
)
def virtual_head(model, patterns, path):
    return patterns[0] @ patterns[1], _virtual(model, path)


@mistake("multiplies patterns entry by entry")
def virtual_head(model, patterns, path):
    return patterns[0] * patterns[1], _virtual(model, path)


@mistake("adds the patterns")
def virtual_head(model, patterns, path):
    return (patterns[0] + patterns[1]) / 2, _virtual(model, path)


@mistake("has the later head's weights before the earlier one's")
def virtual_head(model, patterns, path):
    return patterns[1] @ patterns[0], _virtual(model, path[::-1])


@mistake("reads values by `head % (number of them)`: neighbours share one")
def virtual_head(model, patterns, path):
    return patterns[1] @ patterns[0], _virtual(model, path, kv=model.W_V.shape[1])


@mistake("unembeds by the embedding: W_U reads the logits")
def virtual_head(model, patterns, path):
    a, _ = _virtual(model, path)
    (below, first), (layer, second) = path
    moved = model.W_O[below, first] @ _ov(model, layer, second)
    return patterns[1] @ patterns[0], (a, moved @ model.W_E.T)


@right("the later head's factors last")
def virtual_head(model, patterns, path):
    early, late = patterns
    (below, first), (layer, second) = path
    V = model.W_V[layer, second // _shared(model)]
    a = model.W_E @ _ov(model, below, first) @ V
    return [einsum(late, early, "b q m, b m k -> b q k"), [a, model.W_O[layer, second] @ model.W_U]]


# --- 9. Open task


def _terms(model, tokens):
    return {path: x @ model.W_U for path, x in _expand(model, tokens)[0].items()}


def _kl(logits, other):
    p, q = logits.log_softmax(-1), other.log_softmax(-1)
    return (p.exp() * (p - q)).sum(-1).mean().item()


@mistake("paths were found")
def find_paths(model, tokens):
    """Leaves out one at a time: falls for what cancels."""
    terms = _terms(model, tokens)
    whole = sum(terms.values())
    return {path for path, term in terms.items() if _kl(whole, whole - term) > 0.05}


@mistake("cancelling")
def find_paths(model, tokens):
    """Leaves out, one by one, what is missed least: of two that cancel none can go first."""
    terms = _terms(model, tokens)
    whole = left = sum(terms.values())
    keep = set(terms)
    while keep:
        costs = {path: _kl(whole, left - terms[path]) for path in keep}
        least = min(costs, key=costs.get)
        if costs[least] > 0.02:
            break
        keep.remove(least)
        left = left - terms[least]
    return keep


@mistake("others were named, too")
def find_paths(model, tokens):
    """The mean over orders of what a path adds in nats (Shapley): of two that cancel one gets what the other loses."""
    terms = _terms(model, tokens)
    whole = sum(terms.values())
    generator, names = torch.Generator().manual_seed(0), list(terms)
    worth = dict.fromkeys(names, 0.0)
    for _ in range(20):
        total, before = torch.zeros_like(whole), _kl(whole, torch.zeros_like(whole))
        for i in torch.randperm(len(names), generator=generator).tolist():
            total = total + terms[names[i]]
            after = _kl(whole, total)
            worth[names[i]] += before - after
            before = after
    return {path for path, its in worth.items() if its > 0.05 * sum(worth.values())}


@mistake("alike")
def find_paths(model, tokens):
    """The loudest terms."""
    terms = _terms(model, tokens)
    most = max(term.norm() for term in terms.values())
    return {path for path, term in terms.items() if term.norm() > 0.1 * most}


@mistake("others were named")
def find_paths(model, tokens):
    """All paths of heads that matter."""
    terms = _terms(model, tokens)
    whole = sum(terms.values())
    heads = {head for path in terms for head in path}
    matter = {
        head for head in heads if _kl(whole, whole - sum(term for path, term in terms.items() if head in path)) > 0.05
    }
    return {path for path in terms if set(path) <= matter}


@mistake("paths were found; missed were")
def find_paths(model, tokens):
    """Adds what brings the predictions nearer in nats: where none does by itself, finds none."""
    terms = _terms(model, tokens)
    whole = sum(terms.values())
    found, total = set(), torch.zeros_like(whole)
    while len(found) < len(terms):
        costs = {path: _kl(whole, total + term) for path, term in terms.items() if path not in found}
        best = min(costs, key=costs.get)
        if _kl(whole, total) - costs[best] < 0.01:
            break
        found.add(best)
        total = total + terms[best]
    return found


@mistake("missed were")
def find_paths(model, tokens):
    """The direct path and nothing else."""
    return {()}


@mistake("no path was named in any model")
def find_paths(model, tokens):
    return set()


@right("each term on its own against the whole, in squares")
def find_paths(model, tokens):
    terms = {path: term - term.mean(-1, keepdim=True) for path, term in _terms(model, tokens).items()}
    whole = sum(terms.values())
    scale = whole.square().sum()
    return [
        [list(head) for head in path]
        for path, term in terms.items()
        if (2 * whole * term - term.square()).sum() > 0.05 * scale
    ]


def _without_loss(terms, base, whole):
    """Leaves out one or two of the terms at a time, as long as the predictions stay."""
    keep = set(terms)
    while keep:
        left = base + sum(terms[path] for path in keep)
        for n in (1, 2):
            costs = {
                some: _kl(whole, left - sum(terms[path] for path in some))
                for some in itertools.combinations(sorted(keep), n)
            }
            if costs and min(costs.values()) < 0.02:
                keep -= set(min(costs, key=costs.get))
                break
        else:
            return keep
    return keep


@right("paths left out of the logits by ones and by twos, in nats")
def find_paths(model, tokens):
    terms = _terms(model, tokens)
    whole = sum(terms.values())
    heard = {path: term for path, term in terms.items() if _kl(whole, whole - term) > 1e-3}
    return _without_loss(heard, whole - sum(heard.values()), whole)


@right("paths set to their means, by ones and by twos, in nats")
def find_paths(model, tokens):
    terms = _terms(model, tokens)
    whole = sum(terms.values())
    moves = {path: term - term.mean((0, 1)) for path, term in terms.items()}
    heard = {path: term for path, term in moves.items() if _kl(whole, whole - term) > 1e-3}
    return _without_loss(heard, whole - sum(heard.values()), whole)


@right("gradient times path proposes the next, and what is not missed is left out again")
def find_paths(model, tokens):
    terms = {path: term - term.mean(-1, keepdim=True) for path, term in _terms(model, tokens).items()}
    whole = sum(terms.values())
    found, total = {}, torch.zeros_like(whole)
    while _kl(whole, total) > 0.01 and len(found) < len(terms):
        slope = whole.softmax(-1) - total.softmax(-1)
        helps = {
            path: ((slope * term).sum() / (term.norm() + 1e-6)).item()
            for path, term in terms.items()
            if path not in found
        }
        best = max(helps, key=helps.get)
        found[best] = terms[best]
        total = total + terms[best]
    return _without_loss(found, torch.zeros_like(whole), whole)


@right("heads silenced in runs with the patterns held fixed, by inclusion and exclusion, in squares")
def find_paths(model, tokens):
    heads = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    _, cache = model.run_with_cache(tokens)

    @functools.cache
    def run(heard):
        hooks = []
        for layer in range(model.cfg.n_layers):
            silent = [head for its, head in heads if its == layer and (its, head) not in heard]

            def silence(z, hook, silent=silent):
                z = z.clone()
                z[:, :, silent] = 0
                return z

            fixed = cache["pattern", layer]
            hooks.append((f"blocks.{layer}.attn.hook_pattern", lambda x, hook, fixed=fixed: fixed))
            hooks.append((f"blocks.{layer}.attn.hook_z", silence))
        logits = model.run_with_hooks(tokens, fwd_hooks=hooks)
        return logits - logits.mean(-1, keepdim=True)

    whole, found = run(frozenset(heads)), set()
    for n in range(model.cfg.n_layers + 1):
        for path in itertools.combinations(heads, n):
            if len({layer for layer, _ in path}) == n:
                parts = [(k, some) for k in range(n + 1) for some in itertools.combinations(path, k)]
                term = sum((-1) ** (n - k) * run(frozenset(some)) for k, some in parts)
                if (2 * whole * term - term.square()).sum() > 0.05 * whole.square().sum():
                    found.add(path)
    return found
