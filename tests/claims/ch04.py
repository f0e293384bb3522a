"""04 Text embedding."""

from claims import Claim

CLAIMS = [
    Claim(
        name="04.padding_stays_close_after_a_full_caption",
        sentence="After a full caption the padding stays close to the end token, to the last place",
        cell="c27",
        value="float(last)",
        low=0.65,
    ),
    Claim(
        name="04.padding_fades_after_a_cat",
        sentence="After a cat, which leaves almost everything open, it drifts away",
        cell="c27",
        value="float(repeats['a cat'].min() / last)",
        high=0.85,
    ),
    Claim(
        name="04.swapped_word_changes_nothing_before_it",
        sentence="Everything before the swapped word stays exactly as it was",
        cell="c33",
        value="all((c[: names.index(name.split()[0])] == 0).all() and c[n - 1] > 0.1"
        " for name, c in changes.items())",
        low=1,
        any_weights="the mask does it, whatever the weights",
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
        sentence="after it about nine times in ten",
        cell="c51",
        value="score['trained', 'pictures'][0]",
        low=0.85,
        any_weights="the CLIP that ships is read, whatever pipeline is loaded",
    ),
    Claim(
        name="04.the_thing_is_often_lost",
        sentence="The thing comes along in fewer than half of the cases",
        cell="c51",
        value="score['trained', 'pictures'][1]",
        high=0.5,
        any_weights="a random encoder loses things too",
    ),
    Claim(
        name="04.end_and_padding_are_read_more_than_the_words",
        sentence="End and padding, which nobody typed, are read more than all the words together",
        cell="c61",
        value="float((1 - share[0] - spoken) / spoken)",
        low=1,
        any_weights="their 65 places get more than eleven words by their number alone",
    ),
    Claim(
        name="04.red_is_read_on_the_house",
        sentence="Red, house and left are read on the house, snow and night around it",
        cell="c65",
        value="min(float(torch.corrcoef(torch.stack([maps[a].mean(0).flatten(),"
        " maps['house'].mean(0).flatten()]))[0, 1]) * sign for a, sign in"
        " {'red': 1, 'left': 1, 'snow': -1, 'night': -1}.items())",
        low=0.2,
    ),
    Claim(
        name="04.untrained_pictures_are_not_moved",
        sentence="before training they hardly ever reach the right color",
        cell="c51",
        value="score['never trained', 'pictures'][0]",
        high=0.15,
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
        any_weights="random weights seldom paint the new word either"
        if name in ("red_alone_hardly_ever", "the_place_has_no_fixed_home")
        else "",
    )
    for name, sentence, value, low in [
        (
            "all_cards",
            "With all cards swapped, the new word is there, row after row",
            "min(row['all cards'] for row in changed.values())",
            10,
        ),
        (
            "color_and_thing_bring_the_color",
            "swap those of color and thing, and every picture takes the new color",
            "changed['color']['color and thing']",
            12,
        ),
        (
            "the_thing_mostly_brings_the_color",
            "The thing's card alone mostly does it, for house has read red",
            "changed['color']['the thing']",
            7,
        ),
        (
            "padding_changes_no_color_and_no_thing",
            "end and padding never do",
            "-max(changed[row]['end and padding'] for row in ('color', 'thing'))",
            0,
        ),
        (
            "all_the_words_change_the_thing",
            "The thing needs all the words",
            "changed['thing']['all the words']",
            11,
        ),
        (
            "the_thing_alone_in_half",
            "its own card does it about half the time",
            "-abs(changed['thing']['its own word'] - 6)",
            -3,
        ),
        (
            "red_alone_hardly_ever",
            "its card alone turns hardly any house blue",
            "-changed['color']['its own word']",
            -1,
        ),
        (
            "side_by_its_own_card",
            "The side acts through the card of left or right itself",
            "changed['side']['its own word']",
            9,
        ),
        (
            "padding_carries_the_time",
            "alone it turns night into sunset",
            "changed['time']['end and padding']",
            10,
        ),
        (
            "night_does_nothing",
            "the card of night does nothing",
            "-changed['time']['its own word']",
            0,
        ),
        (
            "the_place_has_no_fixed_home",
            "The place has no fixed home",
            "-max(changed['place'][part] for part in "
            "('its own word', 'all the words', 'end and padding'))",
            -9,
        ),
    ]
]
CLAIMS += [
    Claim(
        name="04.the_cards_after_duck_decide",
        sentence="The cards after duck decide: those of a purple duck spoil even a yellow one",
        cell="c74c",
        value="ducks[1] - max(ducks[0], ducks[2])",
        low=4,
    ),
    Claim(
        name="04.weight_one_point_three_keeps_the_house",
        sentence="At 1.3 the red house stays",
        cell="c76",
        value="min(row[2] for row in kept.values())",
        low=8,
    ),
    Claim(
        name="04.red_at_zero_some_orange",
        sentence="Red at zero leaves some houses orange",
        cell="c76",
        value="sum('orange house' in ' '.join(seen.words)"
        " for seen in judge.look(heavier['red'][0]))",
        low=1,
        high=6,
    ),
    Claim(
        name="04.red_times_two_some_towers",
        sentence="at two it gives some towers",
        cell="c76",
        value="min(kept['red'][3], sum('red tower' in ' '.join(seen.words)"
        " for seen in judge.look(heavier['red'][3])))",
        low=1,
    ),
    Claim(
        name="04.red_times_three_only_towers",
        sentence="at three only towers",
        cell="c76",
        value="sum('red tower' in ' '.join(seen.words) for seen in judge.look(heavier['red'][4]))",
        low=8,
    ),
    Claim(
        name="04.house_may_be_zero",
        sentence="House may even be zero: the other cards still say it",
        cell="c76",
        value="kept['house'][0]",
        low=8,
    ),
    Claim(
        name="04.house_times_three_comes_twice",
        sentence="At three it may come twice",
        cell="c76",
        value="sum(sum(thing.kind == 'house' for thing in seen.things) == 2"
        " for seen in judge.look(heavier['house'][4]))",
        low=1,
    ),
    Claim(
        name="04.no_cat_where_two_are_asked_for",
        sentence="Not one. No caption ever held",
        cell="c78",
        value="sum(counts[asked[0]])",
        high=0,
        any_weights="random weights draw no cat either",
    ),
    Claim(
        name="04.named_cats_are_two",
        sentence="Name each thing, a red cat and a blue cat, and both are there",
        cell="c78",
        value="sum(n == 2 for n in counts[asked[1]])",
        low=7,
    ),
]
