"""Wrong answers to 2.4 Training and sampling, what each of them is, and right answers in other styles."""

import math

import torch
import torch.nn.functional as F

from concrete_steps.checking.mistakes import mistake, right

PAD, END = 0, 2

# --- 1. Loss and batches


def _losses(logits, tokens):
    return -logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]


@mistake("does not shift: the logits of a position are judged by the token that stands there")
def lm_loss(logits, tokens):
    return _losses(logits, tokens)[tokens != PAD].mean()


@mistake("counts padding, too")
def lm_loss(logits, tokens):
    return _losses(logits[:, :-1], tokens[:, 1:]).mean()


@mistake("divides by all positions, padding included")
def lm_loss(logits, tokens):
    return (_losses(logits[:, :-1], tokens[:, 1:]) * (tokens[:, 1:] != PAD)).mean()


@mistake("takes the mean of the rows' means: a short text then counts as much as a long one")
def lm_loss(logits, tokens):
    real = (tokens[:, 1:] != PAD).to(logits.dtype)
    return ((_losses(logits[:, :-1], tokens[:, 1:]) * real).sum(-1) / real.sum(-1)).mean()


@mistake("has the wrong sign: the loss is minus the log-probability")
def lm_loss(logits, tokens):
    return -_losses(logits[:, :-1], tokens[:, 1:])[tokens[:, 1:] != PAD].mean()


@mistake("adds up instead of taking the mean")
def lm_loss(logits, tokens):
    return _losses(logits[:, :-1], tokens[:, 1:])[tokens[:, 1:] != PAD].sum()


@right("cross_entropy with ignore_index")
def lm_loss(logits, tokens):
    return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1), ignore_index=0)


@right("logsumexp, and the mask as a weight")
def lm_loss(logits, tokens):
    logits, targets = logits[:, :-1], tokens[:, 1:]
    mask = targets.ne(0).to(logits.dtype)
    picked = torch.take_along_dim(logits, targets.unsqueeze(-1), dim=-1).squeeze(-1)
    return ((logits.logsumexp(-1) - picked) * mask).sum() / mask.sum()


def _filled(texts, width, left=False):
    batch = torch.zeros(len(texts), width, dtype=torch.long)
    for row, text in zip(batch, texts, strict=True):
        if left:
            row[width - len(text) :] = text
        else:
            row[: len(text)] = text
    return batch


def _drawn(texts, rows, generator):
    return [texts[i] for i in torch.randperm(len(texts), generator=generator)[:rows]]


@mistake("the longest text drawn has")
def get_batch(texts, rows, generator):
    return _filled(_drawn(texts, rows, generator), 1 + max(map(len, texts)))


@mistake("padding stands on the left: it belongs behind the text")
def get_batch(texts, rows, generator):
    drawn = _drawn(texts, rows, generator)
    return _filled(drawn, max(map(len, drawn)), left=True)


@mistake("the same text comes twice in a batch")
def get_batch(texts, rows, generator):
    drawn = [texts[i] for i in torch.randint(len(texts), (rows,), generator=generator)]
    return _filled(drawn, max(map(len, drawn)))


@mistake("takes the first texts each time: they are to be drawn")
def get_batch(texts, rows, generator):
    return _filled(texts[:rows], max(map(len, texts[:rows])))


@mistake("does not hold the whole text")
def get_batch(texts, rows, generator):
    drawn = _drawn(texts, rows, generator)
    least = min(map(len, drawn))
    return torch.stack([text[:least] for text in drawn])


@right("pad_sequence, draws one by one")
def get_batch(texts, rows, generator):
    left = list(range(len(texts)))
    drawn = []
    for _ in range(rows):
        drawn.append(texts[left.pop(int(torch.randint(len(left), (1,), generator=generator)))])
    return torch.nn.utils.rnn.pad_sequence(drawn, batch_first=True, padding_value=0)


@right("multinomial without replacement, F.pad and stack")
def get_batch(texts, rows, generator):
    drawn = [texts[i] for i in torch.ones(len(texts)).multinomial(rows, generator=generator)]
    longest = max(len(text) for text in drawn)
    return torch.stack([F.pad(text, (0, longest - len(text))) for text in drawn])


# --- 2. One step


def _loss(model, tokens):
    return F.cross_entropy(model(tokens)[:, :-1].transpose(1, 2), tokens[:, 1:], ignore_index=0)


def _step(model, optimizer, tokens, rate, clip, clear=True, cut=torch.nn.utils.clip_grad_norm_, after=False, set_=True):
    for group in optimizer.param_groups if set_ else ():
        group["lr"] = rate
    if clear:
        optimizer.zero_grad()
    loss = _loss(model, tokens)
    loss.backward()
    cut(list(model.parameters()), clip)
    optimizer.step()
    return (_loss(model, tokens) if after else loss).item()


@mistake("does not clear the old gradients: they pile up")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    return _step(model, optimizer, tokens, rate, clip, clear=False)


@mistake("does not clip the gradients")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    return _step(model, optimizer, tokens, rate, clip, cut=lambda parameters, clip: None)


@mistake("clips in parts: the norm is that of all gradients together")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    def cut(parameters, clip):
        for p in parameters:
            torch.nn.utils.clip_grad_norm_([p], clip)

    return _step(model, optimizer, tokens, rate, clip, cut=cut)


@mistake("cuts off each number of a gradient: all are multiplied by one factor")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    return _step(model, optimizer, tokens, rate, clip, cut=torch.nn.utils.clip_grad_value_)


@mistake("brings every gradient to the norm: smaller ones stay as they are")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    def cut(parameters, clip):
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        for p in parameters:
            p.grad *= clip / norm

    return _step(model, optimizer, tokens, rate, clip, cut=cut)


@mistake("keeps the optimizer's old rate: set group['lr']")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    return _step(model, optimizer, tokens, rate, clip, set_=False)


@mistake("gives the loss after the step: before is asked for")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    return _step(model, optimizer, tokens, rate, clip, after=True)


@mistake("leaves the model in evaluation mode")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    return _step(model.eval(), optimizer, tokens, rate, clip)


@mistake("is not what the given optimizer does")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    return _step(model, torch.optim.SGD(model.parameters(), lr=rate), tokens, rate, clip)


@mistake("the weights have not moved: no optimizer.step(), or no gradients before it")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    loss = _loss(model, tokens)
    loss.backward()
    return loss.item()


@right("clips by hand, clears at the end as well")
def train_step(model, optimizer, tokens, rate, clip=1.0):
    optimizer.zero_grad(set_to_none=False)
    loss = _loss(model, tokens)
    loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    norm = sum(g.pow(2).sum() for g in grads).sqrt()
    if norm > clip:
        for g in grads:
            g.mul_(clip / norm)
    for group in optimizer.param_groups:
        group.update(lr=rate)
    optimizer.step()
    optimizer.zero_grad()
    return float(loss)


@mistake(
    "no model knows more than the law that wrote the stories: its loss is the least that can be hoped for, on average"
)
def answer_below():
    return "a"


@mistake("nobody trained on these stories, so nobody can have learnt them by heart")
def answer_below():
    return "c"


# --- 4. Greedy, and hotter


def _greedy(model, tokens, n, pick=lambda logits: logits[:, -1].argmax(-1), stop=True, read=lambda tokens: tokens):
    with torch.no_grad():
        for _ in range(n):
            new = pick(model(read(tokens)))
            if stop:
                new = new.masked_fill((tokens[:, -1] == END) | (tokens[:, -1] == PAD), PAD)
            tokens = torch.cat([tokens, new[:, None]], 1)
    return tokens


@mistake("never stops: after END or PAD a text is filled with PAD")
def greedy(model, tokens, n):
    return _greedy(model, tokens, n, stop=False)


@mistake("shows the model the last token only: it reads the whole text")
def greedy(model, tokens, n):
    return _greedy(model, tokens, n, read=lambda tokens: tokens[:, -1:])


@mistake("takes the least likely token")
def greedy(model, tokens, n):
    return _greedy(model, tokens, n, pick=lambda logits: logits[:, -1].argmin(-1))


@mistake("takes the logits of the first position: the last ones predict the next token")
def greedy(model, tokens, n):
    return _greedy(model, tokens, n, pick=lambda logits: logits[:, 0].argmax(-1))


@mistake("gives the new tokens alone: they come behind the text")
def greedy(model, tokens, n):
    return _greedy(model, tokens, n)[:, tokens.shape[1] :]


@mistake("draws the tokens: greedy takes the likeliest")
def greedy(model, tokens, n):
    return _greedy(model, tokens, n, pick=lambda logits: logits[:, -1].softmax(-1).multinomial(1)[:, 0])


@right("fills a table")
def greedy(model, tokens, n):
    known = tokens.shape[1]
    out = torch.zeros(len(tokens), known + n, dtype=tokens.dtype)
    out[:, :known] = tokens
    for i in range(known, known + n):
        last = out[:, i - 1]
        with torch.inference_mode():
            best = model(out[:, :i])[:, -1].max(-1).indices
        out[:, i] = torch.where((last == 2) | (last == 0), 0, best)
    return out


@mistake("that is half of the ratio: the power 1/T takes its root")
def answer_temperature():
    return "b"


@mistake("that is further apart: above temperature 1 tokens become more alike")
def answer_temperature():
    return "c"


def _coldest(logits, out=-torch.inf):
    return logits.masked_fill(logits < logits.amax(-1, keepdim=True), out)


@mistake("multiplies by the temperature: it divides")
def apply_temperature(logits, temperature):
    return logits * temperature if temperature else _coldest(logits)


@mistake("gives probabilities: logits are asked for")
def apply_temperature(logits, temperature):
    return (logits / temperature).softmax(-1) if temperature else _coldest(logits)


@mistake("temperature 0 gives nan or infinity: nothing can be divided by 0")
def apply_temperature(logits, temperature):
    return logits / torch.tensor(temperature, dtype=logits.dtype)


@mistake("at temperature 0 all but the largest of each row are out")
def apply_temperature(logits, temperature):
    return logits / max(temperature, 1e-6) if temperature else _coldest(logits, -1e9)


@mistake("at temperature 0 the largest of each row stays as it is")
def apply_temperature(logits, temperature):
    return logits / temperature if temperature else _coldest(logits) * 0 + 1


@mistake("subtracts the temperature: it divides")
def apply_temperature(logits, temperature):
    return logits - temperature if temperature else _coldest(logits)


@right("torch.where for 0, times the inverse otherwise")
def apply_temperature(logits, temperature):
    if temperature > 0:
        return logits * (1 / temperature)
    return torch.where(logits == logits.max(-1, keepdim=True).values, logits, -math.inf)


# --- 5. Forbid and discourage


def _counts(logits, tokens):
    return F.one_hot(tokens, logits.shape[-1]).sum(-2).to(logits.dtype)


@mistake("takes it off once, however often a token occurs: that is a presence penalty")
def apply_frequency_penalty(logits, tokens, penalty):
    return logits - penalty * (_counts(logits, tokens) > 0)


@mistake("counts the tokens of all rows together: each row has its own text")
def apply_frequency_penalty(logits, tokens, penalty):
    return logits - penalty * _counts(logits, tokens).sum(0)


@mistake("adds the penalty: what has occurred gets likelier")
def apply_frequency_penalty(logits, tokens, penalty):
    return logits + penalty * _counts(logits, tokens)


@mistake("takes off the share of the text, not the number of times")
def apply_frequency_penalty(logits, tokens, penalty):
    return logits - penalty * _counts(logits, tokens) / max(tokens.shape[1], 1)


@mistake("divides by the penalty once for each time: it is subtracted")
def apply_frequency_penalty(logits, tokens, penalty):
    return logits / (1 + penalty * _counts(logits, tokens))


@mistake("writes into its input")
def apply_frequency_penalty(logits, tokens, penalty):
    logits -= penalty * _counts(logits, tokens)
    return logits


@right("one_hot and a sum, whose counts stay whole numbers")
def apply_frequency_penalty(logits, tokens, penalty):
    return logits - penalty * F.one_hot(tokens, logits.shape[-1]).sum(dim=1)


@right("bincount, row by row")
def apply_frequency_penalty(logits, tokens, penalty):
    counts = torch.stack([row.bincount(minlength=logits.shape[-1]) for row in tokens])
    return logits - penalty * counts.to(logits.dtype)


@right("index_put with accumulate")
def apply_frequency_penalty(logits, tokens, penalty):
    rows = torch.arange(len(tokens))[:, None].expand_as(tokens)
    taken = torch.full(tokens.shape, -float(penalty), dtype=logits.dtype)
    return logits.index_put((rows, tokens), taken, accumulate=True)


@mistake("keeps the k smallest")
def top_k(logits, k):
    worst = logits.topk(min(k, logits.shape[-1]), largest=False)
    return torch.full_like(logits, -torch.inf).scatter(-1, worst.indices, worst.values)


@mistake("sets the others to 0: that is a logit like any other")
def top_k(logits, k):
    best = logits.topk(min(k, logits.shape[-1]))
    return torch.zeros_like(logits).scatter(-1, best.indices, best.values)


@mistake("gives only the k that stay: all places are asked for, the others at minus infinity")
def top_k(logits, k):
    return logits.topk(min(k, logits.shape[-1])).values


@mistake("keeps one too few: the k-th itself stays")
def top_k(logits, k):
    k = min(k, logits.shape[-1])
    best = logits.topk(k)
    kept = best.values.clone()
    if k > 1:
        kept[..., -1] = -torch.inf
    return torch.full_like(logits, -torch.inf).scatter(-1, best.indices, kept)


@mistake("chooses among all rows together: each row keeps its own k")
def top_k(logits, k):
    best = logits.flatten().topk(min(k, logits.numel()))
    return torch.full_like(logits, -torch.inf).flatten().scatter(-1, best.indices, best.values).view(logits.shape)


@mistake("gives probabilities: logits are asked for")
def top_k(logits, k):
    best = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -torch.inf).scatter(-1, best.indices, best.values).softmax(-1)


@right("a threshold, so that ties at the border all stay")
def top_k(logits, k):
    border = logits.sort(-1, descending=True).values[..., min(k, logits.shape[-1]) - 1, None]
    return torch.where(logits >= border, logits, -torch.inf)


@right("ranks")
def top_k(logits, k):
    ranks = logits.argsort(-1, descending=True).argsort(-1)
    return logits.masked_fill(ranks >= k, float("-inf"))


def _top_p(logits, p, out=None, kept=None, restore=True, descending=True):
    ordered = logits.sort(descending=descending)
    probs = ordered.values.softmax(-1)
    sums = probs.cumsum(-1)
    values = ordered.values.masked_fill(~kept(sums, probs), -torch.inf if out is None else out)
    return torch.full_like(logits, -torch.inf).scatter(-1, ordered.indices, values) if restore else values


@mistake("leaves out the token that reaches p: it is needed to get there")
def top_p(logits, p):
    return _top_p(logits, p, kept=lambda sums, probs: (sums < p) | (p >= 1))


@mistake("leaves out the token that reaches p, but for the first")
def top_p(logits, p):
    def kept(sums, probs):
        keep = (sums < p) | (p >= 1)
        keep[..., 0] = True
        return keep

    return _top_p(logits, p, kept=kept)


@mistake("keeps one token more than are needed")
def top_p(logits, p):
    def kept(sums, probs):
        keep = (sums - probs < p) | (p >= 1)
        keep[..., 1:] = keep[..., :-1].clone()
        return keep

    return _top_p(logits, p, kept=kept)


@mistake("does not put the order back")
def top_p(logits, p):
    return _top_p(logits, p, kept=lambda sums, probs: (sums - probs < p) | (p >= 1), restore=False)


@mistake("begins with the unlikeliest tokens")
def top_p(logits, p):
    return _top_p(logits, p, kept=lambda sums, probs: (sums - probs < p) | (p >= 1), descending=False)


@mistake("adds up in the order of the vocabulary: the likeliest come first")
def top_p(logits, p):
    probs = logits.softmax(-1)
    return logits.masked_fill((probs.cumsum(-1) - probs >= p) & (p < 1), -torch.inf)


@mistake("keeps the tokens that have probability p or more each: it is their sum that counts")
def top_p(logits, p):
    return logits.masked_fill((logits.softmax(-1) < p) & (p < 1), -torch.inf)


@mistake("sets the others to 0: that is a logit like any other")
def top_p(logits, p):
    return _top_p(logits, p, out=0.0, kept=lambda sums, probs: (sums - probs < p) | (p >= 1))


@right("the border's logit, row by row")
def top_p(logits, p):
    if p == 1:
        return logits
    flat = logits.reshape(-1, logits.shape[-1])
    out = []
    for row in flat:
        total, keep = 0.0, torch.zeros(len(row), dtype=torch.bool)
        for i in row.argsort(descending=True):
            if total >= p:
                break
            keep[i] = True
            total += row.softmax(-1)[i].item()
        out.append(torch.where(keep, row, -torch.inf))
    return torch.stack(out).reshape(logits.shape)


@right("removes what comes after, as in Hugging Face")
def top_p(logits, p):
    if p >= 1.0:
        return logits + 0
    values, order = torch.sort(logits, dim=-1, descending=True)
    remove = F.softmax(values, -1).cumsum(-1) > p
    remove[..., 1:] = remove[..., :-1].clone()
    remove[..., 0] = False
    return logits.masked_fill(remove.scatter(-1, order, remove), -torch.inf)


# --- 6. Draw


def _penalised(logits, tokens, penalty):
    return logits - penalty * _counts(logits, tokens)


def _tempered(logits, temperature):
    return logits / temperature if temperature else _coldest(logits)


def _k(logits, k):
    return logits if k is None else logits.masked_fill(logits < logits.topk(k).values[..., -1:], -torch.inf)


def _p(logits, p):
    return logits if p >= 1 else _top_p(logits, p, kept=lambda sums, probs: sums - probs < p)


def _draw(logits, generator):
    return logits.softmax(-1).multinomial(1, generator=generator)[:, 0]


@mistake("applies the penalty after the temperature: before it")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    return _draw(_p(_k(_penalised(_tempered(logits, temperature), tokens, penalty), k), p), generator)


@mistake("applies top-p before top-k")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    return _draw(_k(_p(_tempered(_penalised(logits, tokens, penalty), temperature), p), k), generator)


@mistake("applies the temperature last, when top-p has chosen already")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    return _draw(_tempered(_p(_k(_penalised(logits, tokens, penalty), k), p), temperature or 1e-6), generator)


@mistake("applies the penalty when top-k has chosen already")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    return _draw(_p(_tempered(_penalised(_k(logits, k), tokens, penalty), temperature), p), generator)


@mistake("leaves top-p out where k is given: both cut, top-p what top-k left")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    left = _tempered(_penalised(logits, tokens, penalty), temperature)
    return _draw(_p(left, p) if k is None else _k(left, k), generator)


@mistake("the generator is as it was before: draw from it")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    left = _p(_k(_tempered(_penalised(logits, tokens, penalty), temperature), k), p)
    return _draw(left, torch.Generator().manual_seed(generator.initial_seed()))


@mistake("forgets the frequency penalty")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    return _draw(_p(_k(_tempered(logits, temperature), k), p), generator)


@mistake("takes the likeliest: a draw is asked for")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    return _p(_k(_tempered(_penalised(logits, tokens, penalty), temperature), k), p).argmax(-1)


@mistake("gives a column [batch 1]: one token for each row, [batch], is asked for")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    left = _p(_k(_tempered(_penalised(logits, tokens, penalty), temperature), k), p)
    return left.softmax(-1).multinomial(1, generator=generator)


@right("Gumbel noise and argmax")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    left = _p(_k(_tempered(_penalised(logits, tokens, penalty), temperature), k), p)
    noise = torch.rand(left.shape, generator=generator, dtype=torch.float64)
    return (left.double() - (-noise.log()).log()).argmax(-1)


@right("borders and a search")
def sample_next(logits, tokens, generator, temperature=1.0, penalty=0.0, k=None, p=1.0):
    left = _p(_k(_tempered(_penalised(logits, tokens, penalty), temperature), k), p)
    borders = left.double().softmax(-1).cumsum(-1)
    thrown = torch.rand(len(left), 1, generator=generator, dtype=torch.float64) * borders[:, -1:]
    return torch.searchsorted(borders, thrown, right=True)[:, 0]


# --- 7. Remember


class _KVCache:
    def __init__(self):
        self.keys, self.values = {}, {}

    def append(self, layer, k, v):
        self.keys[layer] = torch.cat([self.keys[layer], k], 2) if layer in self.keys else k
        self.values[layer] = torch.cat([self.values[layer], v], 2) if layer in self.values else v
        return self.keys[layer], self.values[layer]

    def __len__(self):
        return self.keys[0].shape[2] if self.keys else 0


@mistake("gives only the new ones: all are asked for, oldest first")
class KVCache(_KVCache):
    def append(self, layer, k, v):
        super().append(layer, k, v)
        return k, v


@mistake("gives values first, then keys")
class KVCache(_KVCache):
    def append(self, layer, k, v):
        return super().append(layer, k, v)[::-1]


@mistake("puts the new ones before the old")
class KVCache(_KVCache):
    def append(self, layer, k, v):
        self.keys[layer] = torch.cat([k, self.keys[layer]], 2) if layer in self.keys else k
        self.values[layer] = torch.cat([v, self.values[layer]], 2) if layer in self.values else v
        return self.keys[layer], self.values[layer]


@mistake("mixes the layers")
class KVCache(_KVCache):
    def append(self, layer, k, v):
        return super().append(0, k, v)


@mistake("joins along the wrong axis")
class KVCache(_KVCache):
    def append(self, layer, k, v):
        self.keys[layer] = torch.cat([self.keys[layer], k], 1) if layer in self.keys else k
        self.values[layer] = torch.cat([self.values[layer], v], 1) if layer in self.values else v
        return self.keys[layer], self.values[layer]


@mistake("len counts calls, not positions")
class KVCache(_KVCache):
    calls = 0

    def append(self, layer, k, v):
        self.calls += layer == 0
        return super().append(layer, k, v)

    def __len__(self):
        return self.calls


@mistake("not the positions that were given")
class KVCache(_KVCache):
    def append(self, layer, k, v):
        super().append(layer, k, v)
        self.keys[layer], self.values[layer] = self.keys[layer][:, :, -512:], self.values[layer][:, :, -512:]
        return self.keys[layer], self.values[layer]


@mistake("len, the positions of layer 0, when layer 1 has more")
class KVCache(_KVCache):
    def __len__(self):
        return max((k.shape[2] for k in self.keys.values()), default=0)


@mistake("shares what it keeps between caches: each has its own")
class KVCache(_KVCache):
    @classmethod
    def __init__(cls):
        cls.keys, cls.values = {}, {}

    @classmethod
    def append(cls, layer, k, v):
        return _KVCache.append(cls, layer, k, v)


@right("a list of pieces, joined when asked")
class KVCache:
    def __init__(self):
        from collections import defaultdict

        self.pieces = defaultdict(list)

    def append(self, layer, k, v):
        self.pieces[layer].append((k, v))
        return tuple(torch.cat(parts, dim=-2) for parts in zip(*self.pieces[layer], strict=True))

    def __len__(self):
        return sum(k.size(-2) for k, _ in self.pieces[0])


@right("one tensor for both, a list of layers")
class KVCache(list):
    def append(self, layer, k, v):
        both = torch.stack([k, v])
        while len(self.layers()) <= layer:
            list.append(self, None)
        old = self.layers()[layer]
        self[layer] = both if old is None else torch.cat([old, both], dim=3)
        return self[layer][0], self[layer][1]

    def layers(self):
        return [*iter(self)]

    def __len__(self):
        found = self.layers()
        return 0 if not found or found[0] is None else found[0].shape[3]


def _attend(q, k, v, seen=None, scale=None):
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if seen is not None:
        scores = scores.masked_fill(~seen(q.shape[-2], k.shape[-2]), -torch.inf)
    return scores.softmax(-1) @ v


def _last(new, pos):
    return torch.ones(new, pos, dtype=torch.bool).tril(pos - new)


@mistake("takes the queries for the first positions: they are the last")
def cached_attention(q, k, v):
    return _attend(q, k, v, lambda new, pos: torch.ones(new, pos, dtype=torch.bool).tril())


@mistake("lets every query see every key: a new position does not see those after it")
def cached_attention(q, k, v):
    return _attend(q, k, v)


@mistake("leaves out the root of d_head")
def cached_attention(q, k, v):
    return _attend(q, k, v, _last, scale=1.0)


@mistake("divides by d_head: by its root")
def cached_attention(q, k, v):
    return _attend(q, k, v, _last, scale=1 / q.shape[-1])


@mistake("hides the query's own position from it")
def cached_attention(q, k, v):
    return _attend(q, k, v, lambda new, pos: torch.ones(new, pos, dtype=torch.bool).tril(pos - new - 1))


@mistake("sets hidden scores to 0: after the softmax they still have weight")
def cached_attention(q, k, v):
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    return scores.masked_fill(~_last(q.shape[-2], k.shape[-2]), 0.0).softmax(-1) @ v


@right("PyTorch's, with a mask of its own")
def cached_attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=_last(q.shape[2], k.shape[2]))


@right("places compared, einsum")
def cached_attention(q, k, v):
    pos = torch.arange(k.size(2))
    later = pos[None, :] > pos[k.size(2) - q.size(2) :, None]
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k).div(math.sqrt(q.size(3)))
    return torch.einsum("bhqk,bhkd->bhqd", torch.where(later, -torch.inf, scores).softmax(3), v)


@torch.no_grad()
def _generate(model, tokens, n, choose, make=_KVCache, part=lambda tokens: tokens[:, -1:], prompt=None, stop=True):
    cache, new = make(), tokens if prompt is None else prompt(tokens)
    for _ in range(n):
        logits = model(new, cache)[:, -1]
        chosen = choose(logits, tokens)
        if stop:
            chosen = chosen.masked_fill((tokens[:, -1] == END) | (tokens[:, -1] == PAD), PAD)
        tokens = torch.cat([tokens, chosen[:, None]], 1)
        new = part(tokens)
    return tokens


@mistake("calls the model without a cache")
def generate_with_cache(model, tokens, n, choose):
    return _generate(model, tokens, n, choose, make=lambda: None, part=lambda tokens: tokens)


@mistake("reads positions again that are in the cache")
def generate_with_cache(model, tokens, n, choose):
    return _generate(model, tokens, n, choose, part=lambda tokens: tokens)


@mistake("leaves out a part of the prompt")
def generate_with_cache(model, tokens, n, choose):
    return _generate(model, tokens, n, choose, prompt=lambda tokens: tokens[:, -1:])


@mistake("never stops: after END or PAD a text is filled with PAD")
def generate_with_cache(model, tokens, n, choose):
    return _generate(model, tokens, n, choose, stop=False)


@mistake("each call needs a KVCache of its own")
def generate_with_cache(model, tokens, n, choose, cache=_KVCache()):  # noqa: B008
    return _generate(model, tokens, n, choose, make=lambda: cache)


@mistake("shows `choose` the prompt alone: it gets the texts so far")
def generate_with_cache(model, tokens, n, choose):
    known = tokens.shape[1]
    return _generate(model, tokens, n, lambda logits, text: choose(logits, text[:, :known]))


@mistake("takes the likeliest itself: `choose` decides")
def generate_with_cache(model, tokens, n, choose):
    return _generate(model, tokens, n, lambda logits, tokens: logits.argmax(-1))


@right("prefill, then a loop that skips the last reading")
def generate_with_cache(model, tokens, n, choose):
    cache, columns = _KVCache(), [tokens]
    with torch.no_grad():
        for i in range(n):
            logits = model(columns[-1] if i else tokens, cache)
            text = torch.cat(columns, dim=1)
            last = text[:, -1]
            columns.append(torch.where((last == END) | (last == PAD), 0, choose(logits[:, -1, :], text))[:, None])
    return torch.cat(columns, dim=1)


@right("stops when every text is over")
@torch.no_grad()
def generate_with_cache(model, tokens, n, choose):
    out, cache, new = F.pad(tokens, (0, n)), _KVCache(), tokens
    for i in range(tokens.shape[1], out.shape[1]):
        over = (out[:, i - 1] == END) | (out[:, i - 1] == PAD)
        if over.all():
            break
        out[:, i] = choose(model(new, cache)[:, -1], out[:, :i]).masked_fill(over, PAD)
        new = out[:, i : i + 1]
    return out


@right("reads the prompt token by token")
def generate_with_cache(model, tokens, n, choose):
    cache = _KVCache()
    with torch.no_grad():
        for i in range(tokens.shape[1]):
            logits = model(tokens[:, i : i + 1], cache)
        for i in range(n):
            over = (tokens[:, -1] == END) | (tokens[:, -1] == PAD)
            tokens = torch.cat([tokens, (choose(logits[:, -1], tokens) * ~over)[:, None]], dim=1)
            if i < n - 1:
                logits = model(tokens[:, -1:], cache)
    return tokens


@mistake("the newest query still meets every key that is kept, and each token adds one")
def answer_grows():
    return "a"


@mistake("old positions pass through no MLP again: only the newest does")
def answer_grows():
    return "b"
