"""Word material of the letter tasks: a short list of real words, and made-up ones."""

from random import Random

_REAL = """
ant arm bag bed box bus cap cat cow cup dog ear egg fan fig fox gem hat hen ice ink jam jar key kit
leg lip map mud net nut oak oil owl pan pen pig pot rat sea ski sun tax toe van web wig zoo
army baby bear bird boat book cake coin crab desk door duck fire fish frog gate gold hill iron jazz
king lake lamp leaf lion milk moon nail nest park pear pipe rain ring road rose ship snow star tree
apple beach bread chair cloud crown dance eagle field flute ghost grape green horse house island
juice knife lemon light mango money mouse night ocean paint piano plant queen river robot salad
shirt snake stone storm sugar table tiger tower train voice water whale wheel world zebra
animal banana basket branch bridge butter camera candle carpet cheese circle coffee cotton desert
dragon engine family farmer flower forest garden guitar hammer honey jacket kitten ladder letter
marble market mirror monkey museum orange parrot pencil pepper pillow planet pocket potato rabbit
rocket saddle school silver spider summer temple ticket tunnel turtle violin window winter yellow
balloon blanket cabbage captain chicken circuit compass country cushion diamond dolphin evening
factory feather freedom giraffe gravity harvest holiday journey kitchen lantern library machine
morning mystery network octopus outdoor penguin picture pumpkin quarter rainbow sandbox scooter
science shelter station teacher theater thunder tractor traffic village volcano weather whisper
airplane baseball birthday building calendar campfire champion children computer daughter dinosaur
distance elephant envelope festival football hospital keyboard language magazine mountain mushroom
notebook painting passport pavement sandwich scissors sentence shoulder squirrel starfish sunlight
swimming telegram treasure triangle umbrella universe vacation valuable volleyed waterway windmill
"""

_CONSONANTS = "bcdfghjklmnprstvwz"
_VOWELS = "aeiou"


def _by_length() -> dict[int, tuple[str, ...]]:
    """Group the real words by their number of letters."""
    groups: dict[int, set[str]] = {}
    for word in _REAL.split():
        groups.setdefault(len(word), set()).add(word)
    return {length: tuple(sorted(group)) for length, group in groups.items()}


REAL_WORDS = _by_length()
"""Real English words by number of letters (3 to 8)."""

REAL_SHARE = 0.3
"""Share of real words where the list has some of the wanted length, in [0, 1]."""


def word(rng: Random, length: int) -> str:
    """Draw a lower-case word of exactly ``length`` letters (>= 2).

    Made-up words alternate between consonants and vowels most of the time. They keep the letter
    tasks from being answered out of a memorised word list.
    """
    if length in REAL_WORDS and rng.random() < REAL_SHARE:
        return rng.choice(REAL_WORDS[length])
    vowel = rng.random() < 0.4
    letters = []
    for _ in range(length):
        letters.append(rng.choice(_VOWELS if vowel else _CONSONANTS))
        vowel = not vowel if rng.random() < 0.85 else vowel
    return "".join(letters)
