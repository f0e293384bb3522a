"""04 Text embedding."""

from claims import Claim

CLAIMS = [
    Claim(
        name="04.padding_stays_close_after_a_full_caption",
        sentence="After a full caption the padding stays close to the end token, to the last place",
        cell="c27",
        value="float(min(last))",
        low=0.65,
    ),
    Claim(
        name="04.padding_fades_after_a_cat",
        sentence="after a cat, a sentence that leaves almost everything open, the copies fade",
        cell="c27",
        value="float(repeats['a cat'].min()) / float(min(repeats[prompt].min(), min(last)))",
        high=0.9,
    ),
    Claim(
        name="04.swapped_word_changes_nothing_before_it",
        sentence="Everything before the swapped word stays exactly as it was",
        cell="c33",
        value="all((c[: names.index(name.split()[0])] == 0).all() and (c[n - 1] > 0.1)"
        " for name, c in changes.items())",
        low=1,
        any_weights="the mask does it, whatever the weights",
    ),
    Claim(
        name="04.order_is_heard",
        sentence="More than eight in ten: the order reaches the vector",
        cell="c42b",
        value="float(nearer)",
        low=0.8,
    ),
    Claim(
        name="04.words_swap_in_a_random_encoder",
        sentence="The encoder that was never trained scores full marks with words",
        cell="c51",
        value="min(score['never trained', 'words'])",
        low=0.95,
        any_weights="it is a random encoder itself",
    ),
    Claim(
        name="04.pictures_moved_by_words_get_the_color",
        sentence="after training they take a picture to the right color at least eight times in ten",
        cell="c51",
        value="score['trained', 'pictures'][0]",
        low=0.8,
    ),
    Claim(
        name="04.untrained_pictures_are_not_moved",
        sentence="before training next to never",
        cell="c51",
        value="score['never trained', 'pictures'][0]",
        high=0.25,
        any_weights="it is a random encoder itself",
    ),
]
CLAIMS += [
    Claim(
        name=f"04.swap_{name}",
        sentence=sentence,
        cell="c72",
        value=value,
        low=low,
    )
    for name, sentence, value, low in [
        (
            "all_cards",
            "With all cards swapped, the new word is there in nearly every picture",
            "min(row['all cards'] for row in changed.values())",
            7,
        ),
        (
            "house_carries_the_color",
            "The card of house turns the house blue in more than half of the pictures",
            "changed['red']['house']",
            5,
        ),
        (
            "house_carries_the_thing",
            "and into a castle in nearly all",
            "changed['house']['house']",
            7,
        ),
        (
            "red_does_nothing",
            "The card of red turns no house blue",
            "-changed['red']['its own word']",
            -1,
        ),
        (
            "padding_carries_the_time",
            "The padding alone turns night into sunset",
            "changed['night']['end and padding']",
            7,
        ),
    ]
]
