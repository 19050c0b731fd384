"""Wrong answers to 1.3, each of which its check must reject and name, and right ones in other styles."""

import math

import numpy as np
import torch
from scipy import stats

from concrete_steps.checking.mistakes import mistake, right

# --- 1. From logits to nats


@mistake("does not take the largest away first: e^1000 is infinite")
def log_softmax(logits, temperature=1.0):
    scaled = logits / temperature
    return scaled - scaled.exp().sum(-1, keepdim=True).log()


@mistake("gives probabilities, not their logarithms")
def log_softmax(logits, temperature=1.0):
    return torch.softmax(logits / temperature, -1)


@mistake("multiplies by the temperature: a high one must make the tokens more alike")
def log_softmax(logits, temperature=1.0):
    return torch.log_softmax(logits * temperature, -1)


@mistake("takes the softmax and then the log: a small probability is 0 by then, its log minus infinity")
def log_softmax(logits, temperature=1.0):
    return torch.softmax(logits / temperature, -1).log()


@mistake("leaves the temperature out")
def log_softmax(logits, temperature=1.0):
    return torch.log_softmax(logits, -1)


@mistake("normalises over the first axis, not over the tokens of the vocabulary")
def log_softmax(logits, temperature=1.0):
    return torch.log_softmax(logits / temperature, 0)


@mistake("divides by the temperature at the end: the sum is over z / T")
def log_softmax(logits, temperature=1.0):
    return torch.log_softmax(logits, -1) / temperature


@mistake("uses PyTorch's own softmax or logsumexp: write it with exp, sum and log")
def log_softmax(logits, temperature=1.0):
    scaled = logits / temperature
    return scaled - scaled.logsumexp(-1, keepdim=True)


@right("logsumexp by hand, with max instead of amax")
def log_softmax(logits, temperature=1.0):
    top = logits.max(dim=-1, keepdim=True).values
    z = (logits - top) / temperature
    return z - torch.log(torch.exp(z).sum(dim=-1, keepdim=True))


def _costs(logits, tokens):
    return -torch.log_softmax(logits[:, :-1], -1).gather(-1, tokens[:, 1:, None])[..., 0]


def _mean(costs, kept):
    return torch.where(kept, costs, 0).sum(1) / kept.sum(1)


@mistake("asks each position for its own token: its logits are about the next one")
def cross_entropy(logits, tokens, keep):
    costs = -torch.log_softmax(logits, -1).gather(-1, tokens[..., None])[..., 0]
    return _mean(costs[:, 1:], keep[:, 1:])


@mistake("takes keep of the token before, not of the token that is predicted")
def cross_entropy(logits, tokens, keep):
    return _mean(_costs(logits, tokens), keep[:, :-1])


@mistake("divides by all positions, not by those kept")
def cross_entropy(logits, tokens, keep):
    return torch.where(keep[:, 1:], _costs(logits, tokens), 0).mean(1)


@mistake("leaves out by multiplying with 0: 0 times infinity is nan")
def cross_entropy(logits, tokens, keep):
    return (_costs(logits, tokens) * keep[:, 1:]).sum(1) / keep[:, 1:].sum(1)


@mistake("gives the sum over a text's tokens, not their mean")
def cross_entropy(logits, tokens, keep):
    return torch.where(keep[:, 1:], _costs(logits, tokens), 0).sum(1)


@mistake("gives the mean log-probability: a loss has the other sign")
def cross_entropy(logits, tokens, keep):
    return -_mean(_costs(logits, tokens), keep[:, 1:])


@mistake("makes numbers of all infinities: a kept token of probability 0 costs infinitely much")
def cross_entropy(logits, tokens, keep):
    return (_costs(logits, tokens).nan_to_num() * keep[:, 1:]).sum(1) / keep[:, 1:].sum(1)


@mistake("gives one number for all texts: each has a loss of its own")
def cross_entropy(logits, tokens, keep):
    return _costs(logits, tokens)[keep[:, 1:]].mean().expand(len(tokens))


@mistake("counts the first token, which is never asked for, among those kept")
def cross_entropy(logits, tokens, keep):
    return torch.where(keep[:, 1:], _costs(logits, tokens), 0).sum(1) / keep.sum(1)


@right("chooses logits and tokens first, and multiplies after")
def cross_entropy(logits, tokens, keep):
    kept = keep[:, 1:]
    safe = torch.where(kept[..., None], logits[:, :-1], 0)
    found = safe.log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
    return -torch.where(kept, found, 0).sum(1) / kept.sum(1)


@right("text by text, picking what is kept")
def cross_entropy(logits, tokens, keep):
    losses = []
    for row, ids, kept in zip(logits, tokens, keep, strict=True):
        places = kept[1:].nonzero()[:, 0]
        losses.append(torch.nn.functional.cross_entropy(row[places], ids[places + 1]))
    return torch.stack(losses)


@right("masked_fill and nansum")
def cross_entropy(logits, tokens, keep):
    return _costs(logits, tokens).masked_fill(~keep[:, 1:], torch.nan).nanmean(1)


@mistake("takes the mean of the texts' perplexities: the exponent comes last")
def perplexity(losses, counts):
    return ((losses.exp() * counts).sum() / counts.sum()).item()


@mistake("lets every text count alike: long ones hold more tokens")
def perplexity(losses, counts):
    return losses.mean().exp().item()


@mistake("takes 2 to the power of nats: e is their base")
def perplexity(losses, counts):
    return 2 ** ((losses * counts).sum() / counts.sum()).item()


@mistake("gives the loss itself, without the exponent")
def perplexity(losses, counts):
    return ((losses * counts).sum() / counts.sum()).item()


@mistake("takes the plain mean of the texts' perplexities")
def perplexity(losses, counts):
    return losses.exp().mean().item()


@right("with numpy's weighted mean")
def perplexity(losses, counts):
    return float(np.exp(np.average(losses.double().numpy(), weights=counts.numpy())))


# --- 2. Two distributions


@mistake("takes 0 times minus infinity: that term is 0, not nan")
def entropy(log_p):
    return -(log_p.exp() * log_p).sum(-1)


@mistake("has the wrong sign: an entropy is never negative")
def entropy(log_p):
    return torch.where(log_p.isneginf(), 0, log_p.exp() * log_p).sum(-1)


@mistake("counts in bits: nats are asked for")
def entropy(log_p):
    return -torch.where(log_p.isneginf(), 0, log_p.exp() * log_p).sum(-1) / math.log(2)


@mistake("gives the mean -log p of all tokens alike: weigh each by its probability")
def entropy(log_p):
    return -torch.where(log_p.isneginf(), 0, log_p).mean(-1)


@mistake("cuts log-probabilities off: small probabilities then weigh too little")
def entropy(log_p):
    return -(log_p.exp() * log_p.clamp(min=-10)).sum(-1)


@right("0 in place of -inf: e^0 times 0 is 0 as well")
def entropy(log_p):
    finite = log_p.masked_fill(log_p.isneginf(), 0)
    return -(finite.exp() * finite).sum(-1)


@right("xlogy, which knows that 0 log 0 is 0")
def entropy(log_p):
    return -torch.xlogy(log_p.exp(), log_p.exp()).sum(-1)


@right("torch.special.entr")
def entropy(log_p):
    return torch.special.entr(log_p.exp()).sum(-1)


def _kl(log_p, log_q):
    return torch.where(log_p.isneginf(), 0, log_p.exp() * (log_p - log_q)).sum(-1)


@mistake("has p and q exchanged: the mean is over p")
def kl_divergence(log_p, log_q):
    return _kl(log_q, log_p)


@mistake("gives the cross-entropy: the entropy of p is still in it")
def kl_divergence(log_p, log_q):
    return -torch.where(log_p.isneginf(), 0, log_p.exp() * log_q).sum(-1)


@mistake("gives nan where p is 0: that term is 0")
def kl_divergence(log_p, log_q):
    return (log_p.exp() * (log_p - log_q)).sum(-1)


@mistake("counts in bits: nats are asked for")
def kl_divergence(log_p, log_q):
    return _kl(log_p, log_q) / math.log(2)


@mistake("drops what q forbids: there the divergence is infinite")
def kl_divergence(log_p, log_q):
    terms = log_p.exp() * (log_p - log_q)
    return torch.where(terms.isfinite(), terms, 0).sum(-1)


@mistake("makes infinity a large number: where q forbids what p allows, it is infinite")
def kl_divergence(log_p, log_q):
    return (log_p.exp() * (log_p - log_q)).nan_to_num().sum(-1)


@mistake("takes the mean of both directions: KL has one")
def kl_divergence(log_p, log_q):
    return (_kl(log_p, log_q) + _kl(log_q, log_p)) / 2


@right("cross-entropy minus entropy")
def kl_divergence(log_p, log_q):
    p = log_p.exp()
    crossed = torch.where(p == 0, 0, p * log_q).sum(-1)
    return torch.where(p == 0, 0, p * log_p).sum(-1) - crossed


# --- 3. Sampling and counting


def _thrown(probs, n, generator):
    return torch.rand(*probs.shape[:-1], n, generator=generator, dtype=torch.float64)


@mistake("throws one set of numbers for all rows: each needs its own")
def sample_categorical(probs, n, generator):
    thrown = torch.rand(n, generator=generator, dtype=torch.float64)
    borders = probs.double().cumsum(-1)
    return torch.searchsorted(borders / borders[..., -1:], thrown.expand(*probs.shape[:-1], n).contiguous(), right=True)


@mistake("always gives the likeliest token: that is no draw")
def sample_categorical(probs, n, generator):
    return probs.argmax(-1, keepdim=True).expand(*probs.shape[:-1], n).clone()


@mistake("draws all tokens alike, whatever their probabilities")
def sample_categorical(probs, n, generator):
    return torch.randint(probs.shape[-1], (*probs.shape[:-1], n), generator=generator)


@mistake("searches the probabilities themselves: add them up first")
def sample_categorical(probs, n, generator):
    found = torch.searchsorted(probs.double().sort(-1).values, _thrown(probs, n, generator), right=True)
    return found.clamp(max=probs.shape[-1] - 1)


@mistake("gives the draws sorted: they must not depend on each other")
def sample_categorical(probs, n, generator):
    borders = probs.double().cumsum(-1)
    thrown = _thrown(probs, n, generator).sort(-1).values
    return torch.searchsorted(borders / borders[..., -1:], thrown, right=True)


@mistake("searches from the left: a number thrown that is exactly a border gives the stretch before it")
def sample_categorical(probs, n, generator):
    thrown = torch.rand(*probs.shape[:-1], n, generator=generator)
    return torch.searchsorted(probs.cumsum(-1), thrown).clamp(max=probs.shape[-1] - 1)


@mistake("gives a token that does not exist where the number thrown is above the last border")
def sample_categorical(probs, n, generator):
    thrown = torch.rand(*probs.shape[:-1], n, generator=generator)
    return torch.searchsorted(probs.cumsum(-1), thrown, right=True)


@mistake("draws one token and repeats it: each draw needs a number of its own")
def sample_categorical(probs, n, generator):
    borders = probs.double().cumsum(-1)
    found = torch.searchsorted(borders / borders[..., -1:], _thrown(probs, 1, generator), right=True)
    return found.repeat(*[1] * (probs.ndim - 1), n)


@right("torch.multinomial, row by row")
def sample_categorical(probs, n, generator):
    rows = probs.reshape(-1, probs.shape[-1])
    return torch.multinomial(rows, n, replacement=True, generator=generator).view(*probs.shape[:-1], n)


@right("Gumbel noise and argmax, in slices")
def sample_categorical(probs, n, generator):
    drawn = []
    for _ in range(0, n, 500):
        noise = torch.rand(*probs.shape[:-1], 500, probs.shape[-1], generator=generator, dtype=torch.float64)
        drawn.append((probs.double().log()[..., None, :] - noise.log().neg().log()).argmax(-1))
    if not drawn:
        return torch.zeros(*probs.shape[:-1], 0, dtype=torch.long)
    return torch.cat(drawn, -1)[..., :n]


@right("counts the borders that lie below")
def sample_categorical(probs, n, generator):
    borders = probs.double().cumsum(-1)
    borders = borders / borders[..., -1:]
    thrown = _thrown(probs, n, generator)
    found = torch.zeros(thrown.shape, dtype=torch.long)
    for k in range(probs.shape[-1] - 1):
        found += thrown >= borders[..., k : k + 1]
    return found


def _bigrams(texts, n_vocab, alpha=0.0):
    counts = torch.full((n_vocab, n_vocab), float(alpha), dtype=torch.float64)
    for text in texts:
        for a, b in zip(text[:-1].tolist(), text[1:].tolist(), strict=True):
            counts[a, b] += 1
    return counts


@mistake("joins the texts: the end of one and the start of the next are no pair")
def bigram_model(texts, n_vocab, alpha):
    counts = _bigrams([torch.cat(texts)], n_vocab, alpha)
    return counts / counts.sum(1, keepdim=True)


@mistake("has rows and columns exchanged: the row is the token before")
def bigram_model(texts, n_vocab, alpha):
    counts = _bigrams(texts, n_vocab, alpha)
    return (counts / counts.sum(1, keepdim=True)).T


@mistake("makes columns sum to 1: the next tokens of one token stand in a row")
def bigram_model(texts, n_vocab, alpha):
    counts = _bigrams(texts, n_vocab, alpha)
    return counts / counts.sum(0, keepdim=True)


@mistake("leaves alpha out of the sum: the rows add up to more than 1")
def bigram_model(texts, n_vocab, alpha):
    counts = _bigrams(texts, n_vocab)
    return (counts + alpha) / counts.sum(1, keepdim=True).clamp(min=1)


@mistake("counts a pair once, however often it comes: index_put_ needs accumulate=True")
def bigram_model(texts, n_vocab, alpha):
    counts = _bigrams(texts, n_vocab).clamp(max=1) + alpha
    return counts / counts.sum(1, keepdim=True)


@mistake("gives the probability of the pair: divide by the row's sum, not by that of all")
def bigram_model(texts, n_vocab, alpha):
    counts = _bigrams(texts, n_vocab, alpha)
    return counts / counts.sum()


@mistake("adds alpha to a row's sum once: it is added to every count, so n_vocab times to the sum")
def bigram_model(texts, n_vocab, alpha):
    counts = _bigrams(texts, n_vocab)
    return (counts + alpha) / (counts.sum(1, keepdim=True) + alpha)


@mistake("divides column b by the sum of row b: sum(1) without keepdim lies along the columns")
def bigram_model(texts, n_vocab, alpha):
    counts = _bigrams(texts, n_vocab, alpha)
    return counts / counts.sum(1)


@mistake("adds alpha to unseen pairs alone: every pair gets it")
def bigram_model(texts, n_vocab, alpha):
    counts = _bigrams(texts, n_vocab)
    counts = torch.where(counts == 0, alpha, counts)
    return counts / counts.sum(1, keepdim=True)


@right("bincount of a * n_vocab + b")
def bigram_model(texts, n_vocab, alpha):
    pairs = torch.cat([text[:-1] * n_vocab + text[1:] for text in texts])
    counts = pairs.bincount(minlength=n_vocab**2).view(n_vocab, n_vocab).double() + alpha
    return counts / counts.sum(dim=1)[:, None]


# --- 4. An interval


def _means(values, n_draws, generator):
    return values.double()[torch.randint(len(values), (n_draws, len(values)), generator=generator)].mean(1)


def _ends(means, *tails):
    return tuple(means.quantile(torch.tensor(tails, dtype=torch.float64)).tolist())


@mistake("takes quantiles of the values, not of the means of samples drawn from them")
def bootstrap_interval(values, level, n_draws, generator):
    return _ends(values.double(), (1 - level) / 2, (1 + level) / 2)


@mistake("draws without replacement: every sample is the same one, shuffled")
def bootstrap_interval(values, level, n_draws, generator):
    order = torch.rand(n_draws, len(values), generator=generator).argsort(1)
    return _ends(values.double()[order].mean(1), (1 - level) / 2, (1 + level) / 2)


@mistake("cuts 1 - level off at either end: half of it belongs to each")
def bootstrap_interval(values, level, n_draws, generator):
    return _ends(_means(values, n_draws, generator), 1 - level, level)


@mistake("gives the medians of the drawn samples their interval, not the means")
def bootstrap_interval(values, level, n_draws, generator):
    picks = torch.randint(len(values), (n_draws, len(values)), generator=generator)
    return _ends(values.double()[picks].median(1).values, (1 - level) / 2, (1 + level) / 2)


@mistake("gives high before low")
def bootstrap_interval(values, level, n_draws, generator):
    return _ends(_means(values, n_draws, generator), (1 + level) / 2, (1 - level) / 2)


@mistake("draws one value too few for each sample: they are as large as the sample itself")
def bootstrap_interval(values, level, n_draws, generator):
    picks = torch.randint(len(values), (n_draws, len(values) - 1), generator=generator)
    return _ends(values.double()[picks].mean(1), (1 - level) / 2, (1 + level) / 2)


@mistake("never draws the last value: randint leaves its upper end out already")
def bootstrap_interval(values, level, n_draws, generator):
    picks = torch.randint(len(values) - 1, (n_draws, len(values)), generator=generator)
    return _ends(values.double()[picks].mean(1), (1 - level) / 2, (1 + level) / 2)


@mistake("takes the level to be 95 %, whatever it is")
def bootstrap_interval(values, level, n_draws, generator):
    return _ends(_means(values, n_draws, generator), 0.025, 0.975)


@mistake("reflects the interval at the sample's mean: that is the basic bootstrap, not the percentiles")
def bootstrap_interval(values, level, n_draws, generator):
    low, high = _ends(_means(values, n_draws, generator), (1 - level) / 2, (1 + level) / 2)
    twice = 2 * values.double().mean().item()
    return twice - high, twice - low


@right("draw by draw, with numpy's quantile")
def bootstrap_interval(values, level, n_draws, generator):
    x = values.double().numpy()
    picks = torch.randint(len(x), (n_draws, len(x)), generator=generator).numpy()
    low, high = np.quantile([x[row].mean() for row in picks], [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@right("sorted means, picked by rank")
def bootstrap_interval(values, level, n_draws, generator):
    means = _means(values, n_draws, generator).sort().values
    tail = (1 - level) / 2
    return means[round(tail * (n_draws - 1))].item(), means[round((1 - tail) * (n_draws - 1))].item()


def _bca(values, level, n_draws, generator, bias_of=1.0, a_of=1.0, half=True, outside=1.0, inside=1.0):
    if values.min() == values.max():
        return values[0].item(), values[0].item()
    x = values.double()
    means = _means(values, n_draws, generator)
    below = (means < x.mean()).double().mean()
    if half:
        below = (below + (means <= x.mean()).double().mean()) / 2
    z0 = bias_of * torch.special.ndtri(below)
    d = x - x.mean()
    a = a_of * d.pow(3).sum() / (6 * d.square().sum() ** 1.5)
    z = inside * z0 + torch.special.ndtri(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64))
    return tuple(means.quantile(torch.special.ndtr(outside * z0 + z / (1 - a * z))).tolist())


@mistake("gives the percentile interval: its quantiles are not corrected")
def bca_interval(values, level, n_draws, generator):
    return _ends(_means(values, n_draws, generator), (1 - level) / 2, (1 + level) / 2)


@mistake("leaves the acceleration out: it corrects for bias alone")
def bca_interval(values, level, n_draws, generator):
    return _bca(values, level, n_draws, generator, a_of=0.0)


@mistake("leaves the bias z0 out in front of the fraction: it stands there, too")
def bca_interval(values, level, n_draws, generator):
    return _bca(values, level, n_draws, generator, outside=0.0)


@mistake("leaves the bias z0 out within the fraction: there it is added to the tail's quantile")
def bca_interval(values, level, n_draws, generator):
    return _bca(values, level, n_draws, generator, inside=0.0)


@mistake("leaves the bias out: it corrects for acceleration alone")
def bca_interval(values, level, n_draws, generator):
    return _bca(values, level, n_draws, generator, bias_of=0.0)


@mistake("counts only means below the sample's: of equal ones, half count")
def bca_interval(values, level, n_draws, generator):
    return _bca(values, level, n_draws, generator, half=False)


@mistake("has the sign of the acceleration wrong: d is x minus the mean, and the denominator 1 minus a times ...")
def bca_interval(values, level, n_draws, generator):
    return _bca(values, level, n_draws, generator, a_of=-1.0)


@mistake("forgets the 6 in the acceleration")
def bca_interval(values, level, n_draws, generator):
    return _bca(values, level, n_draws, generator, a_of=6.0)


@mistake("has the sign of the bias wrong: it is of the share of means below the sample's")
def bca_interval(values, level, n_draws, generator):
    return _bca(values, level, n_draws, generator, bias_of=-1.0)


@right("with scipy's normal distribution and the jackknife")
def bca_interval(values, level, n_draws, generator):
    x = values.double().numpy()
    if np.ptp(x) == 0:
        return float(x[0]), float(x[0])
    means = x[torch.randint(len(x), (n_draws, len(x)), generator=generator).numpy()].mean(1)
    z0 = stats.norm.ppf((np.mean(means < x.mean()) + np.mean(means <= x.mean())) / 2)
    left_out = (x.sum() - x) / (len(x) - 1)
    d = left_out.mean() - left_out
    a = np.sum(d**3) / (6 * np.sum(d**2) ** 1.5)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = z0 + stats.norm.ppf(tail)
        ends.append(float(np.quantile(means, stats.norm.cdf(z0 + z / (1 - a * z)))))
    return ends[0], ends[1]


def _held(interval, samples, truth):
    ends = [interval(sample) for sample in samples]
    return [low <= truth <= high for low, high in ends]


def _with_error(share, n):
    return share, math.sqrt(share * (1 - share) / n)


@mistake("gives the share that misses the truth")
def coverage(interval, samples, truth):
    held = _held(interval, samples, truth)
    return _with_error(1 - sum(held) / len(held), len(held))


@mistake("asks whether the interval holds the sample's own mean, which it nearly always does")
def coverage(interval, samples, truth):
    ends = [interval(sample) for sample in samples]
    held = [low <= sample.mean() <= high for sample, (low, high) in zip(samples, ends, strict=True)]
    return _with_error(sum(held) / len(held), len(held))


@mistake("leaves the ends out: an interval holds them")
def coverage(interval, samples, truth):
    held = [low < truth < high for low, high in map(interval, samples)]
    return _with_error(sum(held) / len(held), len(held))


@mistake("gives the spread of a single yes or no: divide by the number of samples under the root")
def coverage(interval, samples, truth):
    share = sum(_held(interval, samples, truth)) / len(samples)
    return share, math.sqrt(share * (1 - share))


@mistake("forgets the square root in the standard error")
def coverage(interval, samples, truth):
    share = sum(_held(interval, samples, truth)) / len(samples)
    return share, share * (1 - share) / len(samples)


@mistake("divides by n - 1 under the root: the formula has the number of samples")
def coverage(interval, samples, truth):
    share = sum(_held(interval, samples, truth)) / len(samples)
    return share, math.sqrt(share * (1 - share) / max(1, len(samples) - 1))


@right("with tensors")
def coverage(interval, samples, truth):
    low, high = torch.tensor([interval(sample) for sample in samples], dtype=torch.float64).T
    held = ((low <= truth) & (truth <= high)).double()
    return held.mean().item(), (held.std(correction=0) / len(held) ** 0.5).item()


@mistake("tokens of one prompt, and prompts of one model, do not show how trainings differ")
def answer_unit():
    return "a"


@mistake("40 prompts would do for a claim about one model on such prompts")
def answer_unit():
    return "b"


# --- 6. Two groups


def _gaps(a, b, n_draws, generator, absolute=True):
    both = torch.cat([a, b]).double()
    rows = both[torch.rand(n_draws, len(both), generator=generator).argsort(1)]
    gaps = rows[:, : len(a)].mean(1) - rows[:, len(a) :].mean(1)
    real = (both[: len(a)].mean() - both[len(a) :].mean()).item()
    slack = 1e-9 * both.abs().max()
    return (gaps.abs(), abs(real), slack) if absolute else (gaps, real, slack)


@mistake("is one-sided: a difference the other way counts as well")
def permutation_test(a, b, n_draws, generator):
    gaps, real, slack = _gaps(a, b, n_draws, generator, absolute=False)
    return (1 + (gaps >= real - slack).sum().item()) / (1 + n_draws)


@mistake("does not count equal differences: as large means at least as large")
def permutation_test(a, b, n_draws, generator):
    gaps, real, slack = _gaps(a, b, n_draws, generator)
    return (1 + (gaps > real + slack).sum().item()) / (1 + n_draws)


@mistake("does not count the real labels: p can be 0")
def permutation_test(a, b, n_draws, generator):
    gaps, real, slack = _gaps(a, b, n_draws, generator)
    return (gaps >= real - slack).sum().item() / n_draws


@mistake("gives the share of shuffles with a smaller difference, 1 - p")
def permutation_test(a, b, n_draws, generator):
    gaps, real, slack = _gaps(a, b, n_draws, generator)
    return (1 + (gaps < real - slack).sum().item()) / (1 + n_draws)


@mistake("draws labels with replacement: shuffle, so that every value is used once")
def permutation_test(a, b, n_draws, generator):
    both = torch.cat([a, b]).double()
    rows = both[torch.randint(len(both), (n_draws, len(both)), generator=generator)]
    gaps = (rows[:, : len(a)].mean(1) - rows[:, len(a) :].mean(1)).abs()
    real = (a.double().mean() - b.double().mean()).abs()
    return (1 + (gaps >= real - 1e-9 * both.abs().max()).sum().item()) / (1 + n_draws)


@mistake("compares without allowing for rounding: equal differences then count or not by chance")
def permutation_test(a, b, n_draws, generator):
    both = torch.cat([a, b])
    rows = both[torch.rand(n_draws, len(both), generator=generator).argsort(1)]
    gaps = (rows[:, : len(a)].mean(1) - rows[:, len(a) :].mean(1)).abs()
    return (1 + (gaps >= (a.mean() - b.mean()).abs()).sum().item()) / (1 + n_draws)


@mistake("what is allowed for rounding does not shrink with the values: for small ones it is no longer small")
def permutation_test(a, b, n_draws, generator):
    gaps, real, _ = _gaps(a, b, n_draws, generator)
    return (1 + (gaps >= real - 1e-6).sum().item()) / (1 + n_draws)


@mistake("cuts the shuffled row in two halves: the first part is as long as a")
def permutation_test(a, b, n_draws, generator):
    both = torch.cat([a, b]).double()
    rows = both[torch.rand(n_draws, len(both), generator=generator).argsort(1)]
    cut = len(both) // 2
    gaps = (rows[:, :cut].mean(1) - rows[:, cut:].mean(1)).abs()
    real = (a.double().mean() - b.double().mean()).abs()
    return (1 + (gaps >= real - 1e-9 * both.abs().max()).sum().item()) / (1 + n_draws)


@right("in float32, with what float32 rounds")
def permutation_test(a, b, n_draws, generator):
    both = torch.cat([a, b]).float()
    both = both - both.mean()
    rows = both[torch.rand(n_draws, len(both), generator=generator).argsort(1)]
    gaps = (rows[:, : len(a)].mean(1) - rows[:, len(a) :].mean(1)).abs()
    real = (both[: len(a)].mean() - both[len(a) :].mean()).abs()
    return (1 + (gaps >= real - 1e-6 * both.abs().max()).sum().item()) / (1 + n_draws)


@mistake("shuffles within each group, which leaves both means as they are")
def permutation_test(a, b, n_draws, generator):
    return 1.0


@right("a loop of randperm, by the sum of a alone")
def permutation_test(a, b, n_draws, generator):
    both = torch.cat([a, b]).double()
    centre = len(a) * both.mean()
    real = (both[: len(a)].sum() - centre).abs()
    count = 1
    for _ in range(n_draws):
        picked = both[torch.randperm(len(both), generator=generator)[: len(a)]]
        count += bool((picked.sum() - centre).abs() >= real - 1e-8 * both.abs().max())
    return count / (1 + n_draws)


@mistake("p is computed as if there were no difference: it cannot be that statement's probability")
def answer_p():
    return "b"


@mistake("p counts shuffles, not values")
def answer_p():
    return "c"


# --- 7. A null that matches


def _shuffled(y, generator):
    return y[torch.randperm(len(y), generator=generator)]


def _p(null, value):
    return (1 + (null >= value).sum().item()) / (1 + len(null))


def _with_null(statistic, x, y, labels):
    value = float(statistic(x, y))
    null = torch.tensor([float(statistic(x, drawn)) for drawn in labels])
    return value, null, _p(null, value)


@mistake("draws labels with replacement: that also changes how many there are of each")
def matched_null(statistic, x, y, n_draws, generator):
    labels = [y[torch.randint(len(y), (len(y),), generator=generator)] for _ in range(n_draws)]
    return _with_null(statistic, x, y, labels)


@mistake("shuffles once and uses the same order in every draw")
def matched_null(statistic, x, y, n_draws, generator):
    return _with_null(statistic, x, y, [_shuffled(y, generator)] * n_draws)


@mistake("does not count the real value: p can be 0")
def matched_null(statistic, x, y, n_draws, generator):
    labels = [_shuffled(y, generator) for _ in range(n_draws)]
    value, null, _ = _with_null(statistic, x, y, labels)
    return value, null, (null >= value).float().mean().item()


@mistake("counts the null values below the real one")
def matched_null(statistic, x, y, n_draws, generator):
    value, null, _ = _with_null(statistic, x, y, [_shuffled(y, generator) for _ in range(n_draws)])
    return value, null, (1 + (null < value).sum().item()) / (1 + n_draws)


@mistake("shuffles x and y by the same order: each row keeps its label")
def matched_null(statistic, x, y, n_draws, generator):
    value, null = float(statistic(x, y)), []
    for _ in range(n_draws):
        order = torch.randperm(len(y), generator=generator)
        null.append(float(statistic(x[order], y[order])))
    null = torch.tensor(null)
    return value, null, _p(null, value)


@mistake("draws normal numbers as labels: the null must have the labels' own values")
def matched_null(statistic, x, y, n_draws, generator):
    labels = [torch.randn(y.shape, generator=generator, dtype=y.dtype) for _ in range(n_draws)]
    return _with_null(statistic, x, y, labels)


@mistake("does not count null values equal to the real one: as large is enough")
def matched_null(statistic, x, y, n_draws, generator):
    value, null, _ = _with_null(statistic, x, y, [_shuffled(y, generator) for _ in range(n_draws)])
    return value, null, (1 + (null > value).sum().item()) / (1 + n_draws)


@mistake("compares absolute values: large is surprising, low is not")
def matched_null(statistic, x, y, n_draws, generator):
    value, null, _ = _with_null(statistic, x, y, [_shuffled(y, generator) for _ in range(n_draws)])
    return value, null, (1 + (null.abs() >= abs(value)).sum().item()) / (1 + n_draws)


@mistake("shuffles every column of x by itself: a prompt's heads belong together")
def matched_null(statistic, x, y, n_draws, generator):
    value, null = float(statistic(x, y)), []
    for _ in range(n_draws):
        null.append(float(statistic(torch.stack([_shuffled(column, generator) for column in x.T], 1), y)))
    null = torch.tensor(null)
    return value, null, _p(null, value)


@right("gives the null in falling order")
def matched_null(statistic, x, y, n_draws, generator):
    value, null, p = _with_null(statistic, x, y, [_shuffled(y, generator) for _ in range(n_draws)])
    return value, null.sort(descending=True).values, p


@right("shuffles the rows of x instead, which is the same null")
def matched_null(statistic, x, y, n_draws, generator):
    value = float(statistic(x, y))
    null = torch.empty(n_draws, dtype=torch.float64)
    for i in range(n_draws):
        null[i] = float(statistic(x[torch.rand(len(y), generator=generator).argsort()], y))
    return value, null, (1 + int((null >= value).sum())) / (1 + n_draws)


def _holm(p_values, running=True, clamp=True, unsort=True):
    order = p_values.argsort()
    rising = p_values[order] * torch.arange(len(p_values), 0, -1)
    if running:
        rising = rising.cummax(0).values
    if clamp:
        rising = rising.clamp(max=1)
    return rising[order.argsort()] if unsort else rising


@mistake("multiplies every p by how many there are: that is Bonferroni, which Holm betters")
def holm(p_values):
    return (p_values * len(p_values)).clamp(max=1)


@mistake("lets an adjusted p be smaller than that of a smaller p")
def holm(p_values):
    return _holm(p_values, running=False)


@mistake("lets an adjusted p exceed 1")
def holm(p_values):
    return _holm(p_values, clamp=False)


@mistake("gives them sorted: put them back in the order in which they came")
def holm(p_values):
    return _holm(p_values, unsort=False)


@mistake("puts them back by the order itself: its inverse is needed")
def holm(p_values):
    order = p_values.argsort()
    return _holm(p_values, unsort=False)[order]


@mistake("multiplies the smallest by 1 and the largest by how many there are: the other way round")
def holm(p_values):
    order = p_values.argsort()
    rising = p_values[order] * torch.arange(1, len(p_values) + 1)
    return rising.cummax(0).values.clamp(max=1)[order.argsort()]


@mistake("controls the false discovery rate (Benjamini and Hochberg), which is a weaker promise")
def holm(p_values):
    return torch.tensor(stats.false_discovery_control(p_values.numpy())).to(p_values.dtype)


@mistake("goes from the largest p down, taking the least so far: that is Hochberg's method")
def holm(p_values):
    order = p_values.argsort()
    scaled = p_values[order] * torch.arange(len(p_values), 0, -1)
    return scaled.flip(0).cummin(0).values.flip(0).clamp(max=1)[order.argsort()]


@mistake("compares each with the one before alone: none may be smaller than any before")
def holm(p_values):
    order = p_values.argsort()
    scaled = p_values[order] * torch.arange(len(p_values), 0, -1)
    scaled[1:] = torch.maximum(scaled[1:], scaled[:-1].clone())
    return scaled.clamp(max=1)[order.argsort()]


@right("a loop over the sorted values")
def holm(p_values):
    adjusted, most = torch.zeros_like(p_values), 0.0
    for rank, i in enumerate(p_values.argsort().tolist()):
        most = max(most, (len(p_values) - rank) * p_values[i].item())
        adjusted[i] = min(most, 1.0)
    return adjusted


@mistake("a coin is about nothing: no head can be sensitive to it twice")
def answer_coin():
    return "a"


@mistake("13.5 is the mean over coins; single counts scatter widely, as the heads attend alike")
def answer_coin():
    return "c"


# --- 8. The best of many


def _splits(scores, n_splits, generator, score):
    found = []
    for _ in range(n_splits):
        order = torch.randperm(len(scores), generator=generator)
        cut = len(scores) // 2
        found.append(score(scores[order[:cut]].mean(0), scores[order[cut:]].mean(0)))
    return tuple(sum(column) / n_splits for column in zip(*found, strict=True))


@mistake("takes the best of the rest as the fresh score: that chooses again")
def best_of_many(scores, n_splits, generator):
    return _splits(
        scores,
        n_splits,
        generator,
        lambda first, rest: (first.max().item(), rest.max().item(), float(first.argmax() == rest.argmax())),
    )


@mistake("chooses on all prompts: the rest is then not fresh")
def best_of_many(scores, n_splits, generator):
    head = scores.mean(0).argmax()
    return _splits(
        scores,
        n_splits,
        generator,
        lambda first, rest: (first[head].item(), rest[head].item(), float(rest.argmax() == head)),
    )


@mistake("gives the fresh score before the one that chose")
def best_of_many(scores, n_splits, generator):
    chosen, fresh, again = _splits(
        scores,
        n_splits,
        generator,
        lambda first, rest: (
            first.max().item(),
            rest[first.argmax()].item(),
            float(first.argmax() == rest.argmax()),
        ),
    )
    return fresh, chosen, again


@mistake("scores the chosen head on all prompts, those that chose it among them")
def best_of_many(scores, n_splits, generator):
    whole = scores.mean(0)
    return _splits(
        scores,
        n_splits,
        generator,
        lambda first, rest: (
            first.max().item(),
            whole[first.argmax()].item(),
            float(first.argmax() == rest.argmax()),
        ),
    )


@mistake("cuts once, in the order given: split at random, and average over the splits")
def best_of_many(scores, n_splits, generator):
    cut = len(scores) // 2
    first, rest = scores[:cut].mean(0), scores[cut:].mean(0)
    head = first.argmax()
    return first[head].item(), rest[head].item(), float(rest.argmax() == head)


@mistake("gives whether the last split agreed, not the share of splits that did")
def best_of_many(scores, n_splits, generator):
    last = []

    def score(first, rest):
        head = first.argmax()
        last.append(float(rest.argmax() == head))
        return first[head].item(), rest[head].item(), last[-1]

    chosen, fresh, _ = _splits(scores, n_splits, generator, score)
    return chosen, fresh, last[-1]


@mistake("means over the splits before it chooses: each split has a best head of its own")
def best_of_many(scores, n_splits, generator):
    firsts, rests = [], []
    _splits(scores, n_splits, generator, lambda first, rest: (firsts.append(first) or rests.append(rest) or 0.0,))
    first, rest = torch.stack(firsts).mean(0), torch.stack(rests).mean(0)
    head = first.argmax()
    return first[head].item(), rest[head].item(), float(rest.argmax() == head)


@right("all splits at once")
def best_of_many(scores, n_splits, generator):
    n = len(scores)
    order = torch.rand(n_splits, n, generator=generator).argsort(1)
    first, rest = scores[order[:, : n // 2]].mean(1), scores[order[:, n // 2 :]].mean(1)
    heads = first.argmax(1)
    rows = torch.arange(n_splits)
    again = (rest.argmax(1) == heads).double()
    return first[rows, heads].mean().item(), rest[rows, heads].mean().item(), again.mean().item()
