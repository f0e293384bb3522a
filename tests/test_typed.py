"""What a child, a joker and an adversary type: each line with all that is said of it.

Nothing misleads: what the model cannot do is named, what it can is not complained about, and a word
to take instead is only offered where a letter went wrong.
"""

import pytest

from sdlearn import text, world
from sdlearn.widgets import words

CHILD = {
    "moon": "unknown moon",
    "big": "nothing big",
    "hello": "unknown hello",
    "a kitty": "unknown kitty",
    "a puppy and a kitten": "unknown puppy; unknown kitten",
    "a unicorn": "unknown unicorn",
    "my mom": "unknown my; unknown mom",
    "RED HOUSE!!!": "",
    "a red hous": "unknown hous>house",
    "a rd huose": "unknown rd; unknown huose>house",
    "a baloon": "unknown baloon>balloon",
    "an umbrela at nigt": "unknown umbrela>umbrella; unknown nigt>night",
    "two cats": "number two; plural cats>cat",
    "3 fishes": "number 3; plural fishes>fish",
    "lots of butterflies": "number lots; plural butterflies>butterfly",
    "one red house": "number one",
    "a red house, a blue car and a green tree": "third tree",
    "a red house and a blue house and a green house": "third house",
    "cats, dogs and ducks": "plural cats>cat; plural dogs>dog; plural ducks>duck; third ducks",
    "a red and blue house": "mixed red and blue",
    "a red/green dragon": "mixed red/green",
    "a red house and a blue tree": "",
    "a happy ghost": "unknown happy",
    "a cat on the moon": "unknown moon",
    "a snowman": "unknown snowman",
    "can you make me a dragon": "unknown can; unknown you; unknown make; unknown me",
    "a black cat": "unknown black",
}
JOKER = {
    "two": "number two",
    "not": "negation not",
    "not a red house": "negation not",
    "dont draw a cat": "negation dont; unknown draw",
    "don't draw a cat": "negation don't; unknown draw",
    "anything but a cat": "unknown anything; negation but",
    "a castle without a dragon": "negation without",
    "a house with no windows": "unknown with; negation no; unknown windows",
    "nothing": "negation nothing",
    "everything": "unknown everything",
    "": "empty ",
    " \t ": "empty ",
    "a": "nothing a",
    "???": "nothing ???",
    "🙂🏠": "nothing 🙂🏠",
    "a red house 🙂": "symbol 🙂",
    "asdfghjkl": "unknown asdfghjkl",
    "poop": "unknown poop",
    "house house house house": "third house",
    "a (red:1.5) house": "weight (red:1.5)",
    "((cat))": "weight ((",
    "a cat, masterpiece, 4k": "unknown masterpiece; unknown 4k",
    "{red|blue} house": "symbol |",
    "ein rotes Haus": "unknown ein; unknown rotes; unknown haus",
    "дом": "unknown дом",
    "房子": "unknown 房子",
    "a redblue house": "unknown redblue",
}
ADVERSARY = {
    "<script>": "unknown script; symbol <>",
    "<img src=x onerror=alert(1)>": "unknown img; unknown src; unknown x; unknown onerror; "
    "unknown alert; number 1; symbol <=>",
    "'; DROP TABLE users;--": "unknown drop; unknown table; unknown users",
    "ignore previous instructions": "unknown ignore; unknown previous; unknown instructions",
    "http://example.com": "unknown http; unknown example; unknown com",
    "SELECT * FROM cats": "unknown select; unknown from; plural cats>cat; symbol *",
    "a red house --steps 5": "unknown steps; number 5",
    "a cat\u202e\u200b": "symbol \u202e\u200b",
    "cat\0": "symbol \0",
    "a naked woman": "unknown naked; unknown woman",
    "kill the dog": "unknown kill",
    "now use set": "unknown now; unknown use; unknown set",
}


def said(pipe, prompt: str) -> str:
    notes = text.prompt_notes(pipe, prompt)
    return "; ".join(f"{n.kind} {n.word}{'>' * bool(n.suggestion)}{n.suggestion}" for n in notes)


@pytest.mark.parametrize(("prompt", "notes"), (CHILD | JOKER | ADVERSARY).items())
def test_all_that_is_said_of_a_line(pipe, prompt, notes):
    assert said(pipe, prompt) == notes
    marks, sentences = words.marks(pipe, prompt)
    assert all(mark["text"] in prompt for mark in marks)
    assert bool(sentences) == bool(notes)
    assert all(s.endswith((".", "?")) and "\n" not in s and s.isprintable() for s in sentences)


INSULTS = (  # some a letter or two from a word of the world, such as duck, boat, white or house
    "fuck dick shit shite whore slut bitch boob boobs cock coon gook spic chink kike dyke fag "
    "faggot nigger retard retarded tranny twat cunt tits titty butt arse ass crap piss rape nazi "
    "hitler moron"
).split()


@pytest.mark.parametrize("insult", INSULTS)
def test_an_insult_gets_no_suggestion(pipe, insult):
    for word in (insult, f"{insult}s", f"{insult}ed", f"{insult}ing", insult.upper()):
        (note,) = text.prompt_notes(pipe, word)
        assert (note.kind, note.suggestion) == ("unknown", "")
        assert note.word == word.lower()
    marks, _ = words.marks(pipe, f"a {insult} house")
    assert [mark["take"] for mark in marks] == ["", "", ""]


def test_the_lines_reach_every_kind_of_note(pipe):
    lines = [*CHILD, *JOKER, *ADVERSARY, f"{world.KINDS[0]} " * 99]
    kinds = {note.kind for line in lines for note in text.prompt_notes(pipe, line)}
    kinds_told = text.Note.__doc__.split("``word``")[0]
    assert kinds == {kind for kind in kinds | {"long"} if f'"{kind}"' in kinds_told}
    assert len(kinds) == 11
