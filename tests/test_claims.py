"""Sentences about these weights: each stands in its chapter and names what proves it.

The numbers themselves are judged where the chapter is run: tests/browser/test_chapters.py. Here:
every claim is well made, measured files bear theirs out, and exchanged data refute them.
"""

import json
import re
import shutil

import claims
import lesson
import pytest
from claims import Claim

from sdlearn import hub

EVERY = [claim for chapter in claims.chapters() for claim in claims.of(chapter)]
MEASURED = [claim for claim in EVERY if claim.measured]


@pytest.mark.parametrize("claim", EVERY, ids=lambda claim: claim.name)
def test_claim_is_a_sentence_of_its_chapter_and_names_a_cell(claim):
    cells = claims.notebook(claim.name)["cells"]
    prose = (claims.plain("".join(c["source"])) for c in cells if c["cell_type"] == "markdown")
    said = claims.plain(claim.sentence)
    assert any(said in text for text in prose), f"the chapter no longer says “{said}”"
    assert len(said.split()) >= 4 and re.fullmatch(r"\d\d\.\w+", claim.name)
    ids = {c.get("id") for c in cells if c["cell_type"] == "code"}
    assert not claim.cell or claim.cell in ids, f"the chapter has no cell {claim.cell!r}"
    if claim.value:
        compile(claim.value, claim.name, "eval")


def test_names_are_unique():
    names = [claim.name for claim in EVERY]
    assert len(names) == len(set(names))
    assert all(c.name.startswith(ch) for ch in claims.chapters() for c in claims.of(ch))


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.name)
def test_measured_files_bear_it_out(claim):
    assert claim.verdict(claims.measured(claim, hub.TINY_SD)) is None


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.name)
def test_exchanged_measurements_refute_it(claim, tmp_path):
    """With the measured number put out of its bounds, in a copy of the file."""
    name, *keys, last = claim.measured.split("/")
    shutil.copy(hub.TINY_SD / name, tmp_path)
    whole = json.loads((tmp_path / name).read_text(encoding="utf-8"))
    place = whole
    for key in keys:
        place = place[key]
    good, verdicts = place[last], []
    for other in (-good - 1, 0, 10 * good + 1):
        place[last] = other
        (tmp_path / name).write_text(json.dumps(whole), encoding="utf-8")
        verdicts.append(claim.verdict(claims.measured(claim, tmp_path)))
    assert any(verdicts)


# ------------------------------------------------------------------------------------ the mechanism


def claim(**changes) -> Claim:
    made = dict(name="00.blue", sentence="The sky is blue by day", cell="c1", value="x", low=3)
    return Claim(**made | changes)


@pytest.mark.parametrize(
    ("number", "word"),
    [
        (3, None),
        (7.5, None),
        (2.9, "2.9, not within 3 to 9; the chapter says: “The sky is blue by day”"),
        (9.1, "9.1, not within"),
        (float("nan"), "nan, not within"),
        ("NameError: x", "NameError: x, not within"),
        (None, "not found, not within"),
    ],
)
def test_verdict(number, word):
    said = claim(high=9).verdict(number)
    assert said is None if word is None else word in said


@pytest.mark.parametrize(
    "wrong",
    [dict(value=""), dict(printed="1"), dict(cell=""), dict(low=-float("inf")), dict(measured="f")],
)
def test_claim_that_proves_nothing_is_refused(wrong):
    with pytest.raises(ValueError, match=r"00\.blue: "):
        claim(**wrong)


@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_values_are_taken_right_after_their_cell(tmp_path):
    """A name that a later cell overwrites counts as it stood; what is printed counts too; a claim
    whose expression fails is refuted, and so is one whose cell is gone."""
    from test_notebooks import probe

    path = probe(
        tmp_path,
        ("import numpy as np\nx = np.array([4.0])", ""),
        ("x = 1\nprint('right: 1,204 of 1,300')", ""),
    )
    wanted = [
        claim(name="00.early"),
        claim(name="00.late", cell="c2"),
        claim(name="00.sum", cell="c2", value="sum(x for _ in range(5))"),
        claim(name="00.yes", value="x[0] == 4", low=1),
        claim(name="00.printed", cell="c2", value="", printed=r"right: ([\d,]+)", low=1204),
        claim(name="00.silent", cell="c2", value="", printed=r"wrong: (\d+)"),
        claim(name="00.unknown", value="y"),
        claim(name="00.gone", cell="c9"),
    ]
    ran = lesson.headless(path, tmp_path, wanted)
    found = lesson.refuted(ran, wanted)
    assert [re.match(r"claim 00\.(\w+)", said)[1] for said in found] == [
        "late",
        "silent",
        "unknown",
        "gone",
    ]
    assert "NameError" in found[2] and all("The sky is blue by day" in said for said in found)
    assert lesson.faults(path, ran, wanted) == found
