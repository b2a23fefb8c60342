"""The doctor's findings as one self-contained HTML page."""

import base64
import html
import io

import numpy as np
from PIL import Image

from datasets.examine import Examination

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222; }
h1 { font-size: 1.35rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2.2rem; }
table { border-collapse: collapse; width: 100%; } td, th { padding: .1rem .6rem .1rem 0; text-align: left; }
th { font-weight: 500; color: #666; } .number { text-align: right; font-variant-numeric: tabular-nums; }
td.bar { width: 45%; } .bar div { height: .8rem; border-radius: 2px; outline: 1px solid #0003; outline-offset: -1px; }
.swatch { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; outline: 1px solid #0003; }
.sheet { display: flex; flex-wrap: wrap; gap: .8rem; } figure { margin: 0; max-width: 100%; }
figure img { display: block; max-width: 100%; } figcaption { font-size: .75rem; color: #666; overflow-wrap: anywhere; }
.ok { color: #17703a; } .mend { color: #a3261b; } li { overflow-wrap: anywhere; }
"""


def page(found: Examination) -> str:
    verdict = "<strong class=ok>ok</strong>"
    if found.problems:
        verdict = f"<strong class=mend>{len(found.problems)} to mend</strong>"
    pairs = ", ".join(f"{count} {split}" for split, count in found.pairs.items()) or "none"
    sizes = ", ".join(f"{width}x{height} ({count})" for (height, width), count in found.sizes.most_common(8))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>{html.escape(found.title)}</title><style>{STYLE}</style>",
        f"<h1>{html.escape(found.title)}</h1>",
        f"<p>{verdict} · pairs: {pairs} · sizes: {sizes}</p>",
        *[f"<p>{html.escape(note)}</p>" for note in found.notes],
        *_problems(found),
        *_offenders(found),
        *_classes(found),
        *_sheet(found),
    ]
    return "\n".join(parts) + "\n"


def _problems(found: Examination):
    for kind in dict.fromkeys(p.kind for p in found.problems):
        messages = [p.message for p in found.problems if p.kind == kind]
        yield f"<h2 class=mend>To mend: {kind} ({len(messages)})</h2><ul>"
        yield from (f"<li>{html.escape(message)}</li>" for message in messages[:50])
        yield f"<li>and {len(messages) - 50} more</li></ul>" if len(messages) > 50 else "</ul>"


def _offenders(found: Examination):
    if found.offenders:
        yield "<h2>Worst labels: pixels outside the table in magenta</h2><div class=sheet>"
        for name, picture in found.offenders:
            yield f"<figure>{_picture(picture, 'PNG')}<figcaption>{html.escape(name)}</figcaption></figure>"
        yield "</div>"


def _classes(found: Examination):
    """A bar chart: of each class its share of pixels; bars are scaled by the square root, or rare classes vanish."""
    for split, pixels in found.pixels.items():
        shares = pixels / max(1, pixels.sum())
        yield f"<h2>Classes in {html.escape(split)} (bars: square root of the share of pixels)</h2><table>"
        yield "<tr><th class=number>id<th>class<th>share of pixels<th><th class=number>pairs that have it"
        for i in np.argsort(-shares, kind="stable"):
            colour = "rgb({},{},{})".format(*found.colours[i])
            width = 100 * np.sqrt(shares[i] / max(shares.max(), 1e-12))
            yield (
                f"<tr><td class=number>{i}<td><span class=swatch style='background:{colour}'></span> "
                f"{html.escape(found.class_names[i])}<td class=bar>"
                f"<div style='width:{width:.2f}%;background:{colour}'></div>"
                f"<td class=number>{100 * shares[i]:.3f}%<td class=number>{found.images_with[split][i]}"
            )
        yield "</table>"


def _sheet(found: Examination):
    if found.sheet:
        yield "<h2>Images over their layouts</h2><div class=sheet>"
        for name, image, layout in found.sheet:
            pictures = _picture(image, "JPEG") + _picture(layout, "PNG")
            yield f"<figure>{pictures}<figcaption>{html.escape(name)}</figcaption></figure>"
        yield "</div>"


def _picture(array: np.ndarray, kind: str) -> str:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, quality=88)
    return f"<img alt='' src='data:image/{kind.lower()};base64,{base64.b64encode(file.getvalue()).decode()}'>"
