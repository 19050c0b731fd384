# %% [markdown]
# # 0 Start here
#
# In a few weeks you will open a language model, find the parts of it that do one particular job, and show that they
# do it. This course gets you there in small steps: you write a function, a check tells you whether it is right, and
# then you turn it on a real model. Everything runs on a laptop, without a GPU and without a connection.
# %% generated="overview"
# %% [markdown]
# ## The map
#
# The hours are wide ranges and still only guesses. People who end up good at this needed twice the time or half of it.
# %% generated="map"
# %% [markdown]
# Each notebook opens with what you can do at its end. **If you can do it already, skip it**: the checks let you find
# out in a minute. Steps 1 to 4 begin with a placement, such as 1.0: in some 40 minutes it says which notebooks of the
# step to skip. From step 3 on, choose what you are curious about.
#
# ## How to work
#
# ![Predict, write, check, explain; a failing check leads back to write, an explanation to predict](figures/cycle.svg)
#
# 1. **Predict.** Before each experiment there is a question. Answer it, even wrongly, before you run the cell.
# 2. **Write.** Replace `raise NotImplementedError` in the exercise's cell by your code.
# 3. **Check.** Run the cell below it. A wrong answer is told what is wrong with it.
# 4. **Explain.** Say in a sentence, aloud or in a new cell, what the experiment showed and what it did not.
#
# Run this first, here and in every notebook (`Shift+Enter` runs a cell):
# %% setup=True
import sys

import torch
from jaxtyping import Float
from torch import Tensor

from concrete_steps import plot
from concrete_steps.evidence import seconds
# %% [markdown]
# ## Warm up
#
# A language model gives every token of its vocabulary a **logit**: a score, higher for a likelier next token. Here are
# made-up ones for the token after *When Mary and John went to the store, John gave a drink to*:
# %%
names = ["Mary", "John", "them", "the", "store"]
logits = torch.tensor([3.1, 1.4, 2.2, 0.5, -1.0])
plot.bar(
    logits, x=names, x_label="next token", y_label="logit", title="Scores for the next token"
)
# %% [markdown]
# How strongly does this model prefer *Mary* to *John*? The field's favourite answer is the **logit difference**: the
# right token's logit minus the wrong one's. Unlike a probability, it does not care about the rest of the vocabulary.
# **Softmax** makes probabilities of logits: $p_i = e^{l_i} / \sum_j e^{l_j}$.
#
# `Float[Tensor, "vocab"]` reads: a tensor of floats with one axis, which we call *vocab*;
# `""` is a single number, still a tensor. Write the function. If you like, get it wrong first (swap the two), and see
# what the check has to say.
# %% exercise="logit_difference" points=1 difficulty=1 minutes=3
def logit_difference(
    logits: Float[Tensor, "vocab"], right: int, wrong: int
) -> Float[Tensor, ""]:
    """How much higher the logit of token `right` is than that of token `wrong`."""
    ### BEGIN SOLUTION
    return logits[right] - logits[wrong]
    ### END SOLUTION
# %% check="logit_difference"
# %% [markdown]
# <details><summary>Hint</summary>
#
# `logits[2]` is the logit of token number 2. The function only needs to index twice and subtract.
#
# </details>
#
# **Predict**: somebody adds 10 to *every* logit. What happens to the logit difference, and to the probabilities?
#
# <details><summary>Answer</summary>
#
# Nothing, twice: the 10 cancels in the difference, and softmax divides it out. Only differences of logits mean
# anything.
#
# </details>
# %% experiment=True
shifted = logits + 10
for label, scores in [("as they were", logits), ("all + 10", shifted)]:
    difference, probability = logit_difference(scores, 0, 1), scores.softmax(-1)[0]
    print(f"{label:>13}: Mary minus John = {difference:.2f}, P(Mary) = {probability:.3f}")
# %% [markdown]
# ## When a check fails
#
# Read it from the top: what is wrong, then the failing case (a call that you can copy and run), then, if your answer
# is a slip that many people make, which one. `check("logit_difference", seed=123)` repeats the same random inputs.
# Your functions are ordinary Python: call them on something small, print shapes, and compare with what you expected.
#
# What every check asks of a function, unless its text says otherwise: its arguments stay as they were, gradients pass
# through it, results have the dtype and device of the input, and chance comes from the generator that it was given.
#
# If `where` points into an earlier exercise's function, run that one's check again. Then open a hint. The solutions are
# in the repository's folder `solutions/`, and worth reading *after* your own passes. Still stuck? [How to get
# unstuck](../how_to_get_unstuck.md) has moves for each kind of it.
#
# Two questions about working here. Replace `None` by the letter, in quotes.
#
# **You reach an experiment. What comes first?**
# (a) run it and look at what it shows; (b) say what you expect it to show; (c) read ahead to find out what it shows
# %% exercise="answer_before_running" points=1 difficulty=1 minutes=1
answer_before_running = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_before_running = "b"
### END SOLUTION
# %% check="answer_before_running"
# %% [markdown]
# **You have trained networks in PyTorch for years. What do you do with step 1?**
# (a) read its criteria and try the checks you doubt; (b) leave it out, unread, and go on; (c) work through all of it,
# in order
# %% exercise="answer_already_know" points=1 difficulty=1 minutes=1
answer_already_know = None  # "a", "b" or "c"
### BEGIN SOLUTION
answer_already_know = "a"
### END SOLUTION
# %% check="answer_already_know"
# %% [markdown]
# ## Is your machine ready?
#
# The next cell does a small job with each thing that the course leans on. For more, run
# `python scripts/doctor.py` in the course's folder.
#
# **Predict**: how long does your machine take to multiply two 1000 by 1000 matrices? That is a billion multiplications.
#
# <details><summary>Answer</summary>
#
# A fraction of a second: the cell prints how much on yours. The course's language model has 135 million weights and
# multiplies by each once for every token: this product is worth about seven tokens.
#
# </details>
# %% experiment=True
import os

matrix = torch.randn(1000, 1000)
matrix @ matrix  # the first call sets up the threads
took = seconds(lambda: matrix @ matrix)
print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, {os.cpu_count()} cores")
print(f"1000 x 1000 matrix product: {1000 * took:.0f} ms")
print(
    "GPU:",
    torch.cuda.get_device_name() if torch.cuda.is_available() else "none, and none is needed",
)
# %% [markdown]
# **Compute.** Every notebook is made for two cores and no GPU, in minutes. When you go on to work of your own: models
# up to the size of GPT-2 Medium fit a free Colab; once a run takes over an hour, rent a machine; training on more than
# a hundred million tokens is serious compute, so ask first whether a smaller model would answer your question.
# (Advice from Neel Nanda, *Concrete Steps to Get Started in Transformer Mechanistic Interpretability*.)
#
# ## Where you are
#
# `concrete_steps.progress()` in any notebook, or `python scripts/progress.py`, shows which criteria you meet, how long
# it took you (pauses of more than 20 minutes do not count), and what comes next. It reads a log of your checks that
# stays on your machine. How long things take is what this course knows least about: `progress.py --share FILE` writes
# your minutes into a file that you may give its authors.
#
# Run the next cell once you have tried a placement; for another step change the number.
# %% experiment=True
import concrete_steps

concrete_steps.placement(1)
# %% [markdown]
# ## Recap
#
# Predict, write, check, explain. Skip what you can already do. A failing check is the start of a conversation: read it,
# copy its failing case, try it. Next: **1.1 Tensors**.
