"""The notebooks' controls as plain HTML: what they show is drawn while Python is there, and a
script of the site moves through it when Python is gone.

`precompute` runs in the notebook's own kernel after its last cell; `freeze` turns the widgets of an
executed notebook into HTML, which `site_assets/site.js` moves.
"""

from __future__ import annotations

import base64
import gc
import html
import io
import itertools
import math
import re
from typing import NamedTuple
from urllib.parse import urlencode

import numpy as np
from PIL import Image

from tools.notebooks import WIDGET

GRIDS = "application/vnd.sdlearn.grids+json"
STATE = "application/vnd.jupyter.widget-state+json"
LIMIT = 40  # pictures a live control leaves on a page
FREE = ("guidance", "steps", "sampler", "seed")  # what the live page takes at any value
RUN_IT = '<a href="#run-it-yourself">Run it yourself</a>'


# ------------------------------------------------------------------------------------ in the kernel


def precompute(limit: int = LIMIT) -> None:
    """Press every button once, and draw each LivePicture at some of its controls' values; the
    pictures leave as one output of the kind GRIDS."""
    from IPython.display import display

    from sdlearn import widgets

    grids = {}
    for control in [
        o
        for o in gc.get_objects()
        if isinstance(o, (widgets.PromptPanel, widgets.MaskCanvas, widgets.LivePicture))
    ]:
        if isinstance(control, widgets.PromptPanel):
            control.generate()
            control.wait()
        elif isinstance(control, widgets.MaskCanvas):
            control.run()
            control.wait()
        else:
            grids[control.model_id] = sweep(control, limit)
    display({GRIDS: grids}, raw=True)


def sweep(control, limit: int) -> dict:
    """The pages of a LivePicture over a grid of at most about ``limit`` places, its present place
    among them."""
    control.packed = True  # these pictures stay
    control.forget()
    axes = [(c, *_places(c)) for c in control.controls.values()]
    axes = [(c, labels, now, values) for c, labels, now, values in axes if len(values) > 1]
    count = [len(values) for *_, values in axes]
    while math.prod(count) > limit:
        count[count.index(max(count))] -= 1
    kept = [
        sorted({round(i * (len(values) - 1) / max(1, n - 1)) for i in range(n)} | {now})
        for n, (_, _, now, values) in zip(count, axes, strict=True)
    ]
    pages = []
    for places in itertools.product(*kept):
        for (c, _, _, values), place in zip(axes, places, strict=True):
            _put(c, values[place])
        pages.append(control.children[-2].value)
    for c, _, now, values in axes:
        _put(c, values[now])
    named = [
        {
            "model": c.model_id,
            "name": c.description,
            "labels": [labels[i] for i in keep],
            "index": keep.index(now),
            "of": len(values),
        }
        for keep, (c, labels, now, values) in zip(kept, axes, strict=True)
    ]
    return {"axes": named, "pages": pages}


def _places(control) -> tuple[list[str], int, list]:
    """What a control can be set to: labels, the place it is at, and the values; a text has one
    place."""
    if hasattr(control, "_options_labels"):
        return list(control._options_labels), control.index, list(range(len(control.options)))
    if not hasattr(control, "step"):
        return [str(control.value)], 0, [control.value]
    n = round((control.max - control.min) / control.step) + 1
    values = [control.min + i * control.step for i in range(n)]
    return (
        [f"{v:.4g}" for v in values],
        min(range(n), key=lambda i: abs(values[i] - control.value)),
        values,
    )


def _put(control, value) -> None:
    setattr(control, "index" if hasattr(control, "_options_labels") else "value", value)


# ----------------------------------------------------------------------------- from widgets to HTML


class Axis(NamedTuple):
    """One control: what it is called, what stands beside each of its positions, where it starts."""

    name: str
    labels: list[str]
    index: int
    buttons: bool = False


def freeze(nb) -> None:
    """Replace, in place, the widget outputs of an executed notebook by HTML; drop the widgets'
    state and the cell that `precompute` ran in."""
    states = {
        key: entry["state"]
        for key, entry in nb.metadata.pop("widgets", {}).get(STATE, {}).get("state", {}).items()
    }
    grids = {}
    for cell in [c for c in nb.cells if c.cell_type == "code"]:
        for output in cell.outputs:
            grids |= output.get("data", {}).get(GRIDS, {})
    nb.cells = [
        c
        for c in nb.cells
        if c.cell_type != "code" or not any(GRIDS in o.get("data", {}) for o in c.outputs)
    ]
    frozen = Frozen(states, grids)
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if WIDGET in output.get("data", {}):
                output.data = {"text/html": frozen.control(output.data[WIDGET]["model_id"])}


class Frozen:
    """The widgets of one notebook by their ids, as they were after the last cell."""

    def __init__(self, states: dict, grids: dict):
        self.states, self.grids = states, grids
        self.driver = {
            self._id(s["target"][0]): self._id(s["source"][0])
            for s in states.values()
            if s["_model_name"] == "LinkModel"
        }

    @staticmethod
    def _id(reference: str) -> str:
        return reference.removeprefix("IPY_MODEL_")

    def _children(self, key: str) -> list[str]:
        return [self._id(child) for child in self.states[key].get("children", [])]

    def _axis(self, key: str) -> Axis:
        state = self.states[key]
        return Axis(
            state["description"],
            list(state["_options_labels"]),
            state["index"],
            state["_model_name"] == "ToggleButtonsModel",
        )

    def control(self, key: str) -> str:
        """A control of the series as HTML; of any other widget, a sentence."""
        if key in self.grids:
            return self._live(key)
        parts, settings, said, live = [], [], "", ""
        for part in self._walk(key):
            state = self.states[part]
            kind = state["_model_name"]
            if kind == "TabModel":
                parts.append(self._deck(part))
            elif kind == "AnyModel" and "bits" in state:
                said = "With Python you draw the mask with the mouse, and type your own sentence"
                parts += _drawn_on(state)
                settings += [("Prompt", state["prompt"])] if state["asks"] else []
            elif kind == "AnyModel":
                said = "With Python you type your own sentence"
                parts += _sampled(state)
                named = ("Prompt", "Seed", "Steps", "Guidance")
                settings += [(name, state[name.lower()]) for name in named]
                live = live_mark({name.lower(): state[name.lower()] for name in named})
            elif (
                kind == "HTMLModel" and "<img" in state["value"] and "<style" not in state["value"]
            ):
                parts.append(f'<div class="sd-picture">{state["value"]}</div>')
        note = f"{said}. {RUN_IT}." if said else ""
        return _box(
            _settings(settings) + "".join(parts),
            (note if parts else f"This control needs Python. {RUN_IT}.") + live,
        )

    def _walk(self, key: str):
        """The parts of a control in the order they are seen; a deck is one part."""
        for child in self._children(key):
            yield child
            if self.states[child]["_model_name"] in ("VBoxModel", "HBoxModel", "BoxModel"):
                yield from self._walk(child)

    def _deck(self, key: str) -> str:
        """A deck of pictures, or of decks, and the sliders that drive it."""
        axes, pages = [self._axis(self.driver[key])], self._children(key)
        if self.states[pages[0]]["_model_name"] == "TabModel":
            axes.append(self._axis(self.driver[pages[0]]))
            pages = [page for row in pages for page in self._children(row)]
        free = any(axis.name.lower() in FREE for axis in axes)
        shown = _scrubber(axes, [self.states[page]["value"] for page in pages])
        return shown + (f'<p class="sd-note">{live_mark({})}</p>' if free else "")

    def _live(self, key: str) -> str:
        grid = self.grids[key]
        axes = [
            Axis(
                a["name"],
                a["labels"],
                a["index"],
                self.states[a["model"]]["_model_name"] == "ToggleButtonsModel",
            )
            for a in grid["axes"]
        ]
        fixed = [
            (s["description"], s["value"])
            for s in map(self.states.get, self._children(key))
            if s["_model_name"] == "TextModel"
        ]
        every = math.prod(a["of"] for a in grid["axes"])
        if fixed:
            note = f"With Python you type your own. {RUN_IT}."
        elif every > len(grid["pages"]):
            note = (
                f"Here: {len(grid['pages'])} of this control's {every} positions, drawn "
                f"beforehand. With Python it draws any of them. {RUN_IT}."
            )
        else:
            note = ""
        return _box(_settings(fixed) + _scrubber(axes, grid["pages"]), note)


def live_mark(settings: dict) -> str:
    """Where a page may lead to the live page with these settings; web_model turns it into a link
    when there is one."""
    return f"<!-- live {urlencode(settings)} -->"


def _img(shown: dict, size: int) -> str:
    alt = html.escape(shown["alt"], quote=True)
    return f'<img alt="{alt}" width="{size}" src="{shown["src"]}">'


def _sampled(state: dict) -> list[str]:
    """A PromptPanel: the steps of its last picture, or the picture it shows."""
    frames, size = state["frames"], state["size"]
    if not frames.get("srcs"):
        return [f'<div class="sd-picture">{_img(state["shown"], size)}</div>']
    pairs = zip(frames["srcs"], frames["alts"], strict=True)
    pages = [_img({"src": src, "alt": alt}, size) for src, alt in pairs]
    return [_scrubber([Axis("Step", frames["labels"], len(pages) - 1)], pages)]


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _drawn_on(state: dict) -> list[str]:
    """A MaskCanvas: the picture under its mask, and what was painted."""
    bits = np.array([bit == "1" for bit in state["bits"]]).reshape(state["rows"], state["columns"])
    light = np.where(np.add.outer(*map(np.arange, bits.shape)) % 2, 255, 30).astype(np.uint8)
    veil = Image.fromarray(np.dstack([light] * 3 + [np.uint8(185) * bits]))
    echo = f'<img class="sd-mask-echo" alt="" src="{_png(veil)}">'
    under = f'<div class="sd-picture sd-mask-stage">{_img(state, state["size"])}{echo}</div>'
    if not state["result"]:
        return [under]
    return [under, f'<div class="sd-picture">{_img(state["result"], state["size"])}</div>']


def _settings(pairs) -> str:
    """Names and values of what only Python can change."""
    rows = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(str(value))}</dd></div>"
        for name, value in pairs
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _box(inside: str, note: str) -> str:
    return (
        f'<div class="sd-control">{inside}'
        + (f'<p class="sd-note">{note}</p>' if note else "")
        + "</div>"
    )


def _scrubber(axes: list[Axis], pages: list[str]) -> str:
    """Native inputs and all pictures, of which one is seen. The last axis runs fastest."""
    at = 0
    for axis in axes:
        at = at * len(axis.labels) + axis.index
    shown = [re.sub(r"</?figure>", "", page) for page in pages]
    shown = [
        re.sub("<img", "<img" if i == at else "<img hidden", page, count=1)
        for i, page in enumerate(shown)
    ]
    return (
        f'<div class="sd-scrubber">{"".join(map(_input, axes))}<div '
        f'class="sd-frames">{"".join(shown)}</div></div>'
    )


def _input(axis: Axis) -> str:
    """A slider, or a group of radio buttons; ids are given where the page is known."""
    name, size, labels = (
        html.escape(axis.name),
        len(axis.labels),
        [html.escape(label) for label in axis.labels],
    )
    if axis.buttons:
        radios = "".join(
            '<label><input type="radio" name="ID" '
            f'value="{i}"{" checked" if i == axis.index else ""}><span>{label}</span></label>'
            for i, label in enumerate(labels)
        )
        return (
            '<fieldset class="sd-axis" '
            f'data-size="{size}"><legend>{name}</legend>{radios}</fieldset>'
        )
    hidden = " hidden" if size < 2 else ""
    marks = "".join(
        f'<option value="{i}" label="{label}"></option>' for i, label in enumerate(labels)
    )
    return (
        f'<div class="sd-axis" data-size="{size}"{hidden}><label for="ID">{name}</label>'
        f'<input type="range" id="ID" min="0" max="{size - 1}" value="{axis.index}" '
        f'aria-valuetext="{labels[axis.index]}" autocomplete="off">'
        '<output for="ID" '
        f'aria-live="off">{labels[axis.index]}</output><datalist>{marks}</datalist></div>'
    )
