"""01 Latent compression. Bounds are what the sentences need, with room; what was measured stands in
the chapter's outputs."""

from claims import Claim

CLAIMS = [
    Claim(
        name="01.the_copies_are_good",
        sentence="30 good, 40 hard to tell apart",
        cell="c01-036",
        value="ours",
        low=30,
    ),
    Claim(
        name="01.pca_needs_fifteen_times_as_many",
        sentence="PCA needs fifteen times as many",
        cell="c01-036",
        value="needed / channels",
        low=14,
        high=16,
    ),
    Claim(
        name="01.six_bits_are_enough",
        sentence="Six bits are nearly as good as eight",
        cell="c01-040",
        value="race['latents'][1] - race['latents'][0]",
        low=0.03,
        high=0.8,
    ),
    Claim(
        name="01.latents_win_up_to_1536_bytes",
        sentence="Up to about 1,900 bytes the latents win",
        cell="c01-040",
        value="min(race['latents'][i] - max(race[n][i] for n in race if n != 'latents') "
        "for i in (0, 1, 2))",
        low=0.3,
    ),
    Claim(
        name="01.webp_crosses_at_1900_bytes",
        sentence="Up to about 1,900 bytes the latents win",
        cell="c01-040",
        # where the two lines of the figure cross, between 1,536 and 2,048 bytes
        value="(lambda ahead: 1536 + 512 * ahead[2] / (ahead[2] - ahead[3]))"
        "([a - b for a, b in zip(race['latents'], race['WebP'])])",
        low=1850,
        high=1950,
    ),
    Claim(
        name="01.webp_passes_them",
        sentence="for the sixteen of section 4), and WebP overtakes",
        cell="c01-040",
        value="race['WebP'][3] - race['latents'][3]",
        low=0.2,
        high=10,
    ),
    Claim(
        name="01.the_decoders_own_limit",
        sentence="it has reached what the decoder can do",
        cell="c01-040",
        value="abs(race['latents'][3] - mean_psnr(copies[:6], some))",
        high=0.3,
        any_weights="16 bits are finer than any decoder needs",
    ),
    Claim(
        name="01.rings_are_lost",
        sentence="JPEG, which knows no world, keeps the rings",
        cell="c01-045",
        value="compression.psnr(rings, rivals['JPEG']) - compression.psnr(rings, back)",
        low=5,
        high=16,
    ),
    Claim(
        name="01.sigma_is_tiny",
        sentence="Tiny: the encoder is very sure of itself",
        cell="c01-049",
        value="precision.item()",
        high=0.02,
    ),
    Claim(
        name="01.the_mean_serves",
        sentence="the mean alone serves as *the* latent",
        cell="c01-049",
        value="abs(from_mean - from_draw)",
        high=0.2,
    ),
    Claim(
        name="01.spread_near_one",
        sentence="All near 1, as they should be",
        cell="c01-052",
        value="((raw * scale).std((0, 2, 3)) - 1).abs().max().item()",
        high=0.15,
    ),
    Claim(
        name="01.forgotten_is_wrong",
        sentence="Without the division the scene is torn into streaks",
        cell="c01-054",
        value="max(compression.psnr(copies[1], p) for p in forgotten)",
        high=20,
        any_weights="a factor of five throws any decoder off",
    ),
    Claim(
        name="01.channel_3_does_next_to_nothing",
        sentence="Channel 3 makes little difference",
        cell="c01-056",
        value="min(compression.psnr(frames[3][2], p) for p in frames[3]) "
        "- max(compression.psnr(frames[c][2], frames[c][0]) for c in range(3))",
        low=2,
    ),
    Claim(
        name="01.shapes_stay",
        sentence="Mostly light and color change; the large shapes stay",
        cell="c01-056",
        value="min(np.corrcoef(*(np.abs(np.diff(np.float32(p.convert('L')))).ravel() "
        "for p in (row[2], row[k])))[0, 1] for row in frames for k in (1, 3))",
        low=0.4,
    ),
    Claim(
        name="01.preview_from_four_numbers",
        sentence="So there is a preview without any decoder",
        cell="c01-059",
        value="share.item()",
        low=0.75,
    ),
    Claim(
        name="01.channels_1_and_3_nearly_the_same",
        sentence="channels 1 and 3 share about three quarters of their variance",
        cell="c01-059",
        value="alike[i, j].item()",
        low=0.7,
    ),
    Claim(
        name="01.channel_3_can_be_guessed",
        sentence="the decoder could nearly do without channel 3",
        cell="c01-059",
        # channel 3 guessed from channel 1, which has the same spread
        value="mean_psnr(copies) - mean_psnr(compression.decode_latents("
        "pipe, torch.cat([latents[:, :3], alike[1, 3].item() * latents[:, 1:2]], 1)))",
        high=1,
    ),
    Claim(
        name="01.psnr_prefers_the_latents",
        sentence="The upper one, from $s = 0.5$ on",
        cell="c01-063",
        value="min(compression.psnr(test[0], a) - compression.psnr(test[0], b) "
        "for a, b in zip(in_latent[2:], in_pixels[2:]))",
        low=0.3,
    ),
    Claim(
        name="01.blurred_the_grain_is_ahead",
        sentence="Blurred, the grainy pictures come out ahead",
        cell="c01-065",
        value="min(compression.psnr(blurred(test[0]), blurred(b)) "
        "- compression.psnr(blurred(test[0]), blurred(a)) "
        "for a, b in zip(in_latent[1:], in_pixels[1:]))",
        low=0.5,
        any_weights="grain averages away beside the copy of any decoder",
    ),
    Claim(
        name="01.half_in_its_own_patch",
        sentence="About half in its own patch",
        cell="c01-072",
        value="near[0]",
        low=0.35,
        high=0.7,
    ),
    Claim(
        name="01.nearly_all_in_the_next_ring",
        sentence="nearly all within the next ring",
        cell="c01-072",
        value="near[1]",
        low=0.85,
    ),
    Claim(
        name="01.both_at_once",
        sentence="both at once, as in pixels",
        cell="c01-077",
        value="compression.psnr(walks[0][2], walks[1][2])",
        low=17,
    ),
]
