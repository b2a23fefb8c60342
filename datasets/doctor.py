"""python -m datasets.doctor STORE, or --images DIR --labels DIR: what is in the data, and what to mend.

Ends with `ok` and exit status 0, or with the list of what to mend and exit status 1.

Examples:
    python -m datasets.doctor packed/camvid --report camvid.html
    python -m datasets.doctor --images photos --labels masks --labelspace classes.json
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.errors import Parser, UserError, exit_on_user_error, number
from datasets.examine import Examination, examine_folders, examine_store
from datasets.files import explained, replacing
from datasets.labels import load_space
from datasets.packing import available_cores
from datasets.page import Html, embedded, escape, figure, page, paragraph, section, table
from datasets.sources.folder import add_pair_arguments, endings, ignored_ids

LISTED = 10  # problems of a kind that are printed
LISTED_IN_REPORT = 50  # the same in the report


def make_parser() -> Parser:
    parser = Parser("python -m datasets.doctor", __doc__)
    parser.add_argument("store", nargs="?", help="a packed store")
    add_pair_arguments(parser, required=False)
    parser.add_argument("--report", help="HTML file to write: classes, pictures over layouts, the worst files")
    parser.add_argument("--workers", type=number(int, at_least=1), help="processes; default all cores")
    parser.set_defaults(workers=available_cores())
    return parser


@exit_on_user_error
def main(argv=None) -> None:
    args = make_parser().parse_args(argv)
    if bool(args.store) == bool(args.images or args.labels) or bool(args.images) != bool(args.labels):
        raise UserError("datasets.doctor: wants either STORE or both --images and --labels; give one of the two")
    if args.store:
        found = examine_store(Path(args.store))
    else:
        space = load_space(args.labelspace) if args.labelspace else None
        palette = args.palette if space else "ids"
        ignored = ignored_ids(args)
        space = space and space.ignoring(ignored, "ignore")
        found = examine_folders(
            Path(args.images),
            Path(args.labels),
            endings(args),
            space,
            palette,
            args.workers,
            ignored,
            args.most_ignored,
        )
    if args.report:
        write_report(Path(args.report), report(found))
    print("\n".join(summary(found)))
    if found.problems:
        sys.exit(1)


def summary(found: Examination) -> list[str]:
    lines = [found.title]
    lines.append("pairs    " + (", ".join(f"{count} {split}" for split, count in found.pairs.items()) or "none"))
    sizes = [f"{width}x{height} ({count})" for (height, width), count in found.sizes.most_common(5)]
    more = f" and {len(found.sizes) - 5} more sizes" if len(found.sizes) > 5 else ""
    lines.append("sizes    " + ", ".join(sizes) + more)
    lines += class_table(found)
    lines += [f"note     {note}" for note in found.notes]
    kinds = list(dict.fromkeys(p.kind for p in found.problems))
    for kind in kinds:
        messages = [p.message for p in found.problems if p.kind == kind]
        lines.append(f"mend     {kind} ({len(messages)})")
        lines += [f"  {message}" for message in messages[:LISTED]]
        if len(messages) > LISTED:
            lines.append(f"  and {len(messages) - LISTED} more")
    lines.append(f"{len(found.problems)} to mend" if found.problems else "ok")
    return lines


def class_table(found: Examination) -> list[str]:
    """One line per class: share of pixels in each split, and how many pairs have it."""
    if not found.pixels:
        return []
    width = max(map(len, found.class_names), default=0)
    lines = ["classes  " + " " * width + "".join(f"{split:>10} {'pairs':>6}" for split in found.pixels)]
    for i, name in enumerate(found.class_names):
        shares = "".join(
            f"{100 * pixels[i] / max(1, pixels.sum()):9.3f}% {found.images_with[split][i]:6}"
            for split, pixels in found.pixels.items()
        )
        lines.append(f"  {i:>5}  {name:<{width}}{shares}")
    return lines


def write_report(path: Path, html: str) -> None:
    if path.is_dir():
        raise UserError(f"--report {path}: a directory; give the name of a file")
    if not path.parent.is_dir():
        raise UserError(f"--report {path}: no folder {path.parent}; make it or choose another file")
    with explained(f"--report {path}", "choose another file"), replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")  # of names that are not UTF-8
    print(f"report: {path}")


# --- The report, one self-contained HTML page ---


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
        items = "".join(f"<li>{escape(message)}</li>" for message in messages[:LISTED_IN_REPORT])
        more = f"<li>and {len(messages) - LISTED_IN_REPORT} more</li>" if len(messages) > LISTED_IN_REPORT else ""
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


if __name__ == "__main__":
    main()
