"""07 The race."""

from claims import Claim

FILE = "a file that was measured on the shipped weights"
# Day and night of each place under eight noises of the last timestep: how often the brightness of
# the upper half tells day from night, and the upper third against the lower one which is the sky.
LAST_TIMESTEP = (
    "(lambda seen, tilt: min("
    "np.mean([(d[1][..., :64, :].mean() > n[1][..., :64, :].mean()).item() "
    "for d, n in zip(seen[::2], seen[1::2])]), "
    "np.mean([(tilt(clean) * tilt(noisy)).sum().item() > 0 for clean, noisy in seen])))("
    "[(x, abar[-1]**0.5 * x + (1 - abar[-1])**0.5 * torch.randn(x.shape, generator=noise)) "
    "for noise in [torch.Generator().manual_seed(0)] for _ in range(8) for place in world.PLACES "
    "for time_of_day in ('day', 'night') for x in [compression.to_tensor([world.draw(world.Scene("
    "(world.Thing('house', 'red', 'left'),), place, time_of_day), seed=3)])]], "
    "lambda z: z[..., :42, :].mean((2, 3)) - z[..., -42:, :].mean((2, 3)))"
)

CLAIMS = [
    Claim(
        name="07.nobody_gets_all_of_it_right_in_twenty_minutes",
        sentence="nobody gets all of it right",
        cell="r051",
        value="max(marks[-1]['in_place']['value'] for marks in measured['equal_time'].values())",
        high=0,
        any_weights=FILE,
    ),
    Claim(
        name="07.latents_have_the_surroundings",
        sentence="The latents have the surroundings and the time right in nearly all pictures",
        cell="r051",
        value="measured['equal_time']['latents'][-1]['surroundings']['value']",
        low=90,
        any_weights=FILE,
    ),
    Claim(
        name="07.the_cascade_has_half_of_the_surroundings",
        sentence="the cascade in half of them",
        cell="r051",
        value="measured['equal_time']['cascade'][-1]['surroundings']['value']",
        low=40,
        high=60,
        any_weights=FILE,
    ),
    Claim(
        name="07.pixels_have_few_of_the_surroundings",
        sentence="the pixels in about one in eight",
        cell="r051",
        value="measured['equal_time']['pixels'][-1]['surroundings']['value']",
        low=8,
        high=17,
        any_weights=FILE,
    ),
    Claim(
        name="07.latents_lead_after_five_minutes",
        sentence="But the order is clear",
        cell="r051",
        value="all(a[key]['value'] < b[key]['value'] < c[key]['value'] for a, b, c in "
        "zip(*(measured['equal_time'][way] for way in cascade.WAYS)) "
        "for key in ('surroundings', 'wishes'))",
        low=1,
        any_weights=FILE,
    ),
    Claim(
        name="07.pixels_saw_the_fewest_pictures",
        sentence="the latents saw about 39,000 pictures, the cascade's small network about "
        "14,000 in its twelve minutes, the pixel network fewer than 7,000",
        cell="r051",
        value="[measured['equal_time'][way][-1]['pictures'][0] // 1000 for way in cascade.WAYS] "
        "== [6, 13, 39]",
        low=1,
        any_weights=FILE,
    ),
    Claim(
        name="07.the_network_knows_what_lines_cannot",
        sentence="The network gives back what straight lines cannot",
        cell="r025",
        value="compression.psnr(drawing, shown[3]) - compression.psnr(drawing, shown[2])",
        low=0.7,
    ),
    Claim(
        name="07.the_small_network_paints_an_orange_blot",
        sentence="The one for small pictures paints snow, a moon, and an orange blot",
        cell="r013",
        value="(cascade.shrink(painted['small'], 8)[0, 0] "
        "- cascade.shrink(painted['small'], 8)[0, 2]).max().item()",
        low=1,
    ),
    Claim(
        name="07.the_last_timestep_still_shows_sky_and_time",
        sentence="a network on 128 pixels could still tell sky from ground, and day from night",
        cell="r033",
        value=LAST_TIMESTEP,
        low=0.9,
        any_weights="the noise does not depend on what a network has learned",
    ),
    Claim(
        name="07.latents_arrive_first",
        sentence="The latents arrive first",
        cell="r062",  # timed once on a quiet machine: a crowded one may turn the order round
        value="measured['shipped']['latents']['seconds'] "
        "< min(measured['shipped'][way]['seconds'] for way in ('pixels', 'cascade'))",
        low=1,
        any_weights=FILE,
    ),
    Claim(
        name="07.pixels_take_several_times_as_long",
        sentence="The pixels need several times as long",
        cell="r062",
        value="measured['shipped']['pixels']['seconds'] "
        "/ measured['shipped']['latents']['seconds']",
        low=3,
        any_weights=FILE,
    ),
    Claim(
        name="07.most_of_the_cascades_time_is_the_small_picture",
        sentence="Most of the cascade's time goes into the twelve steps of the small picture",
        cell="r040",
        value="clock.films(prompt, 3)['cascade'][11][0] / clock.films(prompt, 3)['cascade'][-1][0]",
        low=0.5,
        high=0.95,
        any_weights="a price does not depend on what a network has learned",
    ),
    Claim(
        name="07.the_pixels_tell_the_times_of_day_apart",
        sentence="this network tells day, sunset and night apart, and little else",
        cell="r061",  # night is darker than the others, the sky at sunset redder than by day
        value="min(min(np.mean(table['pixels'][i]) for i in (0, 1, 2)) "
        "- np.mean(table['pixels'][3]), (lambda reds: reds[2] - max(reds[:2]))("
        "[np.subtract(*np.mean(np.asarray(p)[:48], (0, 1))[:2]) for p in table['pixels']]))",
        low=40,
    ),
    Claim(
        name="07.tiny_sd_gets_nearly_every_sentence_right",
        sentence="Tiny SD gets nearly every sentence right",
        cell="r062",
        value="measured['shipped']['latents']['in_place']['value']",
        low=88,
        any_weights=FILE,
    ),
    Claim(
        name="07.the_cascade_gets_wishes_but_no_sentence",
        sentence="The cascade gets more than half of the single wishes, but no whole sentence",
        cell="r062",
        value="measured['shipped']['cascade']['wishes']['value'] "
        "- 100 * measured['shipped']['cascade']['in_place']['value']",
        low=50.01,
        high=75,
        any_weights=FILE,
    ),
    Claim(
        name="07.pixels_cost_five_times_as_many_operations",
        sentence="A picture in pixels takes about five times as many operations as one in latents",
        cell="r062",
        value="measured['shipped']['pixels']['operations'] "
        "/ measured['shipped']['latents']['operations']",
        low=4.5,
        high=5.5,
        any_weights=FILE,
    ),
    Claim(
        name="07.the_clock_grew_less_than_the_count",
        sentence="The time grew less than the count",
        cell="r071",
        value="look_ms[128] / look_ms[32] / (look_operations[128] / look_operations[32])",
        high=0.6,
        any_weights="a price does not depend on what a network has learned",
    ),
    Claim(
        name="07.two_thousand_times_at_512",
        sentence="at 512 pixels a look at pixels costs two thousand times as much",
        cell="r074",
        value="same / latents",
        low=1900,
        high=2300,
        any_weights="a price does not depend on what a network has learned",
    ),
    Claim(
        name="07.latents_bend_three_doublings_later",
        sentence="curve for latents bends three doublings later than for pixels",
        cell="r072",
        value='abs(work["latents, Tiny SD\'s U-Net"][-1] '
        '/ work["pixels, Tiny SD\'s U-Net"][2] - 1)',
        high=0.01,
        any_weights="a price does not depend on what a network has learned",
    ),
    Claim(
        name="07.what_was_missing_stays_missing",
        sentence="Whatever was missing stays missing",
        cell="r080",
        value="kept - sum(map(len, wrong[0]))",
        low=0,
        any_weights="a picture that shows nothing misses everything, before and after",
    ),
    Claim(
        name="07.noise_costs_a_clean_picture",
        sentence="For a clean picture, noise only costs",
        cell="r082",
        value="min(a - b for a, b in zip(list(quality.values()), list(quality.values())[1:]))",
        low=0.4,
    ),
    Claim(
        name="07.noise_hardly_helps_here",
        sentence="Here it hardly does",
        cell="r085",
        value="max(row['wishes']['value'] for row in measured['noise_levels'].values()) "
        "- min(row['wishes']['value'] for row in measured['noise_levels'].values())",
        high=3,
        any_weights=FILE,
    ),
    Claim(
        name="07.latents_hold_more_in_a_third",
        sentence="The latents hold the picture far better, in a third of the numbers",
        cell="r091",
        value="np.mean([compression.psnr(a, b) for a, b in zip(four, by_vae)]) "
        "- np.mean([compression.psnr(a, b) for a, b in zip(four, by_race)])",
        low=6,
        any_weights="the autoencoder is Tiny SD's own, and a random rival is only worse",
    ),
    Claim(
        name="07.decoding_costs_six_looks",
        sentence="decoded at the end, which costs as much as six looks",
        cell="r093",
        printed=r"as much as (\d+) looks",
        low=6,
        high=6,
        any_weights="a price does not depend on what a network has learned",
    ),
    Claim(
        name="07.the_autoencoder_saw_eleven_times_as_many",
        sentence="about eleven times as many pictures as the latents' U-Net saw in section 5",
        cell="r093",
        value="times",
        low=10.5,
        high=11.5,
        any_weights="what the model card says of the shipped autoencoder",
    ),
]
