"""The mask by hand, without a browser."""

import threading
import time

import numpy as np
import pytest
from PIL import Image

from sdlearn import editing, hub
from sdlearn.widgets import MaskCanvas
from sdlearn.widgets import mask as module

PICTURE = Image.new("RGB", (64, 32), (10, 200, 90))


def mask_canvas(**options):
    return MaskCanvas(PICTURE, box=(16, 8, 48, 24), **options)


def run(control: MaskCanvas) -> MaskCanvas:
    control._hear(control.face, {"do": "run"}, [])
    assert control.wait(120) and not control.face.busy
    return control


def rectangle(rows: slice, columns: slice) -> np.ndarray:
    bits = np.zeros((4, 8), bool)
    bits[rows, columns] = True
    return bits


def as_text(bits: np.ndarray) -> str:
    return "".join(str(int(b)) for b in bits.ravel())


def test_the_drawing_is_called_what_it_is():
    control = MaskCanvas(PICTURE, word="shape")
    assert control.face.status.startswith("The shape covers 50% of the picture")
    with pytest.raises(ValueError, match="This shape has"):
        control.value = np.zeros((1, 1))


def test_at_its_default():
    control = mask_canvas()
    assert np.array_equal(control.value, rectangle(slice(1, 3), slice(2, 6)))
    assert control.mask.size == PICTURE.size
    assert np.array_equal(np.asarray(control.mask)[::8, ::8] == 255, control.value)
    assert "25%" in control.face.status and "8 of its 8 x 4 patches" in control.face.status
    right_half = rectangle(slice(None), slice(4, 8))
    assert np.array_equal(MaskCanvas(PICTURE).value, right_half), "unless told"
    assert not control.face.asks and len(repr(MaskCanvas(PICTURE))) < 2000


@pytest.mark.parametrize("where", [lambda act: act(), lambda act: threading.Thread(target=act)])
def test_it_hears_what_is_drawn(where):
    control, drawn = mask_canvas(), np.random.default_rng(0).random((4, 8)) < 0.5
    thread = where(lambda: setattr(control.face, "bits", as_text(drawn)))
    if thread:
        thread.start()
        thread.join(30)
    assert np.array_equal(control.value, drawn)
    for broken in ("", "01", "x" * 32, "2" * 32):
        control.face.bits = broken
        assert np.array_equal(control.value, drawn), "what is no mask is not heard"


def test_set_from_python():
    control = mask_canvas()
    control.value = np.eye(4, 8)
    assert np.array_equal(control.value, np.eye(4, 8, dtype=bool))
    with pytest.raises(ValueError, match=r"4 rows and 8 columns; got an array of shape \(8, 4\)"):
        control.value = np.eye(8, 4)
    with pytest.raises(ValueError, match="choose a smaller patch"):
        MaskCanvas(PICTURE, patch=40)


def test_any_picture_may_be_brought(tmp_path):
    path = tmp_path / "see through.png"
    Image.new("RGBA", (40, 24), (255, 0, 0, 0)).save(path)
    for given in (path, path.read_bytes(), np.zeros((24, 40, 3)), Image.new("P", (40, 24))):
        control = MaskCanvas(given)
        assert control.image.mode == "RGB" and control.value.shape == (3, 5)
    assert MaskCanvas(path).image.getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(FileNotFoundError):
        MaskCanvas(tmp_path / "none.png")


def test_a_cameras_picture_is_handled_at_once():
    """12 megapixels: few enough cells to draw on, a small picture for the browser."""
    photo = Image.effect_noise((4000, 3000), 40).convert("RGB")
    began = time.process_time()
    control = MaskCanvas(photo)
    taken = time.process_time() - began
    assert max(control.value.shape) <= module.MOST_CELLS and control.mask.size == photo.size
    assert len(control.face.src) < 2_000_000 and taken < 5


def test_it_repaints():
    asked = []

    def repaint(mask, prompt):
        asked.append((np.asarray(mask), prompt))
        if prompt == "nothing":
            raise ValueError("The mask leaves nothing to repaint.")
        return Image.new("RGB", (64, 64), "red")

    control = run(mask_canvas(repaint=repaint, prompt='a "red" balloon'))
    assert (
        np.array_equal(asked[0][0], np.asarray(control.mask)) and asked[0][1] == control.face.prompt
    )
    assert control.picture.size == (64, 64) and control.error == ""
    assert control.face.result["alt"].endswith('repainted: a "red" balloon')
    control.face.prompt = "nothing"
    run(control)
    assert control.error == "The mask leaves nothing to repaint." and control.face.bad
    assert control.picture is not None


def test_with_a_model_it_is_inpainting_with_notes_progress_and_stop(pipe, monkeypatch):
    scene = Image.effect_noise((64, 64), 80).convert("RGB")
    control = MaskCanvas(scene, pipe=pipe, prompt="a qzxv", seed=1, num_inference_steps=4)
    assert any("qzxv" in note for note in control.face.notes)
    assert control.image.size == (pipe.unet.config.sample_size * pipe.vae_scale_factor,) * 2
    run(control)
    (expected,) = editing.inpaint(
        pipe, control.image, control.mask, "a qzxv", seed=1, num_inference_steps=4
    )
    assert np.array_equal(np.asarray(control.picture), np.asarray(expected))
    assert control.face.done == control.face.total == 4 and "Done in" in control.face.status
    steps = editing.inpaint_steps

    def stopping(*args, **kwargs):
        for step in steps(*args, **kwargs):
            if step.index == 1:
                control._hear(control.face, {"do": "stop"}, [])
            yield step

    monkeypatch.setattr(module.editing, "inpaint_steps", stopping)
    run(control)
    assert "Stopped after step 2 of 4" in control.face.status and control.picture is not None
    assert hub.defaults_of(pipe).num_inference_steps > 0


def test_what_it_draws_without_a_model_has_no_notes():
    assert mask_canvas(prompt="a qzxv").face.notes == []
