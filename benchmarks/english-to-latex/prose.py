"""Plain English prose made from word lists and sentence patterns: little stories, descriptions, letters, explanations.

    rng = random.Random(0)
    passage(rng)   # "The old miller lived near the river. Every morning she carried ..."

All words and patterns were written for this benchmark; nothing is quoted from anywhere.
"""

from __future__ import annotations

import random
import re

# A name in braces in a pattern stands for one choice from the list of that name; a capital first letter asks for one in
# the text. "{thing:1}" gives the same choice each time within a passage.
WORDS: dict[str, str] = {
    "name": "Anna Boris Clara David Elena Farid Grace Henry Iris Jonas Karin Leo Mira Nadia Oscar Paula Quentin Rosa "
    "Samir Tilda Ursula Victor Wanda Yusuf Zoe",
    "person": "baker farmer teacher sailor miller doctor painter gardener shepherd carpenter tailor driver student "
    "neighbour stranger child grandmother uncle clerk nurse pilot weaver fisherman postman musician guard",
    "animal": "dog cat horse goat sparrow owl fox hare hen donkey frog beetle heron mouse badger swan bee cow",
    "thing": "basket lantern ladder kettle letter map coat wheel drum rope clock key boat chair mirror hammer bucket "
    "blanket bell book jar candle window cart box pencil bottle spoon table shovel ribbon",
    "food": "bread soup cheese honey apples pears rice beans butter plums onions fish cake tea porridge nuts berries",
    "place": "village harbour market forest kitchen garden station school valley bridge workshop meadow island library "
    "mill barn square orchard tower cellar road hill shore",
    "adjective": "old small heavy bright quiet broken green red wooden warm cold clever tired careful golden round "
    "empty new narrow strange gentle dusty plain tall thin soft loud honest hungry patient",
    "mood": "glad sad proud angry calm curious afraid thankful lonely sure puzzled ready",
    "moved": "walked ran hurried climbed wandered marched rode sailed turned crept drove returned",
    "did": "found carried mended lost bought sold painted borrowed hid cleaned lifted dropped forgot opened closed "
    "noticed measured counted wanted kept",
    "do": "find carry mend buy sell paint borrow hide clean lift open close measure count keep",
    "spoke": "said asked whispered shouted answered explained replied promised",
    "when": "morning evening night day week month winter summer spring autumn",
    "time": "early late soon twice often seldom again slowly quickly quietly together alone",
    "weather": "rain snow wind fog sunshine thunder frost hail mist",
    "number": "two three four five six seven eight nine ten twelve twenty thirty forty fifty",
    "unit": "minutes hours days weeks months years",
    "length": "miles steps yards feet streets fields",
    "material": "wood iron stone paper glass wool clay copper leather silk water sand ice",
    "property": "light strong hard cheap brittle smooth heavy useful rare common clean dry wet sharp hollow",
    "verb_science": "melts bends floats sinks burns breaks dries shrinks grows cools freezes expands",
    "cause": "heated cooled pressed pulled dried mixed shaken stored polished washed left",
    "craft": "rope bread paper cheese soap bricks candles boats shoes maps clocks baskets",
    "feeling": "joy fear hope anger relief surprise doubt shame",
    "colour": "blue green red yellow brown grey white black silver purple orange",
    "did_been": "found mended lost bought sold painted borrowed hidden cleaned dropped forgotten measured",
    "season": "winter summer spring autumn Monday Tuesday Thursday Saturday dinner dawn dusk noon midnight",
    "because": "because since although while until whenever before after",
}
LISTS = {name: words.split() for name, words in WORDS.items()}

STORY = (
    "{Name:1} was a {adjective} {person:1} who lived near the {place:1}.",
    "Every {when} {name:1} {moved} to the {place:1} and {did} a {thing:1}.",
    "One {when} the {person:1} {did} the {adjective} {thing:1} near the {place}.",
    "There was a {animal:1} behind the {thing:1}, and it looked {mood}.",
    '"Who {did} my {thing:1}?" asked {name:1}.',
    '"I will {do} it for you," {spoke} the {adjective} {person}.',
    "{Name:1} and the {animal:1} {moved} {time} through the {weather}.",
    "It took {number} {unit} to reach the {place}.",
    "Nobody in the {place:1} knew why the {thing:1} was {colour}.",
    "The {animal:1} ate some {food} and felt {mood}.",
    "In the end {name:1} {did} the {thing:1}, and everyone was {mood}.",
    "After {number} {unit} {name:1} {moved} home with a {thing} full of {food}.",
    "{Name} gave {name:1} {number} {food} and a {colour} {thing}.",
    "That {when} the {weather} was so loud that no {person} could sleep.",
    "The {person:1} never {did} a {thing} again.",
)
DESCRIPTION = (
    "The {place:1} is {number} {length} from the {place:2}.",
    "It has a {adjective} {thing:1} and {number} {colour} windows.",
    "Until {season} there is a lot of {weather} there.",
    "A {person} keeps the {thing:1} in a {adjective} box made of {material}.",
    "On the left you see the {place:2}, on the right a {colour} {thing}.",
    "Most visitors come for the {food}, which is sold by the {person}.",
    "The walls are {colour} and the roof is made of {material}.",
    "People say that a {animal} lives under the {place:1}.",
    "If you stay until {season}, you can hear the {animal} and smell the {food}.",
    "It is a {adjective} place, but the people are {mood}.",
    "Between the {place:1} and the {place} stands a {adjective} {thing}.",
)
EXPLANATION = (
    "{Material:1} is {property} and {property}, so it is used for {craft:1}.",
    "When {material:1} is {cause}, it {verb_science} {time}.",
    "To make {craft:1} you need {material:1}, {material} and a {thing:1}.",
    "First the {material:1} is {cause}, then it is {cause} for {number} {unit}.",
    "This works because {material} {verb_science} more {time} than {material:1}.",
    "If the {material:1} is too {property}, the {craft:1} will be {property}.",
    "A {adjective} {person} can make {number} pieces in {number} {unit}.",
    "That is why {craft:1} were once made near the {place}.",
    "Nothing else is needed, except a {thing:1} and some {material}.",
    "Today most {craft:1} are made in another way, but the idea is the same.",
)
LETTER = (
    "Dear {name:1}, thank you for the {thing:1} and the {food}.",
    "The {when} here is full of {weather}, and we are all {mood}.",
    "Yesterday our {animal:1} {moved} into the {place} and {did} a {thing}.",
    "Please {do} the {thing:1} before you come.",
    "We hope to see you in {number} {unit}.",
    "The {person} asks whether you still {do} a {thing} every {when}.",
    "I have {did_been} my {thing}, so I write with a {colour} pencil.",
    "We have more {food} than we can eat, and not enough {food}.",
    "Do not forget to bring the {adjective} {thing:1}.",
    "With {feeling} and best wishes from the {place:1}, {name:2}.",
)
TALK = (
    '"Where is the {thing:1}?" asked {name:1}.',
    '"It is near the {place:1}, behind the {thing}," {spoke} {name:2}.',
    '"The {animal} {did} it," {spoke} the {person:1}, who looked {mood}.',
    '"How many {unit} will it take?" "At least {number}, and at most {number}."',
    '"I do not believe you," {spoke} {name:1} with {feeling}.',
    '"Then {do} it yourself," {spoke} {name:2} {time}.',
    "They {moved} to the {place:1} {because} the {weather} came.",
    "{Name:2} {did} {number} {food}, and {name:1} {did} the rest.",
    '"What do you want to {do} in the {when}?" asked the {person:1}.',
    "So the {thing:1} was {cause}, and nobody spoke of it {time}.",
)
KINDS = (STORY, DESCRIPTION, EXPLANATION, LETTER, TALK)

_HOLE = re.compile(r"\{([A-Za-z_]+)(?::(\d))?\}")


def passage(rng: random.Random, shortest: int = 2, longest: int = 5) -> str:
    """A passage of one kind, in sentences that share their people, things and places."""
    kept: dict[tuple[str, str], str] = {}
    patterns = rng.choice(KINDS)
    count = min(rng.randint(shortest, longest), len(patterns))
    # Stories and letters keep their order, so that they begin and end as such texts do.
    order = sorted(rng.sample(range(len(patterns)), count))
    return " ".join(_sentence(rng, patterns[i], kept) for i in order)


def sentence(rng: random.Random) -> str:
    """One sentence of any kind."""
    return _sentence(rng, rng.choice(rng.choice(KINDS)), {})


def _sentence(rng: random.Random, pattern: str, kept: dict[tuple[str, str], str]) -> str:
    def fill(hole: re.Match[str]) -> str:
        name, index = hole[1].lower(), hole[2]
        word = rng.choice(LISTS[name])
        if index is not None:
            word = kept.setdefault((name, index), word)
        return word[0].upper() + word[1:] if hole[1][0].isupper() else word

    text = _HOLE.sub(fill, pattern)
    return re.sub(r"\b([Aa]) (?=[aeio])", r"\1n ", text)
