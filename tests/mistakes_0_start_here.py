"""Wrong answers to 0 Start here, and what each of them is."""

from concrete_steps.checking.mistakes import mistake, right


@mistake("subtracts the right token's logit from the wrong one's: the sign is turned")
def logit_difference(logits, right, wrong):
    return logits[wrong] - logits[right]


@mistake("takes the difference of probabilities: no softmax here, the logits themselves are compared")
def logit_difference(logits, right, wrong):
    probabilities = logits.softmax(-1)
    return probabilities[right] - probabilities[wrong]


@mistake("gives the right token's logit alone: the wrong one's is still to be subtracted")
def logit_difference(logits, right, wrong):
    return logits[right]


@right("by a product with +1 and -1")
def logit_difference(logits, right, wrong):
    return logits[[right, wrong]] @ logits.new_tensor([1.0, -1.0])


@mistake("after the result is seen, any result looks expected; a prediction shows where your picture is off")
def answer_before_running():
    return "a"


@mistake("reading ahead gives you the answer without the question; a wrong guess teaches more")
def answer_before_running():
    return "c"


@mistake("weeks on things that you can do already are how people give up; the criteria tell you what to skip")
def answer_already_know():
    return "c"


@mistake("experts too have gaps (who remembers einsum?); the checks find them in a minute")
def answer_already_know():
    return "b"
