"""`python -m sdlearn "..."` and `python -m sdlearn doctor`: pictures, sentences, exit codes."""

import errno
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from sdlearn import __main__ as cli
from sdlearn import doctor, hub
from sdlearn.sampling import sample


@pytest.fixture
def run(model_folder, tmp_path, capsys):
    def run(*args, out=tmp_path / "out"):
        code = cli.main([*args, "--model", str(model_folder), "--out", str(out)])
        return code, capsys.readouterr()

    return run


def test_pictures_are_written_and_named(run, tmp_path):
    code, said = run("A red house, in the snow!", "--images", "2", "--steps", "3", "--seed", "7")
    paths = sorted((tmp_path / "out").glob("*.png"))
    assert code == 0
    assert [p.name for p in paths] == [
        "a-red-house-in-the-snow_7.png",
        "a-red-house-in-the-snow_8.png",
    ]
    assert all(str(p) in said.out for p in paths) and "ms a step" in said.out
    assert (
        Image.open(paths[1]).text["seed"] == "8"
        and Image.open(paths[1]).text["prompt"] == "A red house, in the snow!"
    )


def test_picture_is_what_sample_makes(run, tmp_path, pipe):
    """The second of two pictures is the one its own seed gives alone, by the library and by the
    command."""
    run(
        "a cat",
        "--images",
        "2",
        "--steps",
        "3",
        "--seed",
        "7",
        "--guidance",
        "3",
        "--negative",
        "a zebra",
        "--sampler",
        "euler",
    )
    picture = Image.open(tmp_path / "out" / "a-cat_8.png")
    alone = sample(
        pipe,
        "a cat",
        negative_prompt="a zebra",
        num_inference_steps=3,
        guidance_scale=3.0,
        sampler="euler",
        seed=8,
    )[0]
    difference = (
        (torch.tensor(list(picture.tobytes())).int() - torch.tensor(list(alone.tobytes())).int())
        .abs()
        .max()
    )
    assert difference <= 1, "a batch of two may round differently, by one level of 255"


def test_nothing_is_overwritten(run, tmp_path):
    for _ in range(2):
        assert run("a cat", "--steps", "1", "--seed", "1")[0] == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a-cat_1.png", "a-cat_1_2.png"}


def test_random_seed_is_told(run, tmp_path):
    said = run("a cat", "--steps", "1")[1].out
    seed = next((tmp_path / "out").iterdir()).stem.split("_")[-1]
    assert f"seed {seed}" in said


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ([" "], "prompt is empty"),
        (["a cat", "--steps", "0"], "--steps must be"),
        (["a cat", "--steps", "1000000"], "--steps must be"),
        (["a cat", "--sampler", "magic"], "Unknown sampler 'magic'"),
        (["a cat", "--guidance", "nan"], "--guidance must be"),
        (["a cat", "--images", "0"], "--images must be"),
        (["a cat", "--seed", "-1"], "--seed must be"),
        (["a cat", "--guidance", "1e30"], "--guidance must be"),
    ],
)
def test_bad_input_gets_one_sentence(run, args, word):
    code, said = run(*args)
    assert code == 2 and word in said.err
    assert said.err.startswith("sdlearn: ") and said.err.count("\n") == 1 and said.out == ""


def test_missing_model_gets_one_sentence(tmp_path, capsys):
    assert cli.main(["a cat", "--model", str(tmp_path / "none"), "--out", str(tmp_path)]) == 2
    assert "No model at" in capsys.readouterr().err


def test_folder_that_cannot_be_written_gets_one_sentence(run, tmp_path):
    (tmp_path / "file").write_text("in the way")
    code, said = run("a cat", out=tmp_path / "file" / "out")
    assert code == 2 and "choose another folder with --out" in said.err


def test_a_model_s_own_defaults_are_used_and_told(model_folder, tmp_path, capsys):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    hub.write_defaults(folder, hub.Defaults(2.5, "euler", 3))
    assert cli.main(["a cat", "--model", str(folder), "--out", str(tmp_path), "--seed", "1"]) == 0
    assert "1 x 3 steps of euler, guidance 2.5" in capsys.readouterr().out
    settings = Image.open(tmp_path / "a-cat_1.png").text
    assert (settings["steps"], settings["sampler"], settings["guidance"]) == ("3", "euler", "2.5")


def test_precision_can_be_chosen(run, tmp_path, monkeypatch):
    asked = []
    load = hub.load_pipeline
    monkeypatch.setattr(
        hub, "load_pipeline", lambda model, dtype: asked.append(dtype) or load(model, dtype=dtype)
    )
    assert run("a cat", "--steps", "1", "--dtype", "bfloat16")[0] == 0
    assert asked == [torch.bfloat16]
    with pytest.raises(SystemExit):
        run("a cat", "--dtype", "float128")


def test_a_full_disk_is_named_and_leaves_no_half_a_picture(run, tmp_path, monkeypatch):
    def full(path, content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    code, said = run("a cat", "--steps", "1", "--seed", "1")
    assert code == 2 and said.err.splitlines()[-1].startswith("sdlearn: Cannot write a-cat_1.png")
    assert f"{tmp_path / 'out'} (its disk is full): make room" in said.err
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupt_says_what_was_written(run, tmp_path, monkeypatch):
    """One picture is there, the second is not: that is what is said."""
    real, count = Path.write_bytes, []

    def interrupted(path, content):
        count.append(path)
        if len(count) == 2:
            path.touch()
            raise KeyboardInterrupt
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    code, said = run("a cat", "--images", "2", "--steps", "1", "--seed", "1")
    (written,) = (tmp_path / "out").iterdir()
    assert code == 130 and written.name == "a-cat_1.png"
    assert said.err.splitlines()[-1] == f"sdlearn: stopped; written: {written}."
    monkeypatch.setattr(cli, "make", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    assert "stopped; written: nothing." in run("a cat")[1].err


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")])
def test_full_memory_gets_its_sentence(run, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(cli, "make", full)
    code, said = run("a cat")
    assert code == 2 and "The memory is full: ask for fewer --images" in said.err


@pytest.mark.parametrize("model", ["~nouser", "/dev/null", "a\0b", "https://x.org/a/b", "x" * 5000])
def test_names_that_are_no_models_get_one_sentence(tmp_path, capsys, model):
    assert cli.main(["a cat", "--model", model, "--out", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sdlearn: ") and said.count("\n") == 1


@pytest.mark.parametrize("out", ["/dev/null/x", "a\0b", "x" * 5000])
def test_names_that_are_no_folders_get_one_sentence(capsys, out):
    assert cli.main(["a cat", "--out", out]) == 2
    said = capsys.readouterr().err
    assert "choose another folder with --out" in said and said.count("\n") == 1


def test_errors_leave_no_traceback():
    """The real command, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "sdlearn", "a cat", "--images", "0"], capture_output=True, text=True
    )
    assert (
        done.returncode == 2
        and "Traceback" not in done.stderr
        and "--images must be" in done.stderr
    )


# --------------------------------------------------------------------------------------- the doctor


def levels(check):
    return [f.level for f in check]


def test_doctor_runs_a_whole_model(model_folder):
    (finding,) = doctor.model(model_folder)
    assert finding.level in ("OK", "NOTE") and "ms" in finding.text


def test_doctor_finds_missing_and_damaged_models(model_folder, tmp_path):
    assert levels(doctor.model(tmp_path / "none")) == ["PROBLEM"]
    broken = shutil.copytree(model_folder, tmp_path / "broken")
    weights = next((broken / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    (finding,) = doctor.model(broken)
    assert finding.level == "PROBLEM" and "damaged" in finding.text


def test_doctor_looks_at_the_model_that_is_asked_for(model_folder, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "diagnose", lambda: diagnose((doctor.model,)))
    monkeypatch.setenv("SDLEARN_MODEL", "nobody/nothing")
    assert cli.main(["doctor"]) == 0
    assert "nobody/nothing is not on this machine" in capsys.readouterr().out
    assert cli.main(["doctor", "--model", str(model_folder)]) == 0
    assert f"{model_folder} loads in" in capsys.readouterr().out


def test_doctor_compares_versions(monkeypatch):
    monkeypatch.setattr(
        hub,
        "versions",
        lambda: {
            "torch": hub.TESTED["torch"] + "+cpu",
            "diffusers": "0.1",
            "jupyterlab": "missing",
        },
    )
    assert levels(doctor.libraries()) == ["OK", "NOTE", "PROBLEM"]


def test_doctor_says_when_the_hub_is_not_asked_and_when_it_is_silent(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (finding,) = doctor.hub_answers()
    assert finding.level == "OK" and "not asked" in finding.text
    monkeypatch.delenv("HF_HUB_OFFLINE")
    (finding,) = doctor.hub_answers()  # sockets are blocked in tests
    assert finding.level == "NOTE" and "cannot be reached" in finding.text


def test_doctor_reports_a_check_that_breaks_and_ends_with_1(monkeypatch, capsys):
    def broken():
        raise ImportError("no such library")
        yield

    monkeypatch.setattr(doctor, "diagnose", lambda: diagnose((doctor.python, broken)))
    assert cli.main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert (
        said.startswith("OK")
        and "PROBLEM  broken: ImportError: no such library" in said
        and "1 problem:" in said
    )


diagnose = doctor.diagnose


def test_doctor_ends_with_0_when_all_is_well(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "diagnose", lambda: diagnose((doctor.python, doctor.room)))
    assert cli.main(["doctor"]) == 0
    assert "works here" in capsys.readouterr().out
