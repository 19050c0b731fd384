"""The words of the stories. What may follow an article starts with a consonant, so that the article is always "a"."""
# ruff: noqa: SIM905 (words are easier to read and to add to as text)

WOMEN = "Mary Anna Clara Emma Lucy Rosa Sofia Ella Maya Ida Ruth Vera Alice Julia Hanna Eva".split()
MEN = "John Tom Peter Oscar Leo Hugo Max Felix Noah Omar Paul Sam David Simon Jack Ben".split()
PLACES = (
    "market park beach school library harbour garden castle farm museum station bakery lake theatre bridge mill".split()
)
OBJECTS = (
    "ball lamp book key map rope kite drum coat cup coin shell bell hat box pen basket letter stone pear cake doll "
    "bag spoon flute candle mirror pillow"
).split()
COLOURS = "red blue green yellow white black golden silver".split()
CREATURES = "dragon robot giant fox wizard ghost parrot bear".split()
JOBS = "baker sailor teacher painter doctor gardener tailor miller".split()
COUNTED = "stars boats birds trees steps windows clouds sheep".split()
CLOTHES = "scarf glove ring watch shoe belt".split()

# An invented name is one opening and two endings: Karalo, Zupimi. No word of the stories starts with two of these.
NAME_OPENINGS = "Ka Zu Mo Ti Re Lu Vi Fa Bo Ne Ju Gi Du Pa Wo Sha".split()
NAME_ENDINGS = "ra lo mi ke tu za pi no ve du shi fa bu gi te wo".split()

# What a feeling leads to.
FEELINGS = {
    "happy": ("sang a song", "danced around"),
    "sad": ("cried a little", "sat down alone"),
    "tired": ("fell asleep", "went to bed"),
    "hungry": ("ate some bread", "made some soup"),
    "curious": ("looked around", "asked a question"),
    "angry": ("shouted loudly", "walked away"),
}

IDIOMS = (
    "Slow and steady wins the race",
    "Better late than never",
    "Practice makes perfect",
    "Look before you leap",
    "Every cloud has a silver lining",
    "Birds of a feather flock together",
    "Actions speak louder than words",
    "Two heads are better than one",
)

OPENINGS = (
    "One morning",
    "One evening",
    "Once upon a time",
    "Last winter",
    "Last summer",
    "On a rainy day",
    "On a warm night",
    "Long ago",
)
REMARKS = (
    "What a lovely day",
    "I am glad to be here",
    "We should stay together",
    "Nobody will believe this",
    "Please wait for me",
    "This is the best day of my life",
)
CLOSINGS = (
    "they all went home",
    "everybody was friends again",
    "the moon came out",
    "nobody wanted to leave",
)
