"""The grammar of the stories: who is there, what happens to them, and how it is told.

Choices are made in the order in which the text shows them, so that nearly always one choice decides a token's
probability. `tell` returns the latent facts: people, place, events and lists, in plain data.
"""

from dataclasses import dataclass
from typing import Any

from concrete_steps.corpus import words
from concrete_steps.corpus.law import END, Writer

PRONOUNS = {"female": {"subject": " she", "object": " her", "possessive": " her"}}
PRONOUNS["male"] = {"subject": " he", "object": " him", "possessive": " his"}
MOST_SCENES = 6


@dataclass
class Person:
    """Somebody in the story. The gender of an invented name is undecided until a pronoun shows it."""

    name: tuple[str, ...]  # tokens: one for a common name, three for an invented one
    gender: str | None
    creature: str | None = None


@dataclass
class Thing:
    """An object in play, and who has it now."""

    noun: str
    colour: str
    owner: Person


class Story:
    """The state of one story while it is told by `writer`."""

    def __init__(self, writer: Writer):
        self.w = writer
        self.cast: list[Person] = []
        self.things: list[Thing] = []
        self.place = ""
        self.events: list[dict[str, Any]] = []

    # The frame

    def tell(self) -> dict[str, Any]:
        self.open()
        for scene in range(MOST_SCENES):
            if scene >= 2 and self.w.choose(("go on", "close"), (3, 1)) == "close":
                break
            self.scene()
        self.w.say(" In the end")
        self.w.word([f" {closing}" for closing in words.CLOSINGS])
        self.w.say(".")
        self.w.put(END)
        return self.facts()

    def open(self) -> None:
        w = self.w
        w.word(words.OPENINGS)
        w.say(",")
        self.meet_person()
        if w.word([" and", ","]) == ",":
            self.meet_person()
            w.say(" and")
        self.meet_person()
        verb = w.word([" were", " met", " went"])
        w.say(" to the" if verb == " went" else " at the")
        self.place = w.word([f" {place}" for place in words.PLACES]).strip()
        w.say(".")
        if w.choose(("creature", "nobody else")) == "creature":
            self.meet_creature()

    def meet_person(self) -> None:
        known = {person.name for person in self.cast}
        names = [name for name in words.WOMEN + words.MEN if (f" {name}",) not in known]
        name = self.w.word([f" {name}" for name in names]).strip()
        self.cast.append(Person((f" {name}",), "female" if name in words.WOMEN else "male"))

    def meet_creature(self) -> None:
        w = self.w
        w.say(" There was also a")
        kind = w.word([f" {kind}" for kind in words.CREATURES]).strip()
        w.say(" called")
        name = [" " + w.choose(words.NAME_OPENINGS)]
        w.put(name[0])
        for _ in range(2):
            name.append(w.choose(words.NAME_ENDINGS))
            w.put(name[-1])
        w.say(".")
        self.cast.append(Person(tuple(name), None, kind))

    # Saying who

    def name(self, person: Person) -> None:
        for token in person.name:
            self.w.put(token)

    def somebody(self, among: list[Person] | None = None) -> Person:
        person = self.w.choose(self.cast if among is None else among)
        self.name(person)
        return person

    def pronoun(self, person: Person, case: str) -> None:
        if person.gender is None:
            person.gender = self.w.choose(("female", "male"))
        self.w.say(PRONOUNS[person.gender][case])

    def owned(self, person: Person) -> list[Thing]:
        return [thing for thing in self.things if thing.owner is person]

    # Scenes

    def scene(self) -> None:
        start = len(self.w.tokens)
        leads = [(self.act, 12), (self.quote, 2)]
        if self.things:
            leads += [(self.possession, 1), (self.colour, 1)]
        lead = self.w.choose([lead for lead, _ in leads], [weight for _, weight in leads])
        event = lead()
        self.events.append({**event, "tokens": [start, len(self.w.tokens)]})

    def act(self) -> dict[str, Any]:
        """A sentence that opens with somebody's name."""
        person = self.somebody()
        acts = [(self.find, 4), (self.feel, 3)]
        acts += [(act, 2) for act in (self.count, self.pack, self.lose, self.aside, self.speak)]
        if self.owned(person):
            acts.append((self.give, 12))
        act = self.w.choose([act for act, _ in acts], [weight for _, weight in acts])
        return act(person)

    def find(self, person: Person) -> dict[str, Any]:
        in_play = {thing.noun for thing in self.things}
        self.w.say(" found a")
        colour = self.w.word([f" {colour}" for colour in words.COLOURS]).strip()
        noun = self.w.word([f" {noun}" for noun in words.OBJECTS if noun not in in_play]).strip()
        self.w.say(".")
        self.things.append(Thing(noun, colour, person))
        return {"kind": "find", "who": label(person), "object": noun, "colour": colour}

    def give(self, giver: Person) -> dict[str, Any]:
        self.w.say(" gave the")
        thing = self.w.choose(self.owned(giver))
        self.w.say(f" {thing.noun} to")
        receiver = self.somebody([person for person in self.cast if person is not giver])
        thing.owner = receiver
        thanked = self.w.word([",", "."]) == ","
        if thanked:
            self.w.say(" and")
            self.pronoun(receiver, "subject")
            self.w.say(" thanked")
            self.pronoun(giver, "object")
            self.w.say(".")
        return {"kind": "give", "giver": label(giver), "receiver": label(receiver), "object": thing.noun}

    def feel(self, person: Person) -> dict[str, Any]:
        self.w.say(" was")
        feeling = self.w.word([f" {feeling}" for feeling in words.FEELINGS]).strip()
        self.w.say(", so")
        self.pronoun(person, "subject")
        deed = self.w.word([f" {deed}" for deed in words.FEELINGS[feeling]]).strip()
        self.w.say(".")
        return {"kind": "feel", "who": label(person), "feeling": feeling, "deed": deed}

    def count(self, person: Person) -> dict[str, Any]:
        self.w.say(" counted the")
        what = self.w.word([f" {noun}" for noun in words.COUNTED]).strip()
        self.w.say(":")
        numbers = [self.w.choose(range(1, 13))]
        self.w.say(f" {numbers[0]},")
        while True:
            numbers.append(numbers[-1] + 1)
            self.w.say(f" {numbers[-1]}")
            if len(numbers) == 5 or (len(numbers) > 2 and self.w.choose((",", ".")) == "."):
                break
            self.w.say(",")
        self.w.say(".")
        return {"kind": "count", "who": label(person), "what": what, "numbers": numbers}

    def pack(self, person: Person) -> dict[str, Any]:
        items: list[str] = []

        def item(before: str) -> None:
            self.w.say(f"{before} a")
            items.append(self.w.word([f" {noun}" for noun in words.OBJECTS if noun not in items]).strip())

        item(" packed")
        item(",")
        joint = self.w.word([",", " and"])
        item("")
        if joint == ",":
            item(" and")
        self.w.say(". Later")
        self.pronoun(person, "subject")
        self.w.say(" took out " + series([f"the {noun}" for noun in items]) + ".")
        return {"kind": "list", "who": label(person), "items": items}

    def lose(self, person: Person) -> dict[str, Any]:
        self.w.say(" lost")
        self.pronoun(person, "possessive")
        noun = self.w.word([f" {noun}" for noun in words.CLOTHES]).strip()
        self.w.say(", but")
        self.pronoun(person, "subject")
        self.w.say(" found it again.")
        return {"kind": "lose", "who": label(person), "object": noun}

    def aside(self, person: Person) -> dict[str, Any]:
        """Brackets in brackets, up to three deep."""
        jobs = []
        while len(jobs) < 3:
            self.w.say(" (a friend of a")
            jobs.append(self.w.word([f" {job}" for job in words.JOBS]).strip())
            if len(jobs) == 3 or self.w.choose(("deeper", "close")) == "close":
                break
        self.w.say(")" * len(jobs))
        self.w.word([" laughed", " waved"])
        self.w.say(".")
        return {"kind": "aside", "who": label(person), "jobs": jobs}

    def speak(self, person: Person) -> dict[str, Any]:
        self.w.say(" said, “")
        remark = self.w.word(words.REMARKS)
        self.w.say(".”")
        return {"kind": "speech", "who": label(person), "words": remark}

    def quote(self) -> dict[str, Any]:
        """A quote first, then its speaker; half of them quote a saying in turn."""
        kin = None
        self.w.say(" “")
        if self.w.choose(("remark", "saying")) == "remark":
            text = self.w.word(words.REMARKS)
        else:
            self.w.say("My")
            kin = self.w.word([" mother", " father", " uncle", " aunt"]).strip()
            self.w.say(" says, ‘")
            text = self.w.word(words.IDIOMS)
        self.w.say(",’”" if kin else ",”")
        self.w.say(" said")
        person = self.somebody()
        self.w.say(".")
        return {"kind": "speech", "who": label(person), "words": text, "quoting": kin}

    def possession(self) -> dict[str, Any]:
        self.w.say(" Now the")
        thing = self.w.choose(self.things)
        self.w.say(f" {thing.noun} belonged to")
        self.name(thing.owner)
        self.w.say(".")
        return {"kind": "possession", "who": label(thing.owner), "object": thing.noun}

    def colour(self) -> dict[str, Any]:
        self.w.say(" The")
        thing = self.w.choose(self.things)
        self.w.say(f" {thing.noun} was {thing.colour}.")
        return {"kind": "colour", "object": thing.noun, "colour": thing.colour}

    def facts(self) -> dict[str, Any]:
        people = [{"name": label(p), "gender": p.gender, "creature": p.creature} for p in self.cast]
        return {"people": people, "place": self.place, "events": self.events, "depths": self.w.depths}


def label(person: Person) -> str:
    return "".join(person.name).strip()


def series(items: list[str]) -> str:
    """a, b and c"""
    return ", ".join(items[:-1]) + " and " + items[-1]


def tell(writer: Writer) -> dict[str, Any]:
    """Write one story with `writer`; return its latent facts."""
    return Story(writer).tell()
