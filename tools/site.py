"""The series as static pages: ``python run.py site [NAME ...] [--no-execute] [--out FOLDER]
[--repository ADDRESS]``.

Executes the notebooks (or those named; the others, and all with ``--no-execute``, are shown as they
were committed, without their controls), turns them, the README, the pages of docs/ and every file
they link to into pages with Sphinx, and checks what came out: no dead link, nothing from another
server, no page over 5 MB. What was executed is kept in ``.site-cache`` until the notebook or the
package changes. The folder can be opened from a disk, and published anywhere.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import io
import os
import posixpath
import re
import shutil
import sys
import tempfile
import time
import unicodedata
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools import site_controls, web_model
from tools.notebooks import ROOT, clean

ASSETS = Path(__file__).parent / "site_assets"
MAX_MB = 5
LINK = re.compile(r"(```.*?```|`[^`\n]*`)|(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)", re.S)
LANGUAGES = {".py": "python", ".toml": "toml", ".json": "json", ".js": "javascript", ".sh": "bash"}


# ---------------------------------------------------------------------------------------- notebooks


def executed(path: Path, cache: Path):
    """A notebook with all outputs and with controls that need no Python, from the cache if nothing
    it stands on has changed."""
    import nbformat
    from nbclient import NotebookClient

    nb = nbformat.read(path, as_version=4)
    digest = hashlib.sha256("\0".join(c.source for c in nb.cells).encode())
    for file in [
        Path(site_controls.__file__),
        *sorted(
            p
            for p in (ROOT / "sdlearn").rglob("*")
            if p.suffix in (".py", ".js", ".json", ".safetensors")
        ),
    ]:
        if "training" not in file.parts:
            digest.update(file.read_bytes())
    kept = cache / f"{path.stem}-{digest.hexdigest()[:20]}.ipynb"
    if not kept.exists():
        again = (
            f"import sys\nsys.path.append({str(ROOT)!r})\nfrom tools.site_controls import "
            "precompute\nprecompute()"
        )
        nb.cells.append(nbformat.v4.new_code_cell(again))
        NotebookClient(
            nb,
            timeout=1800,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
            record_timing=False,
            coalesce_streams=True,
        ).execute()
        site_controls.freeze(nb)
        clean(nb)
        cache.mkdir(parents=True, exist_ok=True)
        for old in cache.glob(f"{path.stem}-*.ipynb"):
            old.unlink()
        nbformat.write(nb, kept)
    return nbformat.read(kept, as_version=4)


class Media:
    """Pictures of a page as files beside it, each stored once, as WebP where that is smaller."""

    def __init__(self, folder: Path, name: str):
        self.folder, self.name = folder / "media" / name, name

    def add(self, data: bytes) -> tuple[str, int, int]:
        """The address seen from the page, width and height."""
        from PIL import Image

        image = Image.open(io.BytesIO(data))
        kind = image.format.lower()
        if kind == "png":
            packed = io.BytesIO()
            image.save(packed, "WEBP", lossless=True, method=4)
            if len(packed.getvalue()) > 30_000:  # a figure full of noise
                rough = io.BytesIO()
                image.convert("RGB").save(rough, "WEBP", quality=88, method=4)
                packed = min(packed, rough, key=lambda b: len(b.getvalue()))
            if len(packed.getvalue()) < len(data):
                data, kind = packed.getvalue(), "webp"
        file = self.folder / f"{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return f"media/{self.name}/{file.name}", *image.size

    def extract(self, text: str) -> str:
        """HTML with the pictures it holds moved into files."""
        return re.sub(
            r'src="data:image/[a-z]+;base64,([^"]+)"',
            lambda m: f'src="{self.add(base64.b64decode(m[1]))[0]}" loading="lazy" decoding="sync"',
            text,
        )


def shown(output, media: Media) -> str:
    """One output of a cell as HTML."""
    if output.output_type == "stream":
        return f"<pre>{html.escape(output.text.rstrip())}</pre>"
    if output.output_type == "error":
        return f"<pre>{html.escape(f'{output.ename}: {output.evalue}')}</pre>"
    data = output.data
    if "image/png" in data:
        meta = output.metadata.get("image/png", {})
        address, width, height = media.add(base64.b64decode(data["image/png"]))
        height, width = (
            (round(height * meta["width"] / width), meta["width"])
            if "width" in meta
            else (height, width)
        )
        alt = html.escape(meta.get("alt") or data.get("text/plain", ""), quote=True)
        return f'<img src="{address}" alt="{alt}" width="{width}" height="{height}" loading="lazy">'
    if "text/html" in data:
        return media.extract(data["text/html"])
    return f"<pre>{html.escape(data.get('text/plain', ''))}</pre>"


def raw(text: str) -> str:
    return f"````{{raw}} html\n{text}\n````\n"


# By hand and not by myst-nb: that takes alt text from a cell's metadata only, where ours is written
# while the cell runs, and fetches what moves controls from another server.
def lesson(nb, path: str, media: Media, repository: str | None) -> str:
    """A notebook as Markdown for Sphinx. The theme has its own previous and next, so the notebook's
    line of links is left out."""
    pieces, ids = [], iter(range(10**6))
    for index, cell in enumerate(nb.cells):
        if cell.cell_type == "markdown":
            lines = [
                line
                for line in cell.source.splitlines()
                if not re.match(r"(\[< prev|\[contents\]\()", line)
            ]
            pieces.append("\n".join(lines))
        elif cell.cell_type == "code" and cell.source.strip():
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", cell.source)), default=0))
            pieces.append(f"{fence}ipython3\n{cell.source}\n{fence}")
            outputs = [shown(output, media) for output in cell.outputs]
            if not any("sd-control" in o for o in outputs) and re.search(
                r"widgets\.(?!setup)[A-Z]\w+\(", cell.source
            ):
                outputs.append(
                    '<div class="sd-control"><p class="sd-note">Here the notebook shows a '
                    f"control. {site_controls.RUN_IT}.</p></div>"
                )
            if any(outputs):
                text = re.sub(
                    r'<(div|fieldset) class="sd-axis".*?</\1>',
                    lambda m: m[0].replace('"ID"', f'"control-{next(ids)}"'),
                    "\n".join(outputs),
                    flags=re.S,
                )
                pieces.append(raw(f'<div class="sd-out">{text}</div>'))
        if index == 0:
            pieces.append(run_it_yourself(path, repository))
    return "\n\n".join(pieces)


def run_it_yourself(path: str, repository: str | None) -> str:
    """The box each page has: how to get from reading to running."""
    notebook = path if path.endswith(".ipynb") else ""
    lines = [f"git clone {repository} sdlearn && cd sdlearn"] if repository else []
    lines += [
        f"python run.py lab {notebook}".strip(),
        'python -m sdlearn "a red house in the snow at night"',
    ][: 1 if notebook and repository else 2]
    where = (
        f'This page is the notebook <a href="{posixpath.basename(notebook)}" '
        f"download><code>{notebook}</code></a>. "
        if notebook
        else ""
    )
    got = "" if repository else "In a copy of the repository: "
    return raw(
        '<aside class="sd-run" id="run-it-yourself" aria-label="Run it '
        f'yourself"><p><strong>Run it yourself.</strong> {where}It needs Python 3.11 to '
        "3.14 and two CPU cores; "
        "the first start installs what is missing, later ones need no network. "
        f"{got}</p><pre>{html.escape(chr(10).join(lines))}</pre></aside>"
    )


# -------------------------------------------------------------------------------------------- pages


class Source:
    """Everything that becomes a page, found by following links from the README, the notebooks and
    docs/."""

    def __init__(
        self, root: Path, folder: Path, extra: Path, notebooks: dict, repository: str | None
    ):
        self.root, self.folder, self.extra, self.notebooks, self.repository = (
            root,
            folder,
            extra,
            notebooks,
            repository,
        )
        self.done: set[str] = set()
        chapters = [
            p.relative_to(root).as_posix() for p in sorted((root / "notebooks").glob("*.ipynb"))
        ]
        docs = [p.relative_to(root).as_posix() for p in sorted((root / "docs").glob("*.md"))]
        self.listed = {"README.md", *chapters, *docs}
        self.waiting = ["README.md", *chapters, *docs]
        contents = [self.toctree("Chapters", chapters), self.toctree("Beside the chapters", docs)]
        while self.waiting:
            path = self.waiting.pop(0)
            if path not in self.done:
                self.done.add(path)
                text = self.page(path)
                if path == "README.md":
                    text += "\n\n" + "\n".join(contents)
                elif path not in self.listed:
                    text = f"---\norphan: true\n---\n\n{text}"
                file = folder / f"{docname(root, path)}.md"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")

    def toctree(self, caption: str, paths: list[str]) -> str:
        names = "\n".join(docname(self.root, path) for path in paths)
        return (
            f"```{{toctree}}\n:hidden:\n:caption: {caption}\n:maxdepth: 1\n\n{names}\n```\n"
            if names
            else ""
        )

    def page(self, path: str) -> str:
        file = self.root / path
        if file.is_dir():
            inside = sorted(p.name for p in file.iterdir() if p.suffix in (".py", ".md", ".ipynb"))
            return self.links(
                f"# {path}\n\n" + "\n".join(f"- [{name}]({name})" for name in inside), path
            )
        here = posixpath.dirname(path)
        if file.suffix == ".ipynb":
            import nbformat

            nb = self.notebooks.get(path) or nbformat.read(file, as_version=4)
            copy = self.extra / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            return self.links(
                lesson(nb, path, Media(self.extra / here, file.stem), self.repository), here
            )
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".md":
            return self.links(text, here) + "\n\n" + run_it_yourself(path, self.repository)
        return (
            f"# {path}\n\n``````{LANGUAGES.get(file.suffix, 'text')}\n{text}\n``````\n\n"
            + run_it_yourself(path, self.repository)
        )

    def links(self, text: str, here: str) -> str:
        """Markdown with its links leading to pages; whatever they lead to becomes one."""

        def turn(match):
            code, picture, label, target = match.groups()
            if code or re.match(r"[a-z]+:|#", target):
                return match[0]
            target, _, anchor = target.partition("#")
            path = posixpath.normpath(posixpath.join(here, unquote(target)))
            if path.startswith("..") or not (self.root / path).exists():
                return match[0]  # Sphinx will say that it leads nowhere
            if picture:
                copy = self.folder / path
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.root / path, copy)
                return match[0]
            if (self.root / path).is_dir() and (self.root / path / "README.md").exists():
                path += "/README.md"
            self.waiting.append(path)
            return f"[{label}](/{docname(self.root, path)}.md{'#' * bool(anchor)}{anchor})"

        return LINK.sub(turn, text)


def docname(root: Path, path: str) -> str:
    """The page of a path of the repository, as Sphinx names it."""
    if path == "README.md":
        return "contents"  # the first page is the live one, where it can be built
    if (root / path).is_dir():
        return f"{path}/index"
    return re.sub(r"\.(md|ipynb)$", "", path)


# ------------------------------------------------------------------------------------------- Sphinx


def mathml(tex: str, block: bool) -> str:
    """A formula as MathML, which browsers draw by themselves; with the letters for what MathML Core
    has no attribute for."""
    from latex2mathml.converter import convert

    for known, said in (
        ("\\arg", r"\operatorname{arg}"),
        (r"\big\lVert", "\\big\u2016"),
        (r"\big\rVert", "\\big\u2016"),
    ):  # spellings the converter lacks
        tex = tex.replace(known, said)
    text = convert(
        tex.replace(r"\_", "_") if r"\texttt" in tex else tex,
        display="block" if block else "inline",
    )

    def letter(match):
        kind = "CAPITAL" if match[2].isupper() else "SMALL"
        for name in (
            f"MATHEMATICAL {match[1].upper()} {kind} {match[2].upper()}",
            f"{match[1].upper()} {kind} {match[2].upper()}",
        ):
            try:
                return f"<mi>{unicodedata.lookup(name)}</mi>"
            except KeyError:
                pass
        return match[0]

    text = re.sub(r'<mi mathvariant="(script|double-struck)">(\w)</mi>', letter, text)
    text = re.sub(
        r'(?:<mi mathvariant="normal">\w</mi>){2,}',
        lambda m: f"<mi>{re.sub('<[^>]*>', '', m[0])}</mi>",
        text,
    )
    return text.replace('width="negativethinmathspace"', 'width="-0.167em"')


def setup(app):
    """Sphinx calls this: formulas become MathML while the pages are written."""
    from docutils.nodes import SkipNode
    from sphinx.util import logging

    def drawn(node, block):
        text = mathml(node.astext(), block)
        if "\\" in text or "linebreak" in text:
            logging.getLogger(__name__).warning(
                "not a formula that can be drawn: %s", node.astext(), location=node
            )
        return text

    def inline(self, node):
        self.body.append(drawn(node, False))
        raise SkipNode

    def block(self, node):
        self.body.append(f'<div class="math block">{drawn(node, True)}</div>')
        raise SkipNode

    def levels(app, pagename, templatename, context, doctree):
        """Sphinx calls the captions of the contents headings and does not say of which level."""
        if "furo_navigation_tree" in context:
            context["furo_navigation_tree"] = context["furo_navigation_tree"].replace(
                'role="heading"', 'role="heading" aria-level="2"'
            )

    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("html-page-context", levels, priority=900)  # after the theme has made the contents
    return {"parallel_read_safe": True}


def settings(extra: Path) -> dict:
    import sdlearn

    return {
        "project": "sdlearn",
        "root_doc": "contents",
        "version": sdlearn.__version__,
        "language": "en",
        "extensions": ["myst_parser", "tools.site"],
        "myst_enable_extensions": ["dollarmath"],
        "myst_heading_anchors": 3,
        "smartquotes": False,
        "suppress_warnings": ["myst.header"],
        "html_theme": "furo",
        "html_title": "sdlearn",
        "html_math_renderer": "mathml",
        "html_static_path": [str(ASSETS)],
        "html_css_files": ["site.css"],
        "html_js_files": ["site.js"],
        "html_extra_path": [str(extra)],
        "html_copy_source": False,
        "html_show_sourcelink": False,
        "html_use_index": False,
        "html_domain_indices": False,
        "html_permalinks_icon": "#",
        "pygments_style": "a11y-high-contrast-light",
        "pygments_dark_style": "a11y-high-contrast-dark",
    }


def build(
    out: Path, notebooks: dict, root: Path = ROOT, repository: str | None = None
) -> list[str]:
    """Write the pages into ``out``, in place of what stands there; ``notebooks`` are the executed
    ones by their path. What was wrong, if anything."""
    from sphinx.application import Sphinx
    from sphinx.util.docutils import docutils_namespace

    if out.exists() and any(out.iterdir()) and not (out / "searchindex.js").exists():
        raise ValueError(
            f"{out} holds something else than a site made by this command: name another folder "
            "with --out."
        )
    warnings = io.StringIO()
    with tempfile.TemporaryDirectory(prefix="sdlearn-site-") as temporary:
        folder, extra, made = (Path(temporary, name) for name in ("source", "extra", "made"))
        folder.mkdir()
        extra.mkdir()
        (extra / ".nojekyll").touch()  # or GitHub Pages leaves out folders that begin with _
        Source(root, folder, extra, notebooks, repository)
        (folder / "conf.py").write_text(
            "".join(f"{name} = {value!r}\n" for name, value in settings(extra).items()),
            encoding="utf-8",
        )
        with docutils_namespace():
            Sphinx(
                str(folder),
                str(folder),
                str(made),
                f"{temporary}/trees",
                "html",
                status=None,
                warning=warnings,
            ).build()
        if out.exists():
            shutil.rmtree(out)
        shutil.copytree(made, out)
        shutil.copyfile(out / "contents.html", out / "index.html")  # until the live page takes it
        said = warnings.getvalue().replace(str(folder) + os.sep, "")
    return [line for line in said.splitlines() if line.strip()] + check(out)


# ---------------------------------------------------------------------------------------- the check


class Page(HTMLParser):
    """What a page asks for and what can be asked of it."""

    def __init__(self, file: Path):
        super().__init__()
        self.links, self.loads, self.ids, self.nameless = [], [], set(), []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if attrs.get("id"):
            self.ids.add(attrs["id"])
        if tag == "a" and attrs.get("href"):
            self.links.append(attrs["href"])
        if tag in ("img", "script", "iframe", "source", "video", "audio") and attrs.get("src"):
            self.loads.append(attrs["src"])
        if (
            tag == "link"
            and attrs.get("href")
            and attrs.get("rel")
            in ("stylesheet", "icon", "preload", "preconnect", "dns-prefetch", "shortcut icon")
        ):
            self.loads.append(attrs["href"])
        if (
            tag == "img"
            and not attrs.get("alt")
            and "sd-mask-echo" not in (attrs.get("class") or "")
        ):
            self.nameless.append(attrs.get("src"))


def check(folder: Path) -> list[str]:
    """Dead links, pictures without alt text, anything loaded from another server, and pages over 5
    MB with all they load. Empty if all is well."""
    files = {
        file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.is_file()
    }
    pages = {name: Page(file) for name, file in files.items() if name.endswith(".html")}
    found = []
    for name, page in pages.items():
        found += [f"{name}: a picture without alt text: {src}" for src in page.nameless]
        loaded = {name}
        for address in page.links + page.loads:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if address in page.loads and parts.scheme != "data":
                    found.append(f"{name}: loads {address} from another server")
                continue
            target = (
                posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(parts.path)))
                if parts.path
                else name
            )
            if target not in files:
                found.append(f"{name}: a link to nowhere: {address}")
            elif address in page.loads:
                loaded.add(target)
            elif (
                parts.fragment
                and "=" not in parts.fragment  # settings for the live page, not a place on it
                and target in pages
                and unquote(parts.fragment) not in pages[target].ids
            ):
                found.append(f"{name}: no such place: {address}")
        if (size := sum(files[f].stat().st_size for f in loaded) / 1e6) > MAX_MB:
            found.append(f"{name}: {size:.1f} MB with its pictures, more than {MAX_MB}")
    for name, file in files.items():
        if name.endswith(".css"):
            found += [
                f"{name}: loads {m}"
                for m in re.findall(
                    r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)",
                    file.read_text(encoding="utf-8"),
                )
            ]
    return found


def weights(folder: Path) -> dict[str, float]:
    """MB of each page with the pictures it shows."""
    return {
        p.relative_to(folder).as_posix(): (
            p.stat().st_size
            + sum(
                (p.parent / unquote(s)).stat().st_size
                for s in set(Page(p).loads)
                if not urlsplit(s).query
            )
        )
        / 1e6
        for p in sorted(folder.rglob("*.html"))
    }


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python run.py site", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "names",
        nargs="*",
        help="execute only the notebooks whose names begin so: 00 02; the others are shown as "
        "committed",
    )
    parser.add_argument(
        "--no-execute",
        action="store_true",
        help="show all notebooks as committed, without controls: seconds instead of minutes",
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "site", help="the folder to write, site/ unless told"
    )
    hosted = os.environ.get("GITHUB_REPOSITORY")  # set where GitHub builds
    parser.add_argument(
        "--repository",
        default=f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{hosted}"
        if hosted
        else None,
        help="what readers clone",
    )
    options = parser.parse_args(argv)
    os.environ.pop("SDLEARN_MODEL", None)  # the pages show Tiny SD
    began, notebooks = time.perf_counter(), {}
    for path in [] if options.no_execute else sorted((ROOT / "notebooks").glob("*.ipynb")):
        if not options.names or path.name.startswith(tuple(options.names)):
            start = time.perf_counter()
            notebooks[path.relative_to(ROOT).as_posix()] = executed(path, ROOT / ".site-cache")
            print(f"{path.name:32} {time.perf_counter() - start:6.1f} s", flush=True)
    wrong = build(options.out, notebooks, repository=options.repository)
    wrong += web_model.add_to_site(options.out)
    wrong = [*dict.fromkeys(wrong + check(options.out))]  # once more: now with the live page
    for name, size in weights(options.out).items():
        if name.startswith("notebooks/") and "solutions" not in name:
            print(f"{name:42} {size:5.2f} MB")
    print(
        f"{options.out / 'index.html'}, "
        f"{sum(f.stat().st_size for f in options.out.rglob('*') if f.is_file()) / 1e6:.0f} "
        f"MB in all, {time.perf_counter() - began:.0f} s"
    )
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
