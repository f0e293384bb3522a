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
        if name in ("the_thing_alone_seldom", "the_place_has_no_fixed_home")
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
            "words_carry_color_and_thing",
            "With all of them swapped, the color or the thing changes in every picture",
            "min(changed[row]['all the words'] for row in ('color', 'thing'))",
            11,
        ),
        (
            "padding_changes_no_color_and_no_thing",
            "the padding alone changes neither",
            "-max(changed[row]['end and padding'] for row in ('color', 'thing'))",
            0,
        ),
        (
            "red_does_nothing",
            "The card of red alone turns no house blue",
            "-changed['color']['its own word']",
            -1,
        ),
        (
            "the_thing_alone_seldom",
            "The card of the thing alone does it in fewer than half",
            "-max(changed[row]['the thing'] for row in ('color', 'thing'))",
            -6,
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
            "night_seldom_brings_the_sunset",
            "the card of night seldom does",
            "-changed['time']['its own word']",
            -4,
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
        name="04.weights_up_to_two_do_nothing",
        sentence="the red house stays, though the sky may change",
        cell="c76",
        value="min(min(row[:4]) for row in kept.values())",
        low=7,
    ),
    Claim(
        name="04.three_times_drowns_the_others",
        sentence="At three times, pictures break: red may give a castle, and house smears of color",
        cell="c76",
        value="max(np.abs(np.asarray(row[4][i], float) - np.asarray(row[1][i], float)).mean()"
        " / np.abs(np.asarray(row[2][i], float) - np.asarray(row[1][i], float)).mean()"
        " for row in heavier.values() for i in range(8))",
        low=5,
        any_weights="a state three times as long is far from all others for any network",
    ),
    Claim(
        name="04.two_cats_are_seldom_one",
        sentence="Seldom even one. No caption ever held",
        cell="c78",
        value="sum(counts[asked[0]])",
        high=3,
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
