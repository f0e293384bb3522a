"""A minute model for tests: the real classes, milliseconds a step, pictures of nothing."""

import torch

from sdlearn import hub, models


def random_pipeline(seed: int = 0, width: int = 32):
    """A minute pipeline with random weights for tests: 32-pixel pictures, four VAE stages, Tiny
    SD's tokenizer if it is there."""
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        tokenizer = (
            hub.load_tokenizer(hub.TINY_SD)
            if (hub.TINY_SD / "tokenizer").exists()
            else models.build_tokenizer(*models.byte_vocabulary())
        )
        ids = dict(
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                **{
                    **models.TINY_TEXT,
                    **ids,
                    "hidden_size": width,
                    "intermediate_size": 2 * width,
                    "num_hidden_layers": 2,
                    "projection_dim": width,
                }
            )
        )
        vae = models.build_vae(
            block_out_channels=(8, 8, 16, 16), sample_size=64, scaling_factor=0.7
        )
        unet = models.build_unet(
            sample_size=8,
            block_out_channels=(16, 32, 32),
            attention_head_dim=2,
            norm_num_groups=8,
            cross_attention_dim=width,
        )
    pipe = models.build_pipeline(vae.eval(), text.eval(), tokenizer, unet.eval())
    # fixed: what is best for new weights must not change what a test compares
    pipe.defaults = hub.Defaults(guidance_scale=5.0, sampler="ddim", num_inference_steps=25)
    return pipe
