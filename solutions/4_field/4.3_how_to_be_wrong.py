# %% [markdown]
# # 4.3 How to be wrong
#
# A report lies on your desk: *How SmolLM2 finds the indirect object*. Eight findings, each with its figure. Every
# number in it comes out when you run the code again, and no conclusion follows from it.
#
# ![One head, and the ways to be wrong about it](figures/4.3_ways_to_be_wrong.svg)
#
# You are the referee. For each finding you write the control that decides, and say what is left of it. Then a pile of
# claims about models that nobody has seen: some are sound.
# %% generated="overview"
# %% setup=True
import random
from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformer_lens import utilities as utils
from transformer_lens.model_bridge import TransformerBridge

from concrete_steps import evidence, models, plot, wired

Head = tuple[int, int]  # (layer, head)
# from the logits at the last position [row d_vocab], one number for each row
Measure = Callable[[Tensor], Tensor]
# %% [markdown]
# ## The behaviour
#
# *"When Laura and Alice went to the station, Laura gave a drink to"*: *" Alice"*. The measure is the logit of the
# right name less that of the giver (3.4). The model is SmolLM2-135M-Instruct, unpacked from 4-bit weights.
# %%
smol = models.smollm2()
N_LAYERS, N_HEADS = smol.cfg.n_layers, smol.cfg.n_heads
NAMES = "Anna Mark Mary John Tom Peter Alice Paul Sarah James David Emma Simon Laura"
FRAMES = [
    "When {} and {} went to the {}, {} gave a {} to",
    "While {} and {} were at the {}, {} handed a {} to",
]
PLACES, THINGS = "store park school station garden office", "drink book letter key ball ring"


def prompts(n: int, seed: int):
    """Tokens [row pos], the same with the other person as giver, and the two names."""
    draw, texts, others, right, giver = random.Random(seed), [], [], [], []
    for i in range(n):
        pair = draw.sample(NAMES.split(), 2)
        gives, gets = pair[i % 2], pair[1 - i % 2]
        place, thing = draw.choice(PLACES.split()), draw.choice(THINGS.split())
        frame = FRAMES[i // 2 % 2]
        texts.append(frame.format(*pair, place, gives, thing))
        others.append(frame.format(*pair, place, gets, thing))
        right.append(smol.to_single_token(" " + gets))
        giver.append(smol.to_single_token(" " + gives))
    both = smol.to_tokens(texts), smol.to_tokens(others)
    return *both, torch.tensor(right), torch.tensor(giver)


def name_gap(logits, right, giver) -> Float[Tensor, "row"]:
    rows = torch.arange(len(logits))
    return logits[rows, right] - logits[rows, giver]


def named(head: Head) -> str:
    return f"L{head[0]}H{head[1]}"


tokens, swapped, right, giver = prompts(12, seed=5)
gap = partial(name_gap, right=right, giver=giver)
kept = ("hook_z", "pattern", "final.hook_scale")
with torch.no_grad():
    logits, cache = smol.run_with_cache(tokens, names_filter=lambda name: name.endswith(kept))
    base = gap(logits[:, -1])
print(smol.to_string(tokens[0]), f"-> {evidence.interval(base):.2f} nats over 12 prompts")
# %% [markdown]
# ## 1. Two ablations that disagree
#
# > **Finding 1.** *The head that matters most sits in layer 0. We removed heads (their output set to zero): without
# > L0H5 the logit difference falls by more than without any head of the later layers.*
#
# A head that writes *the same* in all prompts tells nothing about a prompt; but all later layers are used to it.
# Zero takes that away, too. The mean over prompts leaves it there, and takes what differs.
#
# <details><summary>Hint</summary>
#
# `run_with_cache` once, for `utils.get_act_name("z", layer)`; then a run for each head, in which a hook returns a
# changed `z.clone()`. The measure wants the logits at the last position.
#
# </details>
# %% exercise="removal_effects" points=2 difficulty=3 minutes=15
def removal_effects(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    heads: list[Head],
    fill: str,
    measure: Measure,
) -> Float[Tensor, "head row"]:
    """By how much the measure falls when one head's z is replaced at all positions, for each
    head in turn: measure of the untouched run minus measure of the changed one.

    Args:
        fill: "zero"; or "mean": the mean over rows of the head's own z, at each position.

    No hook stays behind, no gradient is kept; this holds for all functions below.
    """
    ### BEGIN SOLUTION
    names = {head: utils.get_act_name("z", head[0]) for head in heads}
    effects = []
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=list(names.values()))
        for head in heads:
            z_of_head = cache[names[head]][:, :, head[1]]
            new = torch.zeros_like(z_of_head) if fill == "zero" else z_of_head.mean(0)

            def put(z, hook, new=new, index=head[1]):
                z = z.clone()
                z[:, :, index] = new
                return z

            changed = model.run_with_hooks(tokens, fwd_hooks=[(names[head], put)])
            effects.append(measure(logits[:, -1]) - measure(changed[:, -1]))
    return torch.stack(effects)
    ### END SOLUTION
# %% check="removal_effects"
# %% [markdown]
# **Predict**: L0H5 costs some 3 nats at zero. What does it cost at its mean: about as much, half, or next to nothing?
# And L23H3, which is late?
#
# <details><summary>Answer</summary>
#
# Next to nothing: the answer needs what it always writes, not what differs. L23H3 costs nearly the same both ways.
#
# </details>
# %% experiment=True
MAIN = [(0, 5), (20, 0), (23, 3)]
CONTROLS = [(0, 3), (20, 4), (23, 5)]  # heads of the same layers, whichever
removed = {
    fill: removal_effects(smol, tokens, MAIN + CONTROLS, fill, gap)
    for fill in ("zero", "mean")
}
for i, head in enumerate(MAIN + CONTROLS):
    both = (f"{fill} {evidence.interval(its[i]):.2f}" for fill, its in removed.items())
    print(f"{named(head):>6}:", ";  ".join(both))
plot.bar(
    {f"{fill} ablation": its.mean(1) for fill, its in removed.items()},
    x=[named(head) for head in MAIN + CONTROLS],
    x_label="head",
    y_label="fall of the logit difference (nats)",
    title="Finding 1, and the same heads at their mean",
)
# %% [markdown]
# ### When does a head stand?
#
# The two ablations ask different questions. *Does the model need what this head always writes?* Yes. *Does the head
# tell the answer something about this prompt?* Nothing that twelve prompts show. The report answered the first, and
# concluded the second.
#
# Fix a rule before you look on: what must hold until you say "this head carries the answer"?
# %% exercise="heads_that_stand" points=1 difficulty=2 minutes=8
def heads_that_stand(
    effects: Float[Tensor, "head row"], controls: Float[Tensor, "control row"]
) -> Bool[Tensor, "head"]:
    """Which heads' effects stand: the 95 % interval of the mean over rows (evidence.interval)
    lies above 0, and the mean is larger than the size of every control's mean.
    """
    ### BEGIN SOLUTION
    largest = controls.mean(1).abs().max()
    low = torch.tensor([evidence.interval(effect).low for effect in effects])
    return (low > 0) & (effects.mean(1) > largest)
    ### END SOLUTION
# %% check="heads_that_stand"
# %% experiment=True
for fill, effects in removed.items():
    stand = heads_that_stand(effects[:3], effects[3:])
    said = [named(head) for head, stands in zip(MAIN, stand, strict=True) if stands]
    print(f"{fill}: {said} stand")
# %% [markdown]
# ## 2. Attention taken for importance
#
# > **Finding 2.** *The heads that move the name are those that look at it: from the last token, L24H4 gives the right
# > name two thirds of its attention, more than any other of 270 heads.*
#
# **Predict**: of the six heads that look at the right name most, how many stand? And the champion: does its removal
# lower the logit difference most, a little, or not at all?
#
# <details><summary>Answer</summary>
#
# None stands. The champion's removal *raises* the logit difference: the answer is stronger without it.
#
# </details>
# %% experiment=True
place = (tokens == right[:, None]).float().argmax(1)  # of the right name
rows = torch.arange(len(tokens))
looks = torch.stack(
    [cache["pattern", layer][rows, :, -1, place].mean(0) for layer in range(N_LAYERS)]
)  # [layer head]
lookers = [divmod(i, N_HEADS) for i in looks.flatten().topk(6).indices.tolist()]
of_lookers = removal_effects(smol, tokens, lookers, "mean", gap)
stand = heads_that_stand(of_lookers, removed["mean"][3:])
for head, effect, stands in zip(lookers, of_lookers, stand, strict=True):
    said = "stands" if stands else "does not stand"
    its = evidence.interval(effect)
    print(f"{named(head)}: attention {looks[head]:.2f}, effect {its:.2f}, {said}")
strong = looks[20, 0].item(), looks[23, 3].item()
print(f"attention of L20H0 {strong[0]:.2f}, of L23H3 {strong[1]:.2f}")
plot.scatter(
    [looks[head] for head in lookers + MAIN],
    torch.cat([of_lookers, removed["mean"][:3]]).mean(1),
    text=[named(head) for head in lookers + MAIN],
    x_label="attention to the right name",
    y_label="effect of removal (nats)",
    title="Finding 2: where a head looks, and what it does",
)
# %% [markdown]
# The head that looks most works *against* the answer, as in copy suppression (McDougall et al. 2023). L20H0 and L23H3,
# with effects of one and of two nats, hardly look at the name. A pattern says where a head reads, not what it writes,
# nor who listens.
#
# **A head gives the right name .6 of its attention. Its removal changes the answer by -.02 [-.15, .11]. What follows?**
# (a) it writes nothing; (b) that it carries the name is not shown; (c) attention was measured at the wrong place
# %% exercise="answer_attention" points=1 difficulty=2 minutes=3
answer_attention = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_attention = "b"
### END SOLUTION
# %% check="answer_attention"
# %% [markdown]
# ## 3. Absent from the logits, taken for idle
#
# > **Finding 3.** *L20H0 takes no part: its direct effect on the logit difference is nil.*
#
# The direct effect (3.3) is what a head writes into the last stream, read by the unembedding. But others may read it.
# To see through whom a head works, remove it and **freeze** heads after it: their z is what it was in the untouched
# run. What is left of the effect did not need them.
#
# <details><summary>Hint</summary>
#
# In a cache look up `utils.get_act_name("z", layer)`; `hook.name` may be another name of the same place (3.1).
#
# </details>
# %% exercise="effect_when_frozen" points=2 difficulty=3 minutes=12
def effect_when_frozen(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    head: Head,
    frozen: list[Head],
    measure: Measure,
) -> Float[Tensor, "row"]:
    """By how much the measure falls when the head's z is replaced by its mean over rows (at
    each position), while z of the frozen heads stays, at all positions, what it is in the
    untouched run.

    `head` itself is not among the frozen ones, which may be none.
    """
    ### BEGIN SOLUTION
    names = {layer: utils.get_act_name("z", layer) for layer, _ in [head, *frozen]}
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=list(names.values()))
        hooks = []
        for layer, index in [head, *frozen]:
            z_of_head = cache[names[layer]][:, :, index]
            new = z_of_head.mean(0) if (layer, index) == tuple(head) else z_of_head

            def put(z, hook, new=new, index=index):
                z = z.clone()
                z[:, :, index] = new
                return z

            hooks.append((names[layer], put))
        changed = model.run_with_hooks(tokens, fwd_hooks=hooks)
    return measure(logits[:, -1]) - measure(changed[:, -1])
    ### END SOLUTION
# %% check="effect_when_frozen"
# %%
def direct_effects(head: Head) -> Float[Tensor, "row"]:
    """What the head's z, less its mean over rows, adds to the measure directly (3.3)."""
    layer, index = head
    read = (smol.W_U[:, right] - smol.W_U[:, giver]).T * smol.ln_final.weight
    read = read / cache["ln_final.hook_scale"][:, -1]
    z = cache["z", layer][:, -1, index]
    return ((z - z.mean(0)) @ smol.blocks[layer].attn.W_O[index] * read).sum(-1).detach()


def after(layer: int) -> list[Head]:
    return [(later, head) for later in range(layer + 1, N_LAYERS) for head in range(N_HEADS)]
# %% [markdown]
# **Predict**: L20H0's direct effect is about 0. Its total effect? And what is left of that when the 81 heads after
# it are frozen?
#
# <details><summary>Answer</summary>
#
# About a nat in all; and nothing without later heads: it works through them (how? Bonus 3).
#
# </details>
# %% experiment=True
idle = (20, 0)
of_idle = {
    "direct": direct_effects(idle),
    "total": effect_when_frozen(smol, tokens, idle, [], gap),
    "later heads frozen": effect_when_frozen(smol, tokens, idle, after(20), gap),
    "its own layer's frozen": effect_when_frozen(
        smol, tokens, idle, [(20, head) for head in range(1, N_HEADS)], gap
    ),
}
for name, effect in of_idle.items():
    print(f"{named(idle)}, {name:>22}: {evidence.interval(effect):+.2f}")
# %% [markdown]
# The last line tests the code: heads of the same layer cannot read L20H0, and freezing them changes nothing.
#
# ## 4. Self-repair, taken for no effect
#
# > **Finding 4.** *L23H0 looks at the name and writes it; but that is a by-product: when we remove the head (at its
# > mean), the answer stays.*
#
# Removal asks what the *rest* can do without the head. If later heads react to what is missing, the total effect hides
# what the head does. The tool is the one that you have: freeze what may react. (Where another head writes the same all
# along, nothing reacts: there, remove both.)
#
# **Predict**: suppose that L24H4 of Finding 2 writes against whatever name stands in the stream. When L23H0 no longer
# writes it, what does L24H4 do? And L23H0's effect, with L24H4 frozen?
#
# <details><summary>Answer</summary>
#
# It should find less to write against, and give back what was lost (does it? Bonus 5). With L24H4 frozen, L23H0 has an
# effect of about a nat, its direct one.
#
# </details>
# %% experiment=True
repaired = (23, 0)
of_repaired = {
    "direct": direct_effects(repaired),
    "total": effect_when_frozen(smol, tokens, repaired, [], gap),
    "L24H4 frozen": effect_when_frozen(smol, tokens, repaired, [(24, 4)], gap),
    "L24H5 frozen (control)": effect_when_frozen(smol, tokens, repaired, [(24, 5)], gap),
    "all later heads frozen": effect_when_frozen(smol, tokens, repaired, after(23), gap),
}
for name, effect in of_repaired.items():
    print(f"{named(repaired)}, {name:>22}: {evidence.interval(effect):+.2f}")
hidden = evidence.difference(of_repaired["L24H4 frozen"], of_repaired["total"], paired=True)
print(f"hidden by L24H4: {hidden:.2f}")
plot.bar(
    {named(repaired): [effect.mean() for effect in of_repaired.values()]},
    x=list(of_repaired),
    x_label="what is frozen",
    y_label="effect (nats)",
    title="Finding 4: one head, and who reacts to its removal",
)
# %% [markdown]
# Most of the repair is one head's: L24H4. "Removing it changes nothing" is a sentence about the whole model after the
# blow, not about the head before it (McGrath et al. 2023; Rushing & Nanda 2024).
#
# **A head has a direct effect of 1.0 and a total one of .1. With all later heads frozen its effect is .1. Who makes
# up for it?**
# (a) the heads after it; (b) nothing: the direct effect is wrong; (c) not heads: MLPs after it, or the last norm
# %% exercise="answer_repair" points=1 difficulty=3 minutes=4
answer_repair = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_repair = "c"
### END SOLUTION
# %% check="answer_repair"
# %% [markdown]
# ## 5. The best head of many
#
# > **Finding 5.** *One head knows how sure the model is. Over 12 prompts its attention to the start token goes with
# > the logit difference, with a correlation above .8 (p < .01).*
#
# That p is of *one* head, named beforehand. The report looked at 270. The matched null searches as well (1.3, 3.6):
# shuffle the logit differences over prompts, and take the largest of the 270 sizes again.
# %%
def correlations(
    features: Float[Tensor, "row head"], target: Float[Tensor, "row"]
) -> Float[Tensor, "head"]:
    """Pearson's r of each column with the target; 0 for a column that does not vary."""
    x, y = features - features.mean(0), target - target.mean()
    return (x * y[:, None]).sum(0) / (x.norm(dim=0) * y.norm()).clamp(min=1e-9)
# %% exercise="best_under_shuffles" points=1 difficulty=2 minutes=8
def best_under_shuffles(
    features: Float[Tensor, "row head"], target: Float[Tensor, "row"], draws: int, seed: int
) -> Float[Tensor, "draw"]:
    """For each draw the largest size of a correlation, over all heads, with the target
    shuffled over rows: one order for all heads. The same seed gives the same again, from a
    generator of its own.
    """
    ### BEGIN SOLUTION
    generator = torch.Generator().manual_seed(seed)
    best = []
    for _ in range(draws):
        shuffled = target[torch.randperm(len(target), generator=generator)]
        best.append(correlations(features, shuffled).abs().max())
    return torch.stack(best)
    ### END SOLUTION
# %% check="best_under_shuffles"
# %% [markdown]
# **Predict**: the null's mean, for the best of 270 heads on 12 prompts: about .3, .5 or .75? And the chosen head's
# correlation on fresh prompts, 24 and then 384 others: as large, smaller, or none?
#
# <details><summary>Answer</summary>
#
# About .75: the search alone gives nearly what was found. On fresh prompts the correlation is smaller, but not
# gone. Few fresh prompts can be lucky, too.
#
# </details>
# %%
def sink_attention(cache) -> Float[Tensor, "row head"]:
    """From the last token to the start token, of all heads."""
    by_layer = [cache["pattern", layer][:, :, -1, 0] for layer in range(N_LAYERS)]
    return torch.cat(by_layer, dim=1)


def attention_and_gap(n: int, seed: int):
    """[row head] attention to the start token, [row] logit difference, of new prompts."""
    more, _, *names = prompts(n, seed)
    with torch.no_grad():
        logits, cache = smol.run_with_cache(
            more, names_filter=lambda name: name.endswith("pattern"), logits_to_keep=1
        )
    return sink_attention(cache), name_gap(logits[:, -1], *names)


looked_at = sink_attention(cache)
fresh = {n: attention_and_gap(n, seed) for n, seed in ((24, 77), (384, 78))}
# %% experiment=True
found = correlations(looked_at, base)
best = int(found.abs().argmax())
searched = best_under_shuffles(looked_at, base, 500, seed=0)
alone = best_under_shuffles(looked_at[:, best : best + 1], base, 500, seed=0)
size, chosen = found[best].abs().item(), named(divmod(best, N_HEADS))
print(f"{chosen}, chosen")
for what, null in (("of it alone", alone), ("of the search", searched)):
    print(f"null {what}:", format(evidence.against_null(size, null), ".3f"))
for n, (attends, target) in fresh.items():
    its = attends[:, best : best + 1]
    fresh_size = (correlations(its, target)[0] * found[best].sign()).item()
    fresh_null = best_under_shuffles(its, target, 500, seed=1)
    print(f"{n} fresh prompts:", format(evidence.against_null(fresh_size, fresh_null), ".3f"))
figure = plot.hist(
    {"one head": alone, "best of 270": searched}, title="Finding 5: two nulls", x_label="|r|"
)
figure.add_vline(x=size, line_dash="dot", annotation_text="found")
plot.show(figure)
# %% [markdown]
# Beside the null of the search, .84 is nothing special. On fresh prompts less is left, and it stands: .55 of 24 and .25
# of 384 others. The null of one head, taken after the choice, would have sold all of it.
#
# ## 6. A null that does not match
#
# > **Finding 6.** *Meaning has a place: after layer 15, a sentence and its paraphrase have a cosine of .98. Random
# > directions have 0.00, give or take .04.*
#
# Streams are not random directions: a few large numbers are common to all (*massive activations*; Ethayarajh 2019 on
# anisotropy). What would two sentences have that do *not* mean the same?
# %% exercise="cosines_of_others" points=1 difficulty=2 minutes=8
def cosines_of_others(
    a: Float[Tensor, "text d_model"], b: Float[Tensor, "text d_model"]
) -> Float[Tensor, "text"]:
    """For each text i of a: the mean cosine of a[i] with the b of all other texts."""
    ### BEGIN SOLUTION
    cosines = torch.cosine_similarity(a[:, None], b[None], dim=-1)
    return (cosines.sum(1) - cosines.diagonal()) / (len(a) - 1)
    ### END SOLUTION
# %% check="cosines_of_others"
# %% [markdown]
# A stricter null still keeps the *words*: an order of them that says something else.
#
# **Predict**: rank three cosines with a sentence: of its paraphrase, of its words in another order, of
# another sentence.
#
# <details><summary>Answer</summary>
#
# All three are above .9. The same words with another meaning are even nearer than the paraphrase, and so they stay when
# what all sentences share is taken away: nearness of words was shown, not of meaning.
#
# </details>
# %%
TRIPLES = """
The dog bit a man. | A man was bitten by the dog. | The man bit a dog.
Anna sold the car to Peter. | Peter bought the car from Anna. | Peter sold the car to Anna.
The cat chased the mouse. | The mouse was chased by the cat. | The mouse chased the cat.
Rain came before the storm. | The storm came after the rain. | The storm came before rain.
Anna is older than Tom. | Tom is younger than Anna. | Tom is older than Anna.
John thanked his teacher. | The teacher was thanked by John. | His teacher thanked John.
The train left after the bus. | The bus left before the train. | The bus left after the train.
Mary taught John to swim. | John learned to swim from Mary. | John taught Mary to swim.
""".strip().splitlines()  # a sentence, a paraphrase, its words with another meaning


@torch.no_grad()
def at_full_stop(text: str) -> Float[Tensor, "d_model"]:
    name = utils.get_act_name("resid_post", 15)
    _, kept = smol.run_with_cache(smol.to_tokens(text), names_filter=name, stop_at_layer=16)
    return kept[name][0, -1]


columns = zip(*(line.split(" | ") for line in TRIPLES), strict=True)
said, same, other = (torch.stack([at_full_stop(text) for text in its]) for its in columns)
# %% experiment=True
centre = torch.cat([said, same, other]).mean(0)
cosines = {}
for what, shift in (("as they are", 0), ("less the mean of all", centre)):
    a, b, c = said - shift, same - shift, other - shift
    cosines[what] = {
        "paraphrase": torch.cosine_similarity(a, b, dim=-1),
        "same words, other meaning": torch.cosine_similarity(a, c, dim=-1),
        "another sentence": cosines_of_others(a, b),
    }
    for name, its in cosines[what].items():
        print(f"{what:>20}, {name:>25}: {evidence.interval(its):.3f}")
generator = torch.Generator().manual_seed(0)
random_ones = torch.randn(2, 1000, smol.cfg.d_model, generator=generator)
at_random = torch.cosine_similarity(*random_ones, dim=-1)
print(f"random directions: {at_random.mean():.2f}, sd {at_random.std():.2f}")
for what, its in cosines.items():
    nearer = evidence.difference(*list(its.values())[:2], paired=True)
    print(f"{what:>20}, paraphrase less same words: {nearer:.3f}")
# %% [markdown]
# Random directions answer "is there anything at all?". The sentences with the same words answer "is it meaning?".
#
# **A cosine of .9 between the directions of two probes, trained on two halves of the data. Which null matches?**
# (a) the cosine of probes trained on shuffled labels of the two halves; (b) the cosine of random directions in as many
# dimensions; (c) none: .9 speaks for itself
# %% exercise="answer_matching" points=1 difficulty=2 minutes=3
answer_matching = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_matching = "a"
### END SOLUTION
# %% check="answer_matching"
# %% [markdown]
# ## 7. Overlap taken for faithfulness
#
# > **Finding 7.** *Our method finds the circuit: nine of its ten heads are those of the reference circuit.*
#
# A circuit is a claim about what the model does with *the rest* gone. So take the rest away: all heads outside the
# circuit at what their mean over rows is in the untouched run, at each position (MLPs go on working). On a scale where
# no head is 0 and all are 1 (more than 1 is possible: some heads work against the answer):
#
# $$F = \frac{\overline{m(\text{circuit})} - \overline{m(\text{none})}}{\overline{m(\text{all})} -
# \overline{m(\text{none})}}$$
# %% exercise="faithfulness" points=2 difficulty=3 minutes=15
def faithfulness(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    circuit: list[Head],
    measure: Measure,
) -> float:
    """The share of the measure that the circuit's heads hold up when z of every other head
    is its mean over rows, at each position: means over rows first, then the ratio.
    """
    ### BEGIN SOLUTION
    layers, kept = range(model.cfg.n_layers), set(map(tuple, circuit))
    names = [utils.get_act_name("z", layer) for layer in layers]
    with torch.no_grad():
        logits, cache = model.run_with_cache(tokens, names_filter=names)

        def mean_with_only(heads):
            hooks = []
            for layer in layers:
                gone = [head for head in range(model.cfg.n_heads) if (layer, head) not in heads]
                mean = cache[names[layer]].mean(0)

                def put(z, hook, gone=gone, mean=mean):
                    z = z.clone()
                    z[:, :, gone] = mean[:, gone]
                    return z

                hooks.append((names[layer], put))
            return measure(model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]).mean()

        whole, none = measure(logits[:, -1]).mean(), mean_with_only(set())
        return float((mean_with_only(kept) - none) / (whole - none))
    ### END SOLUTION
# %% check="faithfulness"
# %% [markdown]
# The reference: the ten heads with the largest effects (at their mean, by size) of all 270, on eight other prompts
# (Bonus 1). Two methods have nine of them each, and one head more.
#
# **Predict**: the reference holds up more than .8. The two that overlap with it by nine tenths?
#
# <details><summary>Answer</summary>
#
# One nearly as much, the other about half as much: a share of heads does not know which head is missing.
#
# </details>
# %% experiment=True
REFERENCE = [(23, 3), (20, 0), (29, 1), (24, 4), (29, 0), (19, 2), (16, 0), (17, 4)]
REFERENCE += [(23, 7), (28, 1)]
every = [(layer, head) for layer in range(N_LAYERS) for head in range(N_HEADS)]
circuits = {
    "reference": REFERENCE,
    "method A": [head for head in REFERENCE if head != (23, 7)] + [(14, 2)],
    "method B": [head for head in REFERENCE if head != (23, 3)] + [(14, 2)],
    "ten random heads": random.Random(0).sample(every, 10),
}
held = {name: faithfulness(smol, tokens, its, gap) for name, its in circuits.items()}
shared = {name: len(set(its) & set(REFERENCE)) / 10 for name, its in circuits.items()}
for name in circuits:
    print(f"{name:>16}: overlap {shared[name]:.0%}, holds up {held[name]:.2f}")
a_less_b = [held["method A"] - held["method B"]]
for seed in (101, 102, 103):
    more, _, *names = prompts(12, seed)
    of_more = partial(name_gap, right=names[0], giver=names[1])
    a, b = (faithfulness(smol, more, circuits[f"method {x}"], of_more) for x in "AB")
    a_less_b.append(a - b)
    print(f"   other prompts: A holds up {a:.2f}, B {b:.2f}")
print(f"A less B, four draws of prompts: {evidence.interval(a_less_b):.2f}")
plot.bar(
    {"overlap": list(shared.values()), "faithfulness": list(held.values())},
    x=list(circuits),
    x_label="circuit",
    y_label="share",
    title="Finding 7: overlap, and what the circuit holds up",
)
# %% [markdown]
# The order stays on other prompts; how much a circuit holds up does not. Hanna et al. (2024) saw the same with edges
# found by attribution. And a faithful circuit may not be the only one.
#
# ## 8. An illusory subspace
#
# > **Finding 8.** *The giver's name is a direction in the MLP of layer 22: if we exchange the hidden activation along
# > it with that of the prompt with the other giver, the logit difference falls by more than a nat.*
#
# An exchange along a direction $v$ moves the hidden layer by $(v \cdot \Delta)\,v$. A search for the best $v$ may join
# two things that have nothing to do with each other: a part that *differs* between the prompts, but lies in the kernel
# of $W_\text{out}$, so that nothing can read it; and a part that is *read*, but hardly differs. Together they do what
# neither does alone (Makelov et al. 2023; Wu et al. 2024 dispute how much this says).
#
# <details><summary>Hint</summary>
#
# `utils.get_act_name("post", layer)` is the hidden layer, `[row pos d_mlp]`. `direction` may have any length.
#
# </details>
# %% exercise="exchange_along" points=2 difficulty=3 minutes=15
def exchange_along(
    model: TransformerBridge,
    tokens: Int[Tensor, "row pos"],
    source: Int[Tensor, "row pos"],
    layer: int,
    direction: Float[Tensor, "d_mlp"] | None,
    measure: Measure,
) -> Float[Tensor, "row"]:
    """By how much the measure falls when the MLP's hidden activation of this layer, at the
    last position, has along the direction what the source row has there, and across it what
    it had. With None, all of the activation is the source's.
    """
    ### BEGIN SOLUTION
    name = utils.get_act_name("post", layer)
    with torch.no_grad():
        _, there = model.run_with_cache(source, names_filter=name)
        logits, here = model.run_with_cache(tokens, names_filter=name)
        move = there[name][:, -1] - here[name][:, -1]
        if direction is not None:
            unit = direction / direction.norm()
            move = (move @ unit)[:, None] * unit

        def put(hidden, hook):
            return torch.cat([hidden[:, :-1], hidden[:, -1:] + move[:, None]], dim=1)

        changed = model.run_with_hooks(tokens, fwd_hooks=[(name, put)])
    return measure(logits[:, -1]) - measure(changed[:, -1])
    ### END SOLUTION
# %% check="exchange_along"
# %% exercise="split_by_kernel" points=2 difficulty=3 minutes=12
def split_by_kernel(
    direction: Float[Tensor, "d_mlp"], W_out: Float[Tensor, "d_mlp d_model"]
) -> tuple[Float[Tensor, "d_mlp"], Float[Tensor, "d_mlp"]]:
    """The part of a hidden direction that W_out cannot read (kernel @ W_out is 0), and the
    rest, which is at right angles to everything that W_out cannot read. They add up to it,
    and are of its dtype.

    W_out may have more columns than rows, or columns that repeat each other.
    """
    ### BEGIN SOLUTION
    U, S, _ = torch.linalg.svd(W_out.double(), full_matrices=False)
    U = U[:, S / S.max() > 1e-5]  # what is read
    read = (U @ (U.T @ direction.double())).to(direction.dtype)
    return direction - read, read
    ### END SOLUTION
# %% check="split_by_kernel"
# %% [markdown]
# ### The report's direction
#
# To first order an exchange lowers the measure by $-\sum_r (v \cdot \Delta_r)(v \cdot g_r)$
# with the gradients $g_r$. The best unit vector is an eigenvector, on eight prompts; we test it on eight others.
# %%
LAYER = 22


def best_direction(tokens, source, measure) -> Float[Tensor, "d_mlp"]:
    """Along which an exchange lowers the measure most, to first order."""
    name, kept = utils.get_act_name("post", LAYER), []

    def keep(hidden, hook):
        kept.append(hidden.detach().requires_grad_())
        return kept[-1]

    logits = smol.run_with_hooks(tokens, fwd_hooks=[(name, keep)])
    (gradient,) = torch.autograd.grad(measure(logits[:, -1]).sum(), kept[0])
    with torch.no_grad():
        _, there = smol.run_with_cache(source, names_filter=name)
    delta, gradient = there[name][:, -1] - kept[0][:, -1].detach(), gradient[:, -1]
    product = -delta.T @ gradient
    return torch.linalg.eigh(product + product.T).eigenvectors[:, -1]


fit = prompts(8, seed=0)
direction = best_direction(*fit[:2], partial(name_gap, right=fit[2], giver=fit[3]))
# %% [markdown]
# **Predict**: what does an exchange of the *whole* hidden layer do: more than along the best direction, as much, or
# less?
#
# <details><summary>Answer</summary>
#
# Next to nothing. That is the sign: what the part does, no other giver does, or the rest undoes it.
#
# </details>
# %% experiment=True
new = prompts(8, seed=1)
new_gap = partial(name_gap, right=new[2], giver=new[3])
kernel, read = split_by_kernel(direction, smol.blocks[LAYER].mlp.W_out.detach())
at_random = torch.randn(len(direction), generator=torch.Generator().manual_seed(0))
ways = {
    "the direction": direction,
    "its part in the kernel": kernel,
    "the part that is read": read,
    "a random direction": at_random,
    "the whole hidden layer": None,
}
exchanged = {
    name: exchange_along(smol, *new[:2], LAYER, its, new_gap) for name, its in ways.items()
}
print(f"the kernel holds {kernel.norm() ** 2:.0%} of the direction")
for name, effect in exchanged.items():
    print(f"{name:>24}: {evidence.interval(effect):+.2f}")
plot.bar(
    {"exchanged": [effect.mean() for effect in exchanged.values()]},
    x=list(exchanged),
    x_label="what is exchanged",
    y_label="fall of the logit difference (nats)",
    title="Finding 8: exchanges in the MLP of layer 22",
)
# %% [markdown]
# ### A part, and the whole
#
# The kernel's part alone does nothing, it cannot; and yet without it the direction does about half: it brings some of
# the difference, the other part the effect. How *large* the part is tells nothing: of a random direction the kernel
# holds 1 − 576/1536, 62 %. The whole layer's exchange, which is what another giver really brings there, does nothing
# that eight prompts could show. So the kernel is half of the story: the part that is read moves the answer by itself,
# and in the whole the rest undoes that.
#
# **An exchange along one direction moves the answer by 2 nats; along its part that is read, alone, by 1.9; of the whole
# activation, by 2.1. What may be said?**
# (a) the direction is an illusion; (b) nothing, as both are exchanges; (c) the illusion is ruled out as its cause
# %% exercise="answer_illusion" points=1 difficulty=3 minutes=3
answer_illusion = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_illusion = "c"
### END SOLUTION
# %% check="answer_illusion"
# %% [markdown]
# ## 9. Open task: name the fault
#
# A pile of claims about models whose weights were written by hand: what was looked at, by which method, on which rows,
# and the figure. Some are sound. Sound and faulty ones have the same figures, so the record says nothing: run the
# control. All must be named rightly.
#
# `claim.model`, `claim.heads`, `claim.rows` (`tokens`, `right`), `claim.measure(logits, rows)` (logits at all
# positions: of those at the last alone, `last`, it takes `last[:, None]`) and `claim.fresh`, rows in which a token's
# two places are another distance apart.
# Claims "overlap" have a `reference`; claims "correlation" have `rows.rated` and `fresh.rated`.
#
# <details><summary>Hint</summary>
#
# One control for each method, and two for "attention": does the head still look at the token after the earlier copy
# of the last one on fresh rows? Is anything lost without it? For "removal": who might take over, and what if both are
# gone?
#
# </details>
# %%
for by, faults in wired.FAULTS.items():
    for fault, means in faults.items():
        print(f"{by:>12}: {fault!r}: {means}")
example = wired.claim("attention", "attended, not used", seed=0)
print(example)
print("one row:", example.rows.tokens[0].tolist(), "->", example.rows.right[0].item())
right_now = example.measure(example.model(example.rows.tokens), example.rows)
print(f"P(right) {right_now.mean():.2f}")
# %% exercise="find_fault" points=5 difficulty=5 minutes=60
def find_fault(claim: wired.Claim) -> str:
    """Which of wired.FAULTS[claim.by] the claim has, or "sound"."""
    ### BEGIN SOLUTION
    model, rows = claim.model, claim.rows
    every = [(layer, head) for layer in range(model.cfg.n_layers) for head in range(model.cfg.n_heads)]
    with torch.no_grad():
        _, cache = model.run_with_cache(rows.tokens, names_filter=lambda name: name.endswith("hook_z"))

    def without(heads) -> float:
        """P(right) with these heads at their means."""
        hooks = []
        for layer, head in heads:
            mean = cache["z", layer][:, :, head].mean(0)

            def put(z, hook, head=head, mean=mean):
                z = z.clone()
                z[:, :, head] = mean
                return z

            hooks.append((utils.get_act_name("z", layer), put))
        with torch.no_grad():
            return claim.measure(model.run_with_hooks(rows.tokens, fwd_hooks=hooks), rows).mean().item()

    def attention() -> Float[Tensor, "row key"]:
        """Of the head, from the last position of the fresh rows."""
        layer, head = claim.heads[0]
        name = utils.get_act_name("pattern", layer)
        with torch.no_grad():
            _, fresh = model.run_with_cache(claim.fresh.tokens, names_filter=name)
        return fresh[name][:, head, -1]

    def matters() -> bool:
        return without([]) - without(claim.heads) > 0.3

    if claim.by == "attention":
        last = claim.fresh.tokens[:, -1:]
        place = (claim.fresh.tokens[:, :-1] == last).float().argmax(1) + 1
        if attention().gather(1, place[:, None]).mean() < 0.5:
            return "the pattern is about places"
        return "sound" if matters() else "attended, not used"
    if claim.by == "zero":
        return "sound" if matters() else "zero is no neutral value"
    if claim.by == "direct":
        return "others carry it on" if matters() else "sound"
    if claim.by == "removal":
        others = [head for head in every if head not in claim.heads]
        falls = (without([other]) - without([other, *claim.heads]) for other in others)
        return "another head takes over" if any(fall > 0.3 for fall in falls) else "sound"
    if claim.by == "overlap":
        left = without([head for head in every if head not in claim.heads])
        return "sound" if left > 0.5 * without([]) else "overlap is not faithfulness"
    r = torch.corrcoef(torch.stack([attention()[:, 0], claim.fresh.rated]))[0, 1]
    return "sound" if r.abs() > 0.4 else "best of many"
    ### END SOLUTION
# %% check="find_fault"
# %% experiment=True
verdicts = {}
for by, faults in wired.FAULTS.items():
    for truth in ("sound", *faults):
        verdicts[by, truth] = find_fault(wired.claim(by, truth, seed=1))
for (by, truth), verdict in verdicts.items():
    print(f"{by:>12}: {truth:<28} named {verdict}")
# %% [markdown]
# ## What was found
#
# The finding's figure, and the control's; intervals over prompts, over sentences, or (7) over draws of prompts.
# %% experiment=True
at_zero, at_mean = (evidence.interval(removed[fill][0]) for fill in ("zero", "mean"))
champion = evidence.interval(of_lookers[0])
total, seen = (evidence.interval(of_repaired[name]) for name in ("total", "L24H4 frozen"))
along = evidence.interval(exchanged["the direction"])
whole = evidence.interval(exchanged["the whole hidden layer"])
fresh_r = f"{searched.mean():.2f}, {fresh_size:.2f}"
apart = evidence.interval(a_less_b)
meant, worded, _ = (evidence.interval(its) for its in cosines["as they are"].values())
idle_direct, idle_total = (evidence.interval(of_idle[name]) for name in ("direct", "total"))
closing = [
    ("1 L0H5 matters: at zero", f"{at_zero:.2f}", "at its mean", f"{at_mean:.2f}"),
    ("2 L24H4 looks at the name", f"{looks[24, 4]:.2f}", "effect", f"{champion:.2f}"),
    ("3 L20H0 is idle: direct", f"{idle_direct:.2f}", "total", f"{idle_total:.2f}"),
    ("4 L23H0 has no effect", f"{total:.2f}", "L24H4 frozen", f"{seen:.2f}"),
    ("5 best of 270, |r|", f"{size:.2f}", "searched null, fresh", fresh_r),
    ("6 paraphrase, cosine", f"{meant:.3f}", "same words", f"{worded:.3f}"),
    ("7 nine of ten heads", "90%, 90%", "hold up: A less B", f"{apart:.2f}"),
    ("8 a direction of MLP 22", f"{along:.2f}", "whole layer", f"{whole:.2f}"),
]
for what, value, control, decides in closing:
    print(f"{what:<27} {value:<21} {control:<21} {decides}")
# %% [markdown]
# One model, one sentence pattern, a dozen prompts. That each control decided *here* is a fact about these findings.
#
# ## Bonus (not graded)
#
# 1. Sweep all 270 heads at their mean (`removal_effects`, some minutes). Are the ten largest those of `REFERENCE`?
# 2. A third ablation puts in z of *another prompt* of the same frame. Which of the two does it agree with?
# 3. Freeze only the *patterns* of the heads after L20H0. Is what it tells them where to look?
# 4. Does L24H4 repair L23H3 as well?
# 5. How much does L24H4 write against the name (its direct effect) beside L23H0, and with L23H0 at its mean?
# 6. The two frames differ in their logit differences. What is left of Finding 5 within each?
# 7. Take a finding of your own from 3.2 to 3.7 and write down which of these controls it has not met.
# %% [markdown]
# ## Recap
#
# Ask of each figure: what else would have given it? Then build that, and look.
#
# | the sentence | the control |
# |---|---|
# | "Without it the answer falls" | the mean in its place, not zero; heads of the same layer |
# | "It looks at the name" | remove it; which way does the answer go? |
# | "It writes nothing to the logits" | the total effect; freeze who may read it |
# | "Removing it changes nothing" | freeze who may react; remove two at once |
# | "The best of 270" | a null that searches, fresh data |
# | "Far above random" | a null that has everything but the claim |
# | "Nine heads of ten" | run the circuit alone |
# | "A direction carries it" | the whole activation; the part that nothing can read |
#
# A control that a finding fails says *not shown*. That is less than *not so*.
#
# Read on: Jain & Wallace 2019, *Attention is not Explanation*; McGrath et al. 2023, *The Hydra Effect*; Rushing & Nanda
# 2024, *Explorations of Self-Repair in Language Models*; McDougall et al. 2023, *Copy Suppression*; Makelov et al.
# 2023, *Is This the Subspace You Are Looking For?*; Wu et al. 2024, *A Reply to Makelov et al.*; Hanna et al. 2024,
# *Have Faith in Faithfulness*; Ethayarajh 2019, *How Contextual are Contextualized Word Representations?*
