"""Chapter 01: each formula the notebook displays has a test of its name here, and the functions the
notebook defines are tested as they stand there."""

import gc
import math
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cells import part
from PIL import Image
from small import random_pipeline

from sdlearn import compression, hub, models, world
from sdlearn.chapters import ch01
from sdlearn.compression import psnr, to_images, to_tensor


def lesson(*ids: str, **given) -> dict:
    """The names that these cells of the notebook define."""
    return vars(part("01", *ids, torch=torch, np=np, F=F, compression=compression, **given))


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(3)
    return [world.draw(world.sample_scene(rng), 64, seed=i) for i in range(6)]


@pytest.fixture(scope="module")
def correlated():
    """2,000 vectors of 20 numbers that hang together, mean near 0: running sums of noise."""
    return torch.randn(2000, 20, generator=torch.Generator().manual_seed(0)).cumsum(1)


# ------------------------------------------------------------------------------------- the formulas


def test_compression_ratio_of_the_shipped_shapes():
    """3 f^2 / C = 48 for Tiny SD and for Stable Diffusion, exactly."""
    for config in (models.TINY_VAE, dict(models.TINY_VAE, block_out_channels=(128, 256, 512, 512))):
        factor = 2 ** (len(config["block_out_channels"]) - 1)
        assert 3 * factor**2 / config["latent_channels"] == 48


def test_pca_optimum_is_the_sum_of_the_discarded_variances(correlated):
    """min E|x - DEx|^2 = sum of eigenvalues beyond k (1e-4 relative), and no other projection of
    that rank is better."""
    pca = lesson("pca")["pca"]
    mean, variances, directions = pca(correlated)
    assert torch.all(variances.diff() <= 0) and torch.allclose(
        directions.T @ directions, torch.eye(20), atol=1e-5
    )
    assert torch.allclose(variances.sum(), correlated.var(0, correction=0).sum(), rtol=1e-4)
    for k in (1, 10, 19):
        basis = directions[:, :k]
        lost = ((correlated - mean) - (correlated - mean) @ basis @ basis.T).square().sum(1).mean()
        assert torch.allclose(lost, variances[k:].sum(), rtol=1e-3, atol=1e-4)
        other = torch.linalg.qr(torch.randn(20, k, generator=torch.Generator().manual_seed(k)))[0]
        assert ((correlated - mean) - (correlated - mean) @ other @ other.T).square().sum(
            1
        ).mean() > lost


def test_linear_autoencoder_reaches_the_pca_optimum(correlated):
    """Trained by gradient descent it comes within 15 % of the optimum, and never below it."""
    names = lesson("pca", "train-autoencoder")
    pca, train_autoencoder = names["pca"], names["train_autoencoder"]
    x = correlated - correlated.mean(0)
    E, D, losses = train_autoencoder(x, 10)
    assert E.shape == (10, 20) and D.shape == (20, 10) and losses[-1] < losses[0] / 20
    ratio = (x - x @ E.T @ D.T).square().sum(1).mean() / pca(x)[1][10:].sum()
    assert 1 - 1e-3 < ratio < 1.15


def test_psnr_formula():
    """10 log10(255^2 / mean squared error), by hand for a constant error of 10 in one of three
    colours."""
    grey, redder = (
        Image.new("RGB", (8, 8), (100, 100, 100)),
        Image.new("RGB", (8, 8), (110, 100, 100)),
    )
    assert math.isclose(psnr(grey, redder), 10 * math.log10(255**2 / (100 / 3)), rel_tol=1e-12)
    assert psnr(grey, grey) == math.inf
    assert psnr(Image.new("RGB", (4, 4)), Image.new("RGB", (4, 4), (255, 255, 255))) == 0
    with pytest.raises(ValueError, match="resize"):
        psnr(grey, grey.resize((4, 4)))


def test_convolution_formula():
    """y_oij = b_o + sum over c, u, v of w_ocuv x_c,i+u,j+v: four loops against conv2d, 1e-5."""
    g = torch.Generator().manual_seed(0)
    x, w, b = (
        torch.randn(3, 7, 9, generator=g),
        torch.randn(2, 3, 3, 3, generator=g),
        torch.randn(2, generator=g),
    )
    want = F.conv2d(x[None], w, b)[0]
    for o in range(2):
        for i in range(5):
            for j in range(7):
                y = b[o] + sum(
                    w[o, c, u, v] * x[c, i + u, j + v]
                    for c in range(3)
                    for u in range(3)
                    for v in range(3)
                )
                assert abs(y - want[o, i, j]) < 1e-5


@pytest.fixture(scope="module")
def posterior(pipe):
    with torch.inference_mode():
        kind = type(
            pipe.vae.encode(torch.zeros(1, 3, 16, 16)).latent_dist
        )  # diffusers' DiagonalGaussianDistribution
    return kind(torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0)) * 1.5)


def test_kl_formula_equals_diffusers(posterior):
    """0.5 (mu^2 + sigma^2 - 1 - ln sigma^2), summed over each latent: 1e-5 relative."""
    kl = 0.5 * (posterior.mean**2 + posterior.logvar.exp() - 1 - posterior.logvar)
    assert torch.allclose(kl.sum((1, 2, 3)), posterior.kl(), rtol=1e-5)
    assert kl.min() >= -1e-6


def test_kl_formula_equals_simulation(posterior):
    """The average of ln q(z) - ln p(z) over 20,000 draws from q, within 4 standard errors, for each
    latent."""
    kl = 0.5 * (posterior.mean**2 + posterior.logvar.exp() - 1 - posterior.logvar).sum((1, 2, 3))
    z = posterior.mean + posterior.std * torch.randn(
        20_000, *posterior.mean.shape, generator=torch.Generator().manual_seed(1)
    )
    log_q = -0.5 * (
        ((z - posterior.mean) / posterior.std) ** 2 + posterior.logvar + math.log(2 * math.pi)
    )
    log_p = -0.5 * (z**2 + math.log(2 * math.pi))
    drawn = (log_q - log_p).sum((2, 3, 4))
    assert torch.all((drawn.mean(0) - kl).abs() < 4 * drawn.std(0) / 20_000**0.5)
    assert torch.all(drawn.std(0) / 20_000**0.5 < 0.01 * kl), (
        "the simulation is too coarse to prove anything"
    )


def test_posterior_draw_formula_equals_diffusers(posterior):
    """mu + sigma noise with sigma = exp(0.5 ln sigma^2), the same generator: equal to 1e-6."""
    noise = torch.randn(posterior.mean.shape, generator=torch.Generator().manual_seed(5))
    drawn = posterior.sample(torch.Generator().manual_seed(5))
    assert torch.allclose(drawn, posterior.mean + (0.5 * posterior.logvar).exp() * noise, atol=1e-6)


def test_scaling_factor_formula(pipe, pictures):
    """Latents times 1 / std have standard deviation 1 (1e-5), whatever the model; encode_image
    multiplies by the config's number."""
    raw = compression.encode_image(pipe, pictures) / pipe.vae.config.scaling_factor
    assert abs((raw / raw.std()).std() - 1) < 1e-5
    with torch.inference_mode():
        mean = pipe.vae.encode(to_tensor(pictures[:1])).latent_dist.mean
    assert torch.allclose(
        compression.encode_image(pipe, pictures[0]),
        mean * pipe.vae.config.scaling_factor,
        atol=1e-6,
    )


@pytest.mark.skipif(
    not (hub.TINY_SD / "vae").exists(), reason="Tiny SD's autoencoder has not been trained yet"
)
def test_tiny_sd_scaling_factor_and_psnr():
    """The shipped autoencoder: on scenes no trainer saw, scaled latents have standard deviation 1
    within 3 %, and copies beat the best linear patches by 3 dB."""
    vae = hub.load_part("vae")
    rng = np.random.default_rng(12345)
    x = to_tensor([world.draw(world.sample_scene(rng), seed=i) for i in range(24)])
    with torch.inference_mode():
        z = vae.encode(x).latent_dist.mean
        copies = vae.decode(z[:8]).sample
    assert abs(z.std() * vae.config.scaling_factor - 1) < 0.03
    vectors = F.pixel_unshuffle(x, 8).movedim(1, -1)
    mean, _, directions = lesson("pca")["pca"](vectors.flatten(0, 2))
    best = F.pixel_shuffle(
        ((vectors - mean) @ directions[:, :4] @ directions[:, :4].T + mean).movedim(-1, 1), 8
    )
    originals = to_images(x[:8])
    ours, linear = (
        np.mean([psnr(a, b) for a, b in zip(originals, to_images(y), strict=True)])
        for y in (copies, best[:8])
    )
    assert ours > linear + 3


def test_least_squares_formula(pipe, pictures):
    """A^T (P - A M) = 0 at the fitted map: 1e-4 a row; and the package's preview is that map."""
    M = compression.preview_map(pipe)
    rng = [np.random.default_rng([8, i]) for i in range(32)]
    drawn = [
        world.draw(world.sample_scene(r), 16 * pipe.vae_scale_factor, seed=i)
        for i, r in enumerate(rng)
    ]
    A = F.pad(compression.encode_image(pipe, drawn).movedim(1, -1).flatten(0, 2), (0, 1), value=1.0)
    P = F.avg_pool2d(to_tensor(drawn), pipe.vae_scale_factor).movedim(1, -1).flatten(0, 2)
    assert (A.T @ (P - A @ M)).abs().max() / len(A) < 1e-4
    z = compression.encode_image(pipe, pictures[0])
    by_hand = to_images((F.pad(z.movedim(1, -1), (0, 1), value=1.0) @ M).movedim(-1, 1))[0]
    assert np.array_equal(by_hand, compression.latent_preview(z, pipe)[0])


def test_quantise_formula():
    """b bits: at most 2^b - 1 values, never further off than half a step, and what lies outside is
    clipped."""
    quantise = lesson("quantise")["quantise"]
    z = torch.linspace(-1.2, 1.2, 4001)
    for bits in (2, 4, 8):
        steps = 2 ** (bits - 1) - 1
        q = quantise(z, bits, 1.0)
        assert len(q.unique()) == 2**bits - 1
        assert (q - z.clamp(-1, 1)).abs().max() <= 0.5 / steps + 1e-6
        assert torch.allclose(quantise(q, bits, 1.0), q, atol=1e-6)


# -------------------------------------------------------------------------------------- the package


def test_tensors_and_pictures_are_inverse(pictures):
    x = to_tensor(pictures)
    assert x.shape == (6, 3, 64, 64) and x.dtype == torch.float32 and -1 <= x.min() < x.max() <= 1
    assert all(np.array_equal(a, b) for a, b in zip(to_images(x), pictures, strict=True))
    assert to_tensor(pictures[0]).shape == (1, 3, 64, 64)
    assert np.array_equal(to_images(torch.full((1, 3, 2, 2), 9.0))[0], np.full((2, 2, 3), 255))


def test_encode_and_decode_shapes_and_batches(pipe, pictures):
    """(B, 4, H/8, W/8), also for pictures that are not square; many pictures give what each gives
    alone, 1e-5."""
    z = compression.encode_image(pipe, pictures)
    assert z.shape == (6, 4, 8, 8) and z.dtype == torch.float32
    assert torch.allclose(z[3:4], compression.encode_image(pipe, pictures[3]), atol=1e-5)
    assert compression.encode_image(pipe, pictures[0].resize((96, 64))).shape == (1, 4, 8, 12)
    decoded = compression.decode_latents(pipe, z)
    assert [i.size for i in decoded] == [(64, 64)] * 6
    assert psnr(decoded[3], compression.decode_latents(pipe, z[3:4])[0]) > 50


def test_large_pictures_go_one_by_one(pipe, monkeypatch):
    """A batch of large pictures must not need the memory of all at once."""
    seen, decode = [], pipe.vae.decode
    monkeypatch.setattr(pipe.vae, "decode", lambda part: seen.append(len(part)) or decode(part))
    compression.decode_latents(pipe, torch.zeros(3, 4, 40, 40))
    compression.decode_latents(pipe, torch.zeros(10, 4, 16, 16))
    assert seen == [1, 1, 1, 2, 2, 2, 2, 2]


def test_a_side_that_does_not_fit_is_refused_and_fit_mends_it(pipe):
    odd = Image.new("RGB", (70, 91))
    with pytest.raises(ValueError, match=r"multiples of 8.*compression\.fit"):
        compression.encode_image(pipe, odd)
    assert compression.fit(odd, pipe).size == (compression.picture_size(pipe),) * 2


def test_functions_work_in_a_thread_of_their_own(pipe, pictures):
    """Widget callbacks come in other threads, where a cell's inference mode does not hold."""
    found = []
    run = threading.Thread(
        target=lambda: found.append(
            compression.latent_preview(compression.encode_image(pipe, pictures[0]), pipe)[0].size
        )
    )
    run.start()
    run.join()
    assert found == [(8, 8)]
    assert not compression.encode_image(pipe, pictures[0]).requires_grad


def test_jpeg_fills_its_bytes_and_no_more(pictures):
    p = pictures[0].resize((128, 128))
    sizes, quality = zip(
        *(
            (n, psnr(p, q))
            for q, n in (compression.jpeg(p, budget) for budget in (700, 1000, 2000))
        ),
        strict=True,
    )
    assert all(
        0.8 * budget < n <= budget for n, budget in zip(sizes, (700, 1000, 2000), strict=True)
    )
    assert quality[0] < quality[1] < quality[2]
    with pytest.raises(ValueError, match="Allow more bytes"):
        compression.jpeg(p, 50)


def test_jpeg_counts_all_that_is_coded():
    """Head and coded blocks together are the file: nothing of the picture is left out of the
    count."""
    import io

    p, file = world.draw(world.sample_scene(np.random.default_rng(0)), 64), io.BytesIO()
    p.save(file, "JPEG", quality=95)
    _, size = compression.jpeg(p, 10**6)
    assert 550 < len(file.getvalue()) - size < 650


def test_feature_maps_shrink_and_leave_no_hook(pipe, pictures):
    maps = ch01.feature_maps(pipe, pictures[0])
    assert list(maps) == [
        "first layer",
        "block 1",
        "block 2",
        "block 3",
        "block 4",
        "middle",
        "last layer",
    ]
    assert [m.shape[1] for m in maps.values()] == [64, 32, 16, 8, 8, 8, 8]
    assert maps["last layer"].shape[0] == 2 * pipe.vae.config.latent_channels
    first = F.conv2d(
        to_tensor(pictures[0]),
        pipe.vae.encoder.conv_in.weight,
        pipe.vae.encoder.conv_in.bias,
        padding=1,
    )[0]
    assert torch.allclose(maps["first layer"], first, atol=1e-5)
    assert not any(m._forward_hooks for m in pipe.vae.modules())


def test_preview_is_fitted_once_a_model_and_forgotten_with_it():
    pipe = random_pipeline(seed=3)
    assert compression.preview_map(pipe) is compression.preview_map(pipe)
    assert compression.preview_map(pipe).shape == (5, 3)
    before = len(compression._MAPS)
    del pipe
    gc.collect()
    assert len(compression._MAPS) == before - 1
    assert [
        i.size for i in compression.latent_preview(torch.zeros(2, 4, 8, 6), random_pipeline())
    ] == [(6, 8)] * 2


def test_copies_by_pca_lose_what_pca_says(pictures):
    """`ch01.patch_copies` with the notebook's PCA, on the pictures it was fitted to: the squared
    error is the sum of the discarded variances (2 % for rounding and clipping), and with all
    numbers nothing is lost."""
    pca = lesson("pca")["pca"]
    vectors = F.pixel_unshuffle(to_tensor(pictures), 8).movedim(1, -1).flatten(0, 2)
    copies = ch01.patch_copies(pca, pictures, pictures, 16, 8)
    lost = (to_tensor(copies) - to_tensor(pictures)).square().sum() / len(vectors)
    assert lost.item() == pytest.approx(pca(vectors)[1][16:].sum().item(), rel=0.05)
    whole = ch01.patch_copies(pca, pictures, pictures, 192, 8)
    assert all(psnr(a, b) > 50 for a, b in zip(pictures, whole, strict=True))


def test_formats_fill_their_bytes_and_no_more(pictures):
    p = pictures[0].resize((128, 128))
    for kind in ("JPEG", "WebP", "PNG, smaller"):
        few, many = (ch01.fitted(p, kind, size) for size in (1000, 3000))
        assert few.size == p.size and psnr(p, few) < psnr(p, many)
    assert ch01.fitted(p, "PNG, smaller", 10**6).tobytes() == p.tobytes(), (
        "PNG itself loses nothing"
    )
    assert 2000 < ch01.png_bytes([p]) < 10_000
    with pytest.raises(ValueError, match="allow more"):
        ch01.fitted(p, "WebP", 20)
    with pytest.raises(ValueError, match="choose JPEG"):
        ch01.fitted(p, "GIF", 1000)


def test_different_maps_do_not_repeat_each_other():
    """A copy, a multiple, a negative and a near copy of a map are picked last, however large."""
    g = torch.Generator().manual_seed(0)
    one, two = torch.randn(4, 4, generator=g), 0.1 * torch.randn(4, 4, generator=g)
    near = 0.9 * one + 0.3 * torch.randn(4, 4, generator=g)
    others = [0.9 * one, near, torch.zeros(4, 4), two, -0.9 * one, one]
    picked = ch01.different(torch.stack([one, *others]), count=2)
    assert torch.equal(picked[0], one) and torch.equal(picked[1], two)
    assert len(ch01.different(torch.stack([one, *others]), count=9)) == 7


def test_share_inside_a_patch():
    """The notebook's measure of section 10: all of a blot in its own patch, of an even change as
    much as there are patches, cut at the border."""
    inside = lesson("inside", factor=8)["inside"]
    blot, even = np.zeros((32, 32)), np.ones((32, 32))
    blot[8:16, 16:24] = 5
    assert inside(blot, 1, 2, 0) == 1 and inside(blot, 0, 0, 0) == 0 and inside(blot, 0, 1, 1) == 1
    assert (
        inside(even, 1, 1, 0) == 1 / 16
        and inside(even, 1, 1, 1) == 9 / 16
        and inside(even, 0, 0, 1) == 4 / 16
    )
