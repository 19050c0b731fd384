"""Wrong answers to 2.2 Attention by hand, and what each of them is."""

import math

import torch

from concrete_steps import wired
from concrete_steps.checking.mistakes import mistake, right
from concrete_steps.wired import Weights


def _width(spaces):
    return max(space.stop for space in spaces.values())


def _size(space):
    return space.stop - space.start


# --- 1. A stream with compartments


@mistake("takes the size for the end of the slice: the end is where it begins, plus its size")
def lay_out(sizes):
    spaces, start = {}, 0
    for name, n in sizes.items():
        spaces[name] = slice(start, n)
        start += n
    return spaces


@mistake("every space begins at 0: each begins where the one before ended")
def lay_out(sizes):
    return {name: slice(0, n) for name, n in sizes.items()}


@mistake("each space is one axis too short: a slice does not hold its end")
def lay_out(sizes):
    spaces, start = {}, 0
    for name, n in sizes.items():
        spaces[name] = slice(start, start + n - 1)
        start += n
    return spaces


@mistake("leaves an axis unused between spaces: they lie side by side")
def lay_out(sizes):
    spaces, start = {}, 0
    for name, n in sizes.items():
        spaces[name] = slice(start, start + n)
        start += n + 1
    return spaces


@mistake("sorts the names: keep the order of sizes")
def lay_out(sizes):
    spaces, start = {}, 0
    for name in sorted(sizes):
        spaces[name] = slice(start, start + sizes[name])
        start += sizes[name]
    return spaces


@right("ends by a running sum")
def lay_out(sizes):
    ends = torch.tensor([0, *sizes.values()]).cumsum(0).tolist()
    return {name: slice(a, b) for name, a, b in zip(sizes, ends, ends[1:], strict=False)}


@right("each begins where the last one ended")
def lay_out(sizes):
    spaces, last = {}, slice(0, 0, 1)
    for name in sizes:
        last = spaces[name] = slice(last.stop, last.stop + sizes[name], 1)
    return spaces


def _embed(tokens, spaces):
    x = torch.zeros(*tokens.shape, _width(spaces))
    x[..., spaces["token"]] = torch.eye(_size(spaces["token"]))[tokens]
    x[..., spaces["position"]] = torch.eye(_size(spaces["position"]))[: tokens.shape[1]]
    return x


@mistake("leaves positions out")
def embed(tokens, spaces):
    x = torch.zeros(*tokens.shape, _width(spaces))
    x[..., spaces["token"]] = torch.eye(_size(spaces["token"]))[tokens]
    return x


@mistake("leaves tokens out")
def embed(tokens, spaces):
    x = torch.zeros(*tokens.shape, _width(spaces))
    x[..., spaces["position"]] = torch.eye(_size(spaces["position"]))[: tokens.shape[1]]
    return x


@mistake("counts axes from 0, not from where the space begins")
def embed(tokens, spaces):
    x = torch.zeros(*tokens.shape, _width(spaces))
    x[..., : _size(spaces["token"])] = torch.eye(_size(spaces["token"]))[tokens]
    x[..., : _size(spaces["position"])] = torch.eye(_size(spaces["position"]))[: tokens.shape[1]]
    return x


@mistake("writes the numbers of token and position, not one-hot vectors")
def embed(tokens, spaces):
    x = torch.zeros(*tokens.shape, _width(spaces))
    x[..., spaces["token"].start] = tokens.float()
    x[..., spaces["position"].start] = torch.arange(tokens.shape[1]).float()
    return x


@mistake("puts a 1 into every axis of both spaces")
def embed(tokens, spaces):
    x = torch.zeros(*tokens.shape, _width(spaces))
    x[..., spaces["token"]] = 1
    x[..., spaces["position"]] = 1
    return x


@right("by scatter")
def embed(tokens, spaces):
    x = torch.zeros(*tokens.shape, _width(spaces))
    x.scatter_(-1, (tokens + spaces["token"].start)[..., None], 1.0)
    places = torch.arange(tokens.shape[1]).expand(tokens.shape) + spaces["position"].start
    return x.scatter_(-1, places[..., None], 1.0)


@right("rows of an identity")
def embed(tokens, spaces):
    axes = torch.eye(_width(spaces))
    return axes[spaces["token"]][tokens] + axes[spaces["position"]][: tokens.shape[1]]


# --- 2. A score is a look-up in a table


@mistake("forgets that there are n - 1 other keys, not one")
def strength_needed(n_keys, weight):
    return math.log(weight / (1 - weight))


@mistake("counts the matching key among the others: they are n - 1")
def strength_needed(n_keys, weight):
    return math.log(weight * n_keys / (1 - weight))


@mistake("takes the logarithm to base 10: softmax has e")
def strength_needed(n_keys, weight):
    return math.log10(weight * (n_keys - 1) / (1 - weight))


@mistake("leaves the logarithm out: that is e to the score")
def strength_needed(n_keys, weight):
    return weight * (n_keys - 1) / (1 - weight)


@mistake("has the wrong sign")
def strength_needed(n_keys, weight):
    return -math.log(weight * (n_keys - 1) / (1 - weight))


@mistake("forgets what the match itself adds to the sum below: divide by 1 - weight")
def strength_needed(n_keys, weight):
    return math.log(weight * (n_keys - 1))


@right("a difference of logarithms")
def strength_needed(n_keys, weight):
    return math.log(weight) + math.log(n_keys - 1) - math.log(1 - weight)


@right("by halving")
def strength_needed(n_keys, weight):
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 / (1 + (n_keys - 1) * math.exp(-middle)) < weight else (low, middle)
    return high


def _score_tables(spaces, tables, factor=lambda d_head: d_head**0.5):
    d_head = max(1, sum(table.shape[1] for table in tables.values()))
    W_Q, W_K = torch.zeros(_width(spaces), d_head), torch.zeros(_width(spaces), d_head)
    start = 0
    for (query, key), table in tables.items():
        columns = slice(start, start + table.shape[1])
        W_Q[spaces[query], columns] = table * factor(d_head)
        W_K[spaces[key], columns] = torch.eye(table.shape[1])
        start = columns.stop
    return W_Q, W_K


@mistake("forgets that scores are divided by the root of d_head")
def score_tables(spaces, tables):
    return _score_tables(spaces, tables, lambda d_head: 1.0)


@mistake("multiplies by d_head, where its root was divided by")
def score_tables(spaces, tables):
    return _score_tables(spaces, tables, float)


@mistake("puts the root into both W_Q and W_K")
def score_tables(spaces, tables):
    W_Q, W_K = _score_tables(spaces, tables)
    return W_Q, W_K * W_K.shape[1] ** 0.5


@mistake("confuses query and key: the table's rows belong to the query's space")
def score_tables(spaces, tables):
    W_Q, W_K = _score_tables(spaces, tables)
    return W_K, W_Q


@mistake("takes for each table the root of its own width: scores are divided by that of the whole d_head")
def score_tables(spaces, tables):
    d_head = max(1, sum(table.shape[1] for table in tables.values()))
    W_Q, W_K = torch.zeros(_width(spaces), d_head), torch.zeros(_width(spaces), d_head)
    start = 0
    for (query, key), table in tables.items():
        columns = slice(start, start + table.shape[1])
        W_Q[spaces[query], columns] = table * table.shape[1] ** 0.5
        W_K[spaces[key], columns] = torch.eye(table.shape[1])
        start = columns.stop
    return W_Q, W_K


@mistake("puts all tables into the same columns, so that each query meets the keys of all: give each its own")
def score_tables(spaces, tables):
    d_head = max([1, *(table.shape[1] for table in tables.values())])
    W_Q, W_K = torch.zeros(_width(spaces), d_head), torch.zeros(_width(spaces), d_head)
    for (query, key), table in tables.items():
        W_Q[spaces[query], : table.shape[1]] += table * d_head**0.5
        W_K[spaces[key], : table.shape[1]] += torch.eye(table.shape[1])
    return W_Q, W_K


@right("the whole matrix W_Q W_K^T, split by an identity")
def score_tables(spaces, tables):
    d_model = _width(spaces)
    both = torch.zeros(d_model, d_model)
    for (query, key), table in tables.items():
        both[spaces[query], spaces[key]] += table
    return both * d_model**0.5, torch.eye(d_model)


@right("the table on the side of the keys, the root shared")
def score_tables(spaces, tables):
    axes = torch.eye(_width(spaces))
    asked = [axes[:, spaces[query]] for query, _ in tables] or [torch.zeros(len(axes), 1)]
    given = [axes[:, spaces[key]] @ table.T for (_, key), table in tables.items()] or [torch.zeros(len(axes), 1)]
    W_Q, W_K = torch.cat(asked, dim=1), torch.cat(given, dim=1)
    share = W_Q.shape[1] ** 0.25
    return W_Q * share, W_K * share


@right("the singular vectors of W_Q W_K^T")
def score_tables(spaces, tables):
    d_model = _width(spaces)
    both = torch.zeros(d_model, d_model, dtype=torch.float64)
    for (query, key), table in tables.items():
        both[spaces[query], spaces[key]] += table
    u, s, vh = torch.linalg.svd(both * d_model**0.5)
    return (u * s.sqrt()).float(), (vh.mT * s.sqrt()).float()


# --- 3. What it writes is a table, too


def _value_table(spaces, source, into, table):
    W_V, W_O = torch.zeros(_width(spaces), len(table)), torch.zeros(len(table), _width(spaces))
    W_V[spaces[source]] = torch.eye(len(table))
    W_O[:, spaces[into]] = table
    return W_V, W_O


@mistake("has the table in both matrices, so that it is applied twice")
def value_table(spaces, source, into, table):
    W_V, W_O = torch.zeros(_width(spaces), table.shape[1]), torch.zeros(table.shape[1], _width(spaces))
    W_V[spaces[source]] = table
    W_O[:, spaces[into]] = table.T @ table
    return W_V, W_O


@mistake("copies the source as far as it fits: the table is not used")
def value_table(spaces, source, into, table):
    return _value_table(spaces, source, into, torch.eye(*table.shape))


@mistake("writes back into the source, too")
def value_table(spaces, source, into, table):
    W_V, W_O = _value_table(spaces, source, into, table)
    W_O[:, spaces[source]] += torch.eye(len(table))
    return W_V, W_O


@mistake("multiplies by the root of d_head: only scores are divided by it")
def value_table(spaces, source, into, table):
    W_V, W_O = _value_table(spaces, source, into, table)
    return W_V, W_O * len(W_O) ** 0.5


@mistake("divides the table by the number of its rows")
def value_table(spaces, source, into, table):
    return _value_table(spaces, source, into, table / len(table))


@right("the table in W_V, an identity in W_O")
def value_table(spaces, source, into, table):
    W_V, W_O = torch.zeros(_width(spaces), table.shape[1]), torch.zeros(table.shape[1], _width(spaces))
    W_V[spaces[source]] = table
    W_O[:, spaces[into]] = torch.eye(table.shape[1])
    return W_V, W_O


@right("as wide as the stream")
def value_table(spaces, source, into, table):
    axes = torch.eye(_width(spaces))
    return axes, axes[:, spaces[source]] @ table @ axes[spaces[into]]


@mistake("W_Q and W_K are as before, and they never read tokens")
def answer_ov():
    return "b"


@mistake("W_V no longer reads the space of tokens, so no token can be written")
def answer_ov():
    return "c"


# --- 4. Four heads


def _head(spaces, tables, source="token", into="out", table=None):
    return Weights(*_score_tables(spaces, tables), *_value_table(spaces, source, into, table))


def _silent(spaces, table):
    W_Q, W_K = _score_tables(spaces, {("position", "position"): table})
    return Weights(W_Q, W_K, torch.zeros_like(W_Q), torch.zeros_like(W_Q.T))


@mistake("position 0 as the query, not as the key: the row of the table, where its column was wanted")
def first_token_head(spaces):
    table = torch.zeros(_size(spaces["position"]), _size(spaces["position"]))
    table[0] = 40
    return _silent(spaces, table)


@mistake("each position looks at itself: a diagonal where the first column was wanted")
def first_token_head(spaces):
    return _silent(spaces, 40 * torch.eye(_size(spaces["position"])))


@mistake("the right key with a score of 1: that is not enough for a softmax over many keys")
def first_token_head(spaces):
    table = torch.zeros(_size(spaces["position"]), _size(spaces["position"]))
    table[:, 0] = 1
    return _silent(spaces, table)


@mistake("has all scores at 0")
def first_token_head(spaces):
    n = _size(spaces["position"])
    return _silent(spaces, torch.zeros(n, n))


@mistake("looks where it should, but writes the token of position 0 into out")
def first_token_head(spaces):
    n = _size(spaces["position"])
    table = torch.zeros(n, n)
    table[:, 0] = 40
    return _head(spaces, {("position", "position"): table}, table=torch.eye(_size(spaces["token"])))


@right("written into the matrices, one column")
def first_token_head(spaces):
    W_Q, W_K = torch.zeros(_width(spaces), 1), torch.zeros(_width(spaces), 1)
    W_Q[spaces["position"]] = 4
    W_K[spaces["position"].start] = 5
    return Weights(W_Q, W_K, torch.zeros(_width(spaces), 3), torch.zeros(3, _width(spaces)))


@right("all others far below")
def first_token_head(spaces):
    n = _size(spaces["position"])
    table = torch.full((n, n), -300.0)
    table[:, 0] = 0
    W_V, W_O = _value_table(spaces, "position", "position", torch.zeros(n, n))
    return Weights(*_score_tables(spaces, {("position", "position"): table}), W_V, W_O)


def _back(spaces, into, distance, strength=40.0, source="token"):
    n = _size(spaces["position"])
    table = strength * torch.eye(n)
    if distance > 0:
        table = table.roll(distance, 0).tril(-1)
    elif distance < 0:
        table = table.roll(distance, 0).triu(1)
    values = torch.eye(_size(spaces[source]), _size(spaces[into]))
    return _head(spaces, {("position", "position"): table}, source, into, values)


@mistake("looks at the query itself: the identity is not shifted")
def previous_token_head(spaces, into):
    return _back(spaces, into, 0)


@mistake("looks at the next position, which is masked: rows are queries, so the 1 stands below the diagonal")
def previous_token_head(spaces, into):
    return _back(spaces, into, -1)


@mistake("looks two positions back")
def previous_token_head(spaces, into):
    return _back(spaces, into, 2)


@mistake("the right key with a score of 1: a softmax over many keys needs more")
def previous_token_head(spaces, into):
    return _back(spaces, into, 1, strength=1.0)


@mistake("writes the previous position, not its token")
def previous_token_head(spaces, into):
    return _back(spaces, into, 1, source="position")


@mistake("writes into the space of tokens, over the token that stands there, not into the space it was given")
def previous_token_head(spaces, into):
    return _back(spaces, "token", 1)


@right("rolled, the corner left in: no query can see it")
def previous_token_head(spaces, into):
    n = _size(spaces["position"])
    table = 25 * torch.eye(n).roll(1, 0)
    return _head(spaces, {("position", "position"): table}, into=into, table=torch.eye(_size(spaces["token"])))


@right("scores that fall with the distance, later than the one before left to the mask and the diagonal")
def previous_token_head(spaces, into):
    n = _size(spaces["position"])
    places = torch.arange(n)
    table = 10.0 * places.expand(n, n) - 1000 * torch.eye(n)
    return _head(spaces, {("position", "position"): table}, into=into, table=torch.eye(_size(spaces["token"])))


@right("matrices of float64 of one size")
def previous_token_head(spaces, into):
    axes = torch.eye(_width(spaces), dtype=torch.float64)
    before = axes[spaces["position"]].roll(-1, 0)[:-1]
    W_Q = axes[:, spaces["position"]][:, 1:] @ axes[spaces["position"]][:-1] * 30 * len(axes) ** 0.5
    del before
    W_V = axes[:, spaces["token"]] @ axes[spaces["token"]]
    return Weights(W_Q, axes, W_V, axes[:, spaces["token"]] @ axes[spaces[into]])


def _copy(n, but_first=True):
    table = torch.eye(n)
    table[0, 0] = 0 if but_first else 1
    return table


@mistake("copies token 0, too: its row of the table is 0")
def copying_head(spaces):
    return _head(spaces, {}, table=_copy(_size(spaces["token"]), False))


@mistake("looks at itself alone: that repeats the current token")
def copying_head(spaces):
    tables = {("position", "position"): 40 * torch.eye(_size(spaces["position"]))}
    return _head(spaces, tables, table=_copy(_size(spaces["token"])))


@mistake("looks at copies of the current token: the weights are to be even, whatever the tokens")
def copying_head(spaces):
    tables = {("token", "token"): 40 * torch.eye(_size(spaces["token"]))}
    return _head(spaces, tables, table=_copy(_size(spaces["token"])))


@mistake("says which tokens did not occur: the table has its ones off the diagonal")
def copying_head(spaces):
    n = _size(spaces["token"])
    table = 1 - torch.eye(n)
    table[:, 0] = 0
    table[0] = 0
    return _head(spaces, {}, table=table)


@mistake("writes into the space of tokens: the logits are what out holds")
def copying_head(spaces):
    return _head(spaces, {}, into="token", table=_copy(_size(spaces["token"])))


@right("scores that are the same everywhere, and not 0")
def copying_head(spaces):
    W_Q, W_K = torch.zeros(_width(spaces), 1), torch.zeros(_width(spaces), 2)
    return Weights(torch.cat([W_Q, W_Q], dim=1), W_K + 3, *_value_table_without_first(spaces))


@right("zeros, token 0 left out in W_V")
def copying_head(spaces):
    return Weights(torch.zeros(_width(spaces), 4), torch.zeros(_width(spaces), 4), *_value_table_without_first(spaces))


def _value_table_without_first(spaces):
    axes = torch.eye(_width(spaces))
    W_V, W_O = axes[:, spaces["token"]][:, 1:], axes[spaces["out"]][1:]
    return W_V, W_O


def _duplicates(spaces, itself=-80.0, rest=20.0, flag_first=False, match=40.0):
    n_tokens, n_ctx = _size(spaces["token"]), _size(spaces["position"])
    same = match * torch.eye(n_tokens)
    same[:, 0] = rest
    flag = torch.ones(n_tokens, 1)
    flag[0] = 1 if flag_first else 0
    tables = {("token", "token"): same, ("position", "position"): itself * torch.eye(n_ctx)}
    return _head(spaces, tables, into="seen", table=flag)


@mistake("matches itself: the query's own position is not kept out")
def duplicate_token_head(spaces):
    return _duplicates(spaces, itself=0.0)


@mistake("does not rest: where there is no earlier copy, the weights spread over all keys")
def duplicate_token_head(spaces):
    return _duplicates(spaces, rest=0.0)


@mistake("[BOS] scores as much as a match, and takes a share of its weight")
def duplicate_token_head(spaces):
    return _duplicates(spaces, rest=40.0)


@mistake("writes 1 for [BOS], too, so that everything was seen before")
def duplicate_token_head(spaces):
    return _duplicates(spaces, flag_first=True)


@mistake("its own position loses too little: it gets more than [BOS] where there is no earlier copy")
def duplicate_token_head(spaces):
    return _duplicates(spaces, itself=-10.0)


@mistake("looks at other tokens: what differs scores, what is the same does not")
def duplicate_token_head(spaces):
    return _duplicates(spaces, match=-40.0)


@right("its own position just as low as any other key")
def duplicate_token_head(spaces):
    return _duplicates(spaces, itself=-40.0)


@right("the rest and the place in a table over positions")
def duplicate_token_head(spaces):
    n_tokens, n_ctx = _size(spaces["token"]), _size(spaces["position"])
    places = -200 * torch.eye(n_ctx)
    places[:, 0] += 30
    tables = {("position", "position"): places, ("token", "token"): 60 * torch.eye(n_tokens)}
    flag = torch.ones(n_tokens, 1)
    flag[0] = 0
    return _head(spaces, tables, into="seen", table=flag)


@right("only ordinary tokens, three axes of its own")
def duplicate_token_head(spaces):
    axes = torch.eye(_width(spaces))
    words, places = axes[:, spaces["token"]][:, 1:], axes[:, spaces["position"]]
    all_tokens = axes[:, spaces["token"]].sum(-1, keepdim=True)
    bos = axes[:, spaces["token"]][:, :1]
    W_Q = torch.cat([words, places, all_tokens], dim=1)
    W_K = torch.cat([50 * words, -90 * places, 25 * bos], dim=1) * W_Q.shape[1] ** 0.5
    return Weights(W_Q, W_K, words.sum(-1, keepdim=True), axes[spaces["seen"]])


# --- 5. Two layers


def _attend(x, head):
    scores = (x @ head.W_Q) @ (x @ head.W_K).mT / head.W_Q.shape[1] ** 0.5
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    pattern = scores.masked_fill(later, -torch.inf).softmax(-1)
    return pattern @ (x @ head.W_V) @ head.W_O


@mistake("lets each head read what the head before it in the same layer wrote: all read the same stream")
def run_layers(tokens, spaces, layers):
    x = _embed(tokens, spaces)
    for heads in layers:
        for head in heads:
            x = x + _attend(x, head)
    return x[..., spaces["out"]]


@mistake("replaces the stream by what the heads wrote: it is added to it")
def run_layers(tokens, spaces, layers):
    x = _embed(tokens, spaces)
    for heads in layers:
        x = sum((_attend(x, head) for head in heads), torch.zeros_like(x))
    return x[..., spaces["out"]]


@mistake("lets all layers read the first stream: a layer reads what the layers before it left")
def run_layers(tokens, spaces, layers):
    x = start = _embed(tokens, spaces)
    for heads in layers:
        x = x + sum(_attend(start, head) for head in heads)
    return x[..., spaces["out"]]


@mistake("returns the whole stream: logits are what its space out holds")
def run_layers(tokens, spaces, layers):
    x = _embed(tokens, spaces)
    for heads in layers:
        x = x + sum(_attend(x, head) for head in heads)
    return x


@mistake("runs only the first head of each layer")
def run_layers(tokens, spaces, layers):
    x = _embed(tokens, spaces)
    for heads in layers:
        x = x + sum(_attend(x, head) for head in heads[:1])
    return x[..., spaces["out"]]


@mistake("takes the mean over the heads of a layer: what they write is added up")
def run_layers(tokens, spaces, layers):
    x = _embed(tokens, spaces)
    for heads in layers:
        x = x + sum(_attend(x, head) for head in heads) / max(1, len(heads))
    return x[..., spaces["out"]]


@right("a copy of the stream for each layer")
def run_layers(tokens, spaces, layers):
    x = _embed(tokens, spaces)
    for heads in layers:
        before = x.clone()
        for head in heads:
            x = x + _attend(before, head)
    return x[:, :, spaces["out"]]


@right("stacked heads")
def run_layers(tokens, spaces, layers):
    x = _embed(tokens, spaces)
    for heads in layers:
        if heads:
            x = x + torch.stack([_attend(x, head) for head in heads]).sum(0)
    return x[..., spaces["out"]].clone()


def _induction(spaces, look=("token", "previous"), rest=20.0, copy_first=False, source="token"):
    n = _size(spaces["token"])
    sink = torch.zeros(n, n)
    sink[:, 0] = rest
    tables = {look: 40 * torch.eye(n)}
    tables[("token", "token")] = tables.get(("token", "token"), 0) + sink
    return _head(spaces, tables, source=source, table=_copy(n, not copy_first))


@mistake("layer 1 compares tokens with tokens: it finds the earlier copy, not what came after it")
def induction_circuit(spaces):
    return [[_back(spaces, "previous", 1)], [_induction(spaces, ("token", "token"))]]


@mistake("layer 1 compares the query's note with the key's token: the note belongs to the key")
def induction_circuit(spaces):
    return [[_back(spaces, "previous", 1)], [_induction(spaces, ("previous", "token"))]]


@mistake("does not rest on [BOS]: where the token is new, the weights spread over all keys")
def induction_circuit(spaces):
    return [[_back(spaces, "previous", 1)], [_induction(spaces, rest=0.0)]]


@mistake("copies [BOS] where it rests on it: its row of the table is 0")
def induction_circuit(spaces):
    return [[_back(spaces, "previous", 1)], [_induction(spaces, copy_first=True)]]


@mistake("copies the note of the key it finds, which is the current token again: copy the key's token")
def induction_circuit(spaces):
    return [[_back(spaces, "previous", 1)], [_induction(spaces, source="previous")]]


@mistake("has both heads in layer 0: the note is not there yet when the second head reads")
def induction_circuit(spaces):
    return [[_back(spaces, "previous", 1), _induction(spaces)], []]


@right("the rest by position, the note without [BOS]")
def induction_circuit(spaces):
    n, n_ctx = _size(spaces["token"]), _size(spaces["position"])
    first = _head(spaces, {("position", "position"): 50 * torch.eye(n_ctx).roll(1, 0)}, into="previous", table=_copy(n))
    sink = torch.zeros(n_ctx, n_ctx)
    sink[:, 0] = 30
    tables = {("position", "position"): sink, ("token", "previous"): 60 * torch.eye(n)}
    return [[first], [_head(spaces, tables, table=_copy(n))]]


@right("the note in another order of the tokens, and an idle head")
def induction_circuit(spaces):
    n, n_ctx = _size(spaces["token"]), _size(spaces["position"])
    order = torch.eye(n).flip(0)
    first = _head(spaces, {("position", "position"): 40 * torch.eye(n_ctx).roll(1, 0)}, into="previous", table=order)
    sink = torch.zeros(n, n)
    sink[:, 0] = 20
    tables = {("token", "previous"): 40 * order, ("token", "token"): sink}
    idle = _head(spaces, {}, table=torch.zeros(n, n))
    return ([first, idle], [_head(spaces, tables, table=_copy(n))])


@mistake("d follows a b, but what is compared is the key's own token, which is d: nobody noted what came before it")
def answer_swapped():
    return "a"


@mistake("the query holds one note only, on the token just before: nothing is known of two places back")
def answer_swapped():
    return "b"


# --- 6. How many axes does it take?


def _circle(spaces, factor, shift=1, n=None):
    count = _size(spaces["position"])
    angle = 2 * math.pi / (n or count)
    keys = torch.arange(count) * angle
    queries = keys - shift * angle
    W_Q, W_K = torch.zeros(_width(spaces), 2), torch.zeros(_width(spaces), 2)
    W_Q[spaces["position"]] = factor * torch.stack([queries.cos(), queries.sin()], dim=1)
    W_K[spaces["position"]] = torch.stack([keys.cos(), keys.sin()], dim=1)
    return W_Q, W_K


@mistake("points each query at its own position: turn it back by one step")
def narrow_scores(spaces):
    return _circle(spaces, 2000, shift=0)


@mistake("points each query at the next position: turn it the other way")
def narrow_scores(spaces):
    return _circle(spaces, 2000, shift=-1)


@mistake("a factor of 40: neighbours on the circle are too near for that")
def narrow_scores(spaces):
    return _circle(spaces, 40)


@mistake("goes round the circle twice, so that positions half a text apart share a place")
def narrow_scores(spaces):
    return _circle(spaces, 2000, n=_size(spaces["position"]) / 2)


@mistake("puts positions on a line: the largest position has the largest dot product")
def narrow_scores(spaces):
    places = torch.arange(_size(spaces["position"])).float()
    W_Q, W_K = torch.zeros(_width(spaces), 2), torch.zeros(_width(spaces), 2)
    W_Q[spaces["position"], 0] = 40 * (places - 1)
    W_K[spaces["position"], 0] = places
    return W_Q, W_K


@right("half a circle")
def narrow_scores(spaces):
    return _circle(spaces, 9000, n=2 * _size(spaces["position"]))


@right("a parabola: 2 (p - 1) k - k^2 is largest at k = p - 1")
def narrow_scores(spaces):
    places = torch.arange(_size(spaces["position"])).float()
    W_Q, W_K = torch.zeros(_width(spaces), 2), torch.zeros(_width(spaces), 2)
    W_Q[spaces["position"]] = 15 * torch.stack([2 * (places - 1), -torch.ones_like(places)], dim=1)
    W_K[spaces["position"]] = torch.stack([places, places.square()], dim=1)
    return W_Q, W_K


@right("complex numbers, for 32 positions always")
def narrow_scores(spaces):
    turns = torch.exp(1j * torch.arange(32) * 2 * math.pi / 32)[: _size(spaces["position"])]
    W_Q, W_K = torch.zeros(_width(spaces), 2), torch.zeros(_width(spaces), 2)
    W_K[spaces["position"]] = torch.view_as_real(turns)
    W_Q[spaces["position"]] = 3000 * torch.view_as_real(turns * torch.exp(torch.tensor(-2j * math.pi / 32)))
    return W_Q, W_K


# --- 7. Into TransformerLens


def _padded(head, d_head):
    def columns(matrix):
        return torch.nn.functional.pad(matrix, (0, d_head - matrix.shape[1]))

    return Weights(columns(head.W_Q), columns(head.W_K), columns(head.W_V), columns(head.W_O.T).T)


@mistake("leaves the scores to a larger root of d_head: they shrink")
def widen(head, d_head):
    return _padded(head, d_head)


@mistake("makes up for the root the wrong way round")
def widen(head, d_head):
    wide = _padded(head, d_head)
    return Weights(wide.W_Q * (head.W_Q.shape[1] / d_head) ** 0.5, wide.W_K, wide.W_V, wide.W_O)


@mistake("makes up for the root in W_Q and in W_K")
def widen(head, d_head):
    wide, factor = _padded(head, d_head), (d_head / head.W_Q.shape[1]) ** 0.5
    return Weights(wide.W_Q * factor, wide.W_K * factor, wide.W_V, wide.W_O)


@mistake("makes up by the ratio of the widths, not by its root")
def widen(head, d_head):
    wide = _padded(head, d_head)
    return Weights(wide.W_Q * d_head / head.W_Q.shape[1], wide.W_K, wide.W_V, wide.W_O)


@mistake("makes the output larger, too: only scores are divided by the root of d_head")
def widen(head, d_head):
    wide, factor = _padded(head, d_head), (d_head / head.W_Q.shape[1]) ** 0.5
    return Weights(wide.W_Q * factor, wide.W_K, wide.W_V, wide.W_O * factor)


@right("the factor shared by queries and keys")
def widen(head, d_head):
    wide, factor = _padded(head, d_head), (d_head / head.W_Q.shape[1]) ** 0.25
    return Weights(wide.W_Q * factor, wide.W_K * factor, wide.W_V, wide.W_O)


@right("zeros joined on")
def widen(head, d_head):
    def joined(matrix, axis):
        shape = list(matrix.shape)
        shape[axis] = d_head - shape[axis]
        return torch.cat([matrix, torch.zeros(shape)], dim=axis)

    factor = math.sqrt(d_head / head.W_K.shape[1])
    return Weights(joined(head.W_Q, 1), factor * joined(head.W_K, 1), joined(head.W_V, 1), joined(head.W_O, 0))


# --- 8. Open task


class _Bench:
    """Spaces for the open task, and heads over them."""

    def __init__(self, tokens, n_tokens):
        self.n, self.n_ctx = n_tokens, tokens.shape[1]
        sizes = {"out": n_tokens, "two": n_tokens, "token": n_tokens, "one": n_tokens, "position": self.n_ctx}
        self.spaces, start = {}, 0
        for name, size in sizes.items():
            self.spaces[name] = slice(start, start + size)
            start += size

    def back(self, distance, into):
        return _back(self.spaces, into, distance)

    def find(self, pairs, source="token", itself=0.0, later=0.0, strength=40.0):
        tables = {pair: strength * torch.eye(self.n) for pair in pairs}
        places = itself * torch.eye(self.n_ctx) + later * torch.arange(self.n_ctx)
        tables[("position", "position")] = places.expand(self.n_ctx, -1)
        return _head(self.spaces, tables, source=source, table=torch.eye(self.n))

    def circuits(self):
        one, two = self.back(1, "one"), self.back(2, "two")
        return {
            "A": [[self.back(2, "out")]],
            "B": [[one], [self.find([("token", "token")], "one", itself=-80.0)]],
            "C": [[one], [self.find([("token", "one")], later=10.0, strength=400.0)]],
            "D": [[one, two], [self.find([("token", "one"), ("one", "two")])]],
        }

    def best(self, circuits, tokens, answers):
        return self.spaces, max(circuits.values(), key=lambda layers: self.share(layers, tokens, answers))

    def share(self, layers, tokens, answers):
        tokens, answers = tokens[:12], answers[:12]
        x = _embed(tokens, self.spaces)
        for heads in layers:
            x = x + sum(_attend(x, head) for head in heads)
        told = answers != wired.NO_ANSWER
        return (x[..., self.spaces["out"]].argmax(-1) == answers)[told].float().mean().item()


@mistake("has circuits for A, B and C, and none for D: does one token say what comes next, or do two?")
def wire_rule(tokens, answers, n_tokens):
    bench = _Bench(tokens, n_tokens)
    circuits = bench.circuits()
    circuits.pop("D")
    return bench.best(circuits, tokens, answers)


@mistake("always wires induction, whatever the examples say: put each circuit to them, and take the one that fits")
def wire_rule(tokens, answers, n_tokens):
    bench = _Bench(tokens, n_tokens)
    return bench.spaces, bench.circuits()["C"]


@mistake("takes every follower alike in C: the answer is the one of the last time")
def wire_rule(tokens, answers, n_tokens):
    bench = _Bench(tokens, n_tokens)
    circuits = bench.circuits()
    circuits["C"] = [circuits["C"][0], [bench.find([("token", "one")])]]
    return bench.best(circuits, tokens, answers)


@mistake("says in B what came before the last token itself: its own position matches, too")
def wire_rule(tokens, answers, n_tokens):
    bench = _Bench(tokens, n_tokens)
    circuits = bench.circuits()
    circuits["B"] = [circuits["B"][0], [bench.find([("token", "token")], "one")]]
    return bench.best(circuits, tokens, answers)


@mistake("takes the circuit that fits the examples worst")
def wire_rule(tokens, answers, n_tokens):
    bench = _Bench(tokens, n_tokens)
    return bench.spaces, min(bench.circuits().values(), key=lambda layers: bench.share(layers, tokens, answers))


@right("the last occurrence in B, softer notes, all heads in lists as they come")
def wire_rule(tokens, answers, n_tokens):
    bench = _Bench(tokens, n_tokens)
    circuits = bench.circuits()
    circuits["B"] = [[bench.back(1, "one")], [bench.find([("token", "token")], "one", itself=-2000.0, later=0.01)]]
    circuits["D"] = [[bench.back(1, "one"), bench.back(2, "two")], [bench.find([("token", "one"), ("one", "two")])]]
    return bench.best(circuits, tokens, answers)


@right("by looking at the examples, not by running circuits")
def wire_rule(tokens, answers, n_tokens):
    bench = _Bench(tokens, n_tokens)
    for rule in "ABC":
        if bench.share(bench.circuits()[rule], tokens, answers) > 0.999:
            return bench.spaces, tuple(bench.circuits()[rule])
    return bench.spaces, bench.circuits()["D"]
