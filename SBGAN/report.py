"""python -m SBGAN.report WEIGHTS/NAME: one self-contained HTML page of a run.

Examples:
    python -m SBGAN.report weights/camvid_finetune
    python -m SBGAN.report weights/camvid_finetune --out camvid.html
"""

import io
import json
import math
import os
import time
from pathlib import Path

from PIL import Image

from datasets.errors import Parser, UserError, exit_on_user_error
from datasets.page import escape, figure, page, paragraph, picture, section, settings_list, table
from SBGAN.drawing.files import check_file, replacing
from SPADE.engine.log import recorded_logs
from SPADE.evaluation.scores import COLUMNS, flat_scores, left_out

COLOURS = ("#1965b0", "#dc050c", "#4eb265", "#f1932d", "#882e72", "#777777")
WIDTH, HEIGHT = 370, 190
LEFT, RIGHT, TOP, BOTTOM = 58, 10, 10, 26
MOST_POINTS = 400


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers from low to high."""
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= about + 0.5)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def thin(points: list) -> list:
    """Means of neighbours, so that at most MOST_POINTS (x, y) are left."""
    size = math.ceil(len(points) / MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)] if size > 1 else [[p] for p in points]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def chart(title: str, curves: dict[str, list]) -> str:
    """Curves {name: [(images seen, value), ...]} in one pair of axes; values that are not finite are left out."""
    curves = {name: thin([(x, y) for x, y in points if math.isfinite(y)]) for name, points in curves.items()}
    curves = {name: points for name, points in curves.items() if points}
    if not curves:
        return ""
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    x0, x1 = min(xs), max(max(xs), min(xs) + 1)
    margin = (max(ys) - min(ys)) * 0.05 or abs(max(ys)) * 0.05 or 1.0
    y0, y1 = min(ys) - margin, max(ys) + margin

    def at(x, y):
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return f"{across:.1f},{down:.1f}"

    parts, legend = [], []
    for tick in ticks(y0, y1):
        x, y = at(x0, tick).split(",")
        parts.append(f'<line x1="{x}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(y) + 4}" text-anchor="end">{tick:.4g}</text>')
    for tick in ticks(x0, x1):
        x = at(tick, y0).split(",")[0]
        label = f"{tick / 1000:g}k" if tick >= 1000 else f"{tick:g}"
        parts.append(f'<text x="{x}" y="{HEIGHT - 8}" text-anchor="middle">{label}</text>')
    for i, (name, points) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        if len(points) == 1:
            x, y = at(*points[0]).split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        path = " ".join(at(*point) for point in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        legend.append(f'<span style="color:{colour}">&#9644; {escape(name)}</span>')
    drawing = f'<svg width="{WIDTH}" height="{HEIGHT}" font-size="11" fill="#555">{"".join(parts)}</svg>'
    names = f"<div>{' &nbsp; '.join(legend)}</div>" if list(curves) != [title] else ""
    return figure(title, drawing, names)


SHEETS = 5  # pictures of one kind over time


def read_settings(run: Path) -> dict:
    try:
        return json.loads((run / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{run} is no run's folder: no readable config.json ({error}); name WEIGHTS/NAME") from error


def read_records(run: Path) -> list[dict]:
    """Evaluations in the order they were made; a line that was cut off is left out, and so are those within a training
    that was continued from before them."""
    records = []
    if (run / "metrics.jsonl").is_file():
        for line in (run / "metrics.jsonl").read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                print(f"{run / 'metrics.jsonl'}: a line that is no JSON is left out")
                continue
            if "images_seen" in record:
                records = [r for r in records if r.get("images_seen", 0) < record["images_seen"]]
            records.append(record)
    return records


def last_of(records: list[dict]) -> dict:
    """The last one of a checkpoint, which has all rows; within a training there are fewer."""
    return next((r for r in reversed(records) if "images_seen" not in r), records[-1])


def read_logs(folders: list[Path]) -> tuple[dict, dict]:
    """({scalar: [(images seen, value)]}, {picture: [(images seen, PNG bytes)]}) of all logs of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scalars, pictures = {}, {}
    for folder in filter(Path.is_dir, folders):
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0}).Reload()
        for tag in events.Tags()["scalars"]:
            scalars.setdefault(tag, {}).update({e.step: e.value for e in events.Scalars(tag)})
        for tag in events.Tags()["images"]:
            pictures.setdefault(tag, {}).update({e.step: e.encoded_image_string for e in events.Images(tag)})
    return ({k: sorted(v.items()) for k, v in scalars.items()}, {k: sorted(v.items()) for k, v in pictures.items()})


def curves_sections(scalars: dict) -> list[str]:
    """Curves by what stands before the slash: scores, losses, and the rest."""
    groups = {"Scores while training": [], "Losses": [], "Schedule and speed": []}
    for tag, points in sorted(scalars.items()):
        kind = tag.split("/")[0]
        name = "Losses" if kind in ("generator", "discriminator") else "Schedule and speed"
        if kind.startswith("score") or kind in (*COLUMNS, "pixels_displaced") or kind.startswith("swd"):
            name = "Scores while training"
        groups[name].append(chart(tag, {tag: points}))
    return [section(f"{name} (over images seen)", *charts) for name, charts in groups.items() if any(charts)]


def spread(items: list, count: int) -> list:
    """First, last, and others evenly between."""
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def sheets_section(pictures: dict) -> list[str]:
    figures = []
    for tag, items in pictures.items():
        for seen, data in reversed(spread(items, SHEETS)):
            figures.append(picture(Image.open(io.BytesIO(data)), f"{tag}, {seen} images seen"))
    return [section("Layouts and images over time, the newest first", *figures)] if figures else []


def scores_sections(records: list[dict]) -> list[str]:
    if not records:
        return [paragraph("This run has not been evaluated yet: no metrics.jsonl.", "warning")]
    last = last_of(records)
    rows = {name: flat_scores(row) for name, row in last["scores"].items()}
    columns = [c for c in COLUMNS if any(c in row for row in rows.values())]
    content = [table(["", *columns], [[name, *map(row.get, columns)] for name, row in rows.items()])]
    for name, row in last["scores"].items():
        if "repeats" in row:
            cells = [f"{v['mean']:.4g} ± {v['std']:.2g}" for v in row["repeats"].values()]
            content.append(table([f"{name}: mean and deviation", *row["repeats"]], [["", *cells]]))
    warnings = {row["warning"] for row in last["scores"].values() if "warning" in row}
    content += [paragraph(text, "warning") for text in sorted(warnings)]
    if last.get("fid_left_out"):
        content.append(paragraph(f"FID is left out: {last['fid_left_out']}", "warning"))
    content += [paragraph(text, "warning") for text in left_out(last)]
    how = {"evaluated": last["time"], "size": last["size"], "seed": last["seed"], **last["counts"], **last["versions"]}
    for row in last["scores"].values():
        how |= row.get("protocol", {})
    content.append(settings_list(how))
    sections = [section("Scores", *content)]
    if len(records) > 1:
        sections.append(section("All evaluations", history(records)))
    return sections + iou_sections(last) + class_sections(last)


def history(records: list[dict]) -> str:
    """One line for each evaluation: its row of generated scenes, after fine-tuning if there are two."""
    lines = []
    for record in records:
        generated = [name for name in record["scores"] if name.startswith("generated")]
        name = (generated or list(record["scores"]))[-1]
        row = record["scores"][name]
        files = ", ".join(Path(entry["file"]).name for entry in record["checkpoints"].values())
        files = files or f"in training, {record['images_seen']} images seen"
        lines.append([record["time"], files, name, record["counts"]["generated"], flat_scores(row)])
    columns = [c for c in COLUMNS if any(c in line[-1] for line in lines)]
    rows = [[*line[:-1], *map(line[-1].get, columns)] for line in lines]
    return table(["time", "checkpoints", "row", "samples", *columns], rows)


def iou_sections(record: dict) -> list[str]:
    """Shows what the segmenter sees of each class, in every kind of row."""
    rows = {name: row["iou"] for name, row in record["scores"].items() if "iou" in row}
    if not rows:
        return []
    cells = [[name, *(row[name] for row in rows.values())] for name in next(iter(rows.values()))]
    return [section("IoU of each class that the layouts show", table(["", *rows], cells))]


def class_sections(record: dict) -> list[str]:
    rows = [row for name, row in record["scores"].items() if "classes" in row and name.startswith("generated")]
    if not rows:
        return []
    row = rows[-1]  # after fine-tuning, if there are two
    shares = sorted(row["classes"].items(), key=lambda item: -item[1]["real"])
    rows = [[name, *(f"{100 * s[k]:.2f} %" for k in ("real", "generated", "gained"))] for name, s in shares]
    note = f"<p>{100 * row['pixels_displaced']:.1f} % of all pixels would have to change class.</p>"
    return [section("Classes: share of all pixels", note, table(["", "real", "generated", "gained"], rows))]


def copy_section(records: list[dict], results: Path) -> list[str]:
    rows = last_of(records)["scores"].values() if records else []
    checks = [row["copy_check"] for row in rows if "copy_check" in row]
    if not checks:
        return []
    columns = ["samples", "nearest", "median", "nearest_of_real", "median_of_real", "closer_than_any_real"]
    rows = [[f"{kind}: {found['distance']}", *(found[c] for c in columns)] for kind, found in checks[0].items()]
    figures = result_picture(results / "copies.png", "samples nearest to training items; below each, that item")
    title = "Copy check: distance to the nearest training item"
    return [section(title, table(["", *columns], rows), *figures)]


def last_results(results: Path) -> Path:
    """The folder of the last evaluation: a run's is its own, that of one of its files is one deeper."""
    written = [*results.glob("scores.json"), *results.glob("*/scores.json")]
    return max(written, key=os.path.getmtime).parent if written else results


def result_picture(path: Path, caption: str) -> list[str]:
    try:
        with Image.open(path) as image:
            return [picture(image, caption)]
    except OSError:
        return []


def report(run: Path, logs: Path, results: Path) -> str:
    """The page. logs, results: of this run, may not be there."""
    settings, records = read_settings(run), read_records(run)
    scalars, pictures = read_logs(recorded_logs(run, logs))
    sections = [paragraph(f"Made {time.strftime('%Y-%m-%d %H:%M')} from {run}")]
    sections += scores_sections(records)
    evaluated = last_results(results)
    sheet = result_picture(evaluated / "contact_sheet.png", "of the last evaluation")
    sections += [section("Samples", *sheet)] if sheet else []
    sections += copy_section(records, evaluated) + curves_sections(scalars) + sheets_section(pictures)
    return page(run.name, [*sections, section("Settings", settings_list(settings))])


def make_parser() -> Parser:
    parser = Parser("python -m SBGAN.report", __doc__)
    parser.add_argument("run", type=Path, help="folder of the run's checkpoints, WEIGHTS/NAME")
    parser.add_argument("--logs", type=Path, help="folder of all logs; default the one in the run's settings")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of all scores (default: results)")
    parser.add_argument("--out", type=Path, help="the page; default RUN/report.html, which is replaced")
    parser.add_argument("--overwrite", action="store_true", help="replace the file that --out names")
    return parser


@exit_on_user_error
def main(arguments=None):
    flags = make_parser().parse_args(arguments)
    run = flags.run.resolve()
    logs = flags.logs or Path(read_settings(run).get("logs", "logs"))
    out = flags.out or run / "report.html"
    check_file(out, overwrite=flags.overwrite or flags.out is None)
    text = report(run, logs / run.name, flags.results / run.name)
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"{out}, {os.path.getsize(out) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
