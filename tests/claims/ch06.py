"""06 Editing."""

from claims import Claim

CLAIMS = [
    Claim(
        name="06.color_comes_first",
        sentence="The color comes first, while all else stays",
        cell="5069d287",
        value="came[0.5]['red'] - max(came[0.5]['right'], came[0.5]['snow'], came[0.5]['night'])",
        low=6,
    ),
    Claim(
        name="06.side_and_ground_need_more",
        sentence="Side and ground need more",
        cell="5069d287",
        value="min(came[0.6]['right'], came[0.6]['snow'])",
        low=7,
    ),
    Claim(
        name="06.night_needs_the_most",
        sentence="night needs the most",
        cell="5069d287",
        value="min(sum(c[what] for c in came.values()) for what in ('right', 'snow'))"
        " - sum(c['night'] for c in came.values())",
        low=3,
    ),
    Claim(
        name="06.night_comes_at_last",
        sentence="So at a strength that brings the night, the place of the house is open again",
        cell="5069d287",
        value="min(c['right'] - c['night'] for c in came.values()) + came[1.0]['night']",
        low=7,
    ),
    Claim(
        name="06.image_to_image_is_the_librarys",
        sentence="Is that what the library calls image to image?",
        cell="4850b59b",
        value="(ours - theirs.cpu()).abs().max().item()",
        high=1e-4,
        any_weights="the loop is the library's, whatever the network has learned",
    ),
    Claim(
        name="06.inpainting_is_the_librarys",
        sentence="The library's inpainting does exactly this",
        cell="0dca7b21",
        value="(lambda theirs: (run[-1].prev_latents - theirs.cpu()).abs().max().item())("
        "models.as_pipeline('inpaint', pipe)(wish, image=drawing, mask_image=mask, strength=1.0, "
        "num_inference_steps=15, guidance_scale=own.guidance_scale, output_type='latent', "
        "generator=torch.Generator().manual_seed(0)).images)",
        high=1e-4,
        any_weights="the loop is the library's, whatever the network has learned",
    ),
    Claim(
        name="06.the_house_need_not_be_named",
        sentence="the house is put back after each step, whatever the prompt says",
        cell="32f5d454",
        value="min(right(p, goals) for p in added.values())",
        low=7,
    ),
    Claim(
        name="06.naming_the_scene_empties_the_hole",
        sentence="What empties the hole is a prompt that names the scene as it should be",
        cell="6c2a3efe",
        value="right(rows[0], [scene] * 8)",
        low=6,
    ),
    Claim(
        name="06.without_a_prompt_it_is_filled",
        sentence="Without a prompt the model fills the hole",
        cell="6c2a3efe",
        value="right(rows[1], [scene] * 8)",
        high=2,
        any_weights="random weights never leave the house alone, with a prompt or without",
    ),
    Claim(
        name="06.a_negative_prompt_does_not_empty_it",
        sentence="A negative prompt forbids one thing only",
        cell="6c2a3efe",
        value="right(rows[2], [scene] * 8)",
        high=2,
        any_weights="random weights never leave the house alone, with a prompt or without",
    ),
    Claim(
        name="06.found_noise_is_too_small",
        sentence="the standard deviation is far too small, and neighbors resemble each other",
        cell="92297e4d",
        value="found.std().item()",
        high=0.75,
        any_weights="random weights find too little noise, too",
    ),
    Claim(
        name="06.editing_invert_does_the_same",
        sentence="editing.invert does the same",
        cell="92297e4d",
        value="(path[-1] - editing.invert(pipe, drawing, caption, num_inference_steps=20))"
        ".abs().max().item()",
        high=1e-4,
        any_weights="the same arithmetic, whatever the network has learned",
    ),
    Claim(
        name="06.smaller_steps_smaller_error",
        sentence="Smaller steps, smaller error",
        cell="a97ca340",
        value="quality[-1] - quality[0]",
        low=2,
        any_weights="smaller steps follow any smooth network better",
    ),
    *(
        Claim(
            name=f"06.switched_after_{k}_{what}",
            sentence=sentence,
            measured=f"edits.json/switched/{k}/{what}/value",
            low=low,
            high=high,
        )
        for what, sentence, k, low, high in (
            ("place", "Ground (place) and light (time) must be asked for early", 0, 90, 100),
            ("time", "Ground (place) and light (time) must be asked for early", 0, 90, 100),
            ("place", "Ground (place) and light (time) must be asked for early", 8, 0, 50),
            ("time", "Ground (place) and light (time) must be asked for early", 8, 0, 50),
            ("place", "Ground (place) and light (time) must be asked for early", 12, 0, 10),
            ("time", "Ground (place) and light (time) must be asked for early", 12, 0, 10),
            ("kind", "Another thing can wait until step 8", 8, 85, 100),
            ("kind", "Another thing can wait until step 8", 12, 0, 40),
            ("color", "wait until step 8, another color longest", 12, 55, 100),
            ("color", "wait until step 8, another color longest", 8, 85, 100),
        )
    ),
    Claim(
        name="06.the_straight_line_is_as_good",
        sentence="the straight line gives the picture asked for no less often than the arc",
        cell="4657a43d",
        value="min(kept['straight line'], kept['straight line'] - kept['arc'] + 7)",
        low=6,
    ),
    Claim(
        name="06.no_noise_gives_the_house",
        sentence="even no noise at all gives the house",
        cell="4657a43d",
        value="kept['no noise at all']",
        low=1,
    ),
    Claim(
        name="06.at_one_stop_the_sky_flips",
        sentence="at one stop sky and rocket flip together",
        cell="dfa9050e",
        value="max(moves) / sum(moves)",
        low=0.5,
    ),
]
