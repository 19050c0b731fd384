"""What notebook 6.3 reads with: the reading list, notes by claim, figures to recompute, and a review's page.

readings.table()                   # topic, paper, what it shows, what to replicate, on which model of the course
readings.abstracts()               # four abstracts in our words, four sentences each
readings.figure(seed)              # a number at random of what was read, to be recomputed
readings.page(review)              # the one-page review that is made of the learner's notes
"""

from concrete_steps.readings.abstracts import ABSTRACTS, Abstract, abstracts
from concrete_steps.readings.figures import Figure, figure, recomputed
from concrete_steps.readings.listed import Reading, load_readings, models, table
from concrete_steps.readings.page import FIELDS, TEMPLATE, page

__all__ = [
    "ABSTRACTS",
    "FIELDS",
    "TEMPLATE",
    "Abstract",
    "Figure",
    "Reading",
    "abstracts",
    "figure",
    "load_readings",
    "models",
    "page",
    "recomputed",
    "table",
]
