"""The doctor's findings as one self-contained HTML page."""

import numpy as np
from PIL import Image

from datasets.examine import Examination
from datasets.page import Html, embedded, escape, figure, page, paragraph, section, table

LISTED = 50  # problems of a kind


def report(found: Examination) -> str:
    verdict = "<strong class=ok>ok</strong>"
    if found.problems:
        verdict = f"<strong class=mend>{len(found.problems)} to mend</strong>"
    pairs = ", ".join(f"{count} {split}" for split, count in found.pairs.items()) or "none"
    sizes = ", ".join(f"{width}x{height} ({count})" for (height, width), count in found.sizes.most_common(8))
    sections = [paragraph(Html(f"{verdict} · pairs: {escape(pairs)} · sizes: {sizes}")), *map(paragraph, found.notes)]
    sections += problems(found)
    if found.offenders:
        figures = [figure(name, embedded(Image.fromarray(marked), "PNG")) for name, marked in found.offenders]
        sections.append(small_pictures("Worst labels: pixels outside the table in magenta", figures))
    sections += classes(found)
    if found.sheet:
        sections.append(small_pictures("Images over their layouts", [over_layout(*row) for row in found.sheet]))
    return page(found.title, sections)


def problems(found: Examination):
    for kind in dict.fromkeys(p.kind for p in found.problems):
        messages = [p.message for p in found.problems if p.kind == kind]
        items = "".join(f"<li>{escape(message)}</li>" for message in messages[:LISTED])
        more = f"<li>and {len(messages) - LISTED} more</li>" if len(messages) > LISTED else ""
        yield section(f"To mend: {kind} ({len(messages)})", f"<ul>{items}{more}</ul>")


def classes(found: Examination):
    """A bar chart: of each class its share of pixels; bars are scaled by the square root, or rare classes vanish."""
    for split, pixels in found.pixels.items():
        shares = pixels / max(1, pixels.sum())
        rows = []
        for i in np.argsort(-shares, kind="stable"):
            colour = "rgb({},{},{})".format(*found.colours[i])
            width = 100 * np.sqrt(shares[i] / max(shares.max(), 1e-12))
            name = f"<span class=swatch style='background:{colour}'></span> {escape(found.class_names[i])}"
            bar = f"<div class=bar><div style='width:{width:.2f}%;background:{colour}'></div></div>"
            rows.append([Html(name), i, Html(bar), f"{100 * shares[i]:.3f}%", found.images_with[split][i]])
        columns = ["class", "id", "", "share of pixels", "pairs that have it"]
        yield section(f"Classes in {split} (bars: square root of the share of pixels)", table(columns, rows))


def small_pictures(title: str, figures: list[str]) -> str:
    return section(title, "<div class=small>", *figures, "</div>")


def over_layout(name: str, image: np.ndarray, layout: np.ndarray) -> str:
    return figure(name, embedded(Image.fromarray(image), "JPEG"), embedded(Image.fromarray(layout), "PNG"))
