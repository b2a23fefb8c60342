"""python -m datasets.doctor STORE, or --images DIR --labels DIR: what is in the data, and what to mend.

Ends with `ok` and exit status 0, or with the list of what to mend and exit status 1.

Examples:
    python -m datasets.doctor packed/camvid --report camvid.html
    python -m datasets.doctor --images photos --labels masks --labelspace classes.json
"""

import sys
from pathlib import Path

from datasets.disk import replacing
from datasets.errors import UserError, exit_on_user_error
from datasets.examine import Examination, examine_folders, examine_store
from datasets.flags import Parser, number
from datasets.labels import load_space
from datasets.packing import available_cores
from datasets.report import report
from datasets.sources.folder import add_pair_arguments, endings, ignored_ids

LISTED = 10  # problems of a kind that are printed


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
    try:
        with replacing(path) as temporary:
            temporary.write_text(html, encoding="utf-8", errors="backslashreplace")  # of names that are not UTF-8
    except OSError as error:
        raise UserError(f"--report {path}: cannot be written ({error.strerror}); choose another file") from None
    print(f"report: {path}")


if __name__ == "__main__":
    main()
