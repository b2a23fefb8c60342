"""The figures of scripts/gpu_report.sh as Markdown; with --same, whether two checkpoints hold the same bits.

python scripts/gpu_summary.py FOLDER
python scripts/gpu_summary.py --same ONE OTHER
"""

import json
import sys
from pathlib import Path

COLUMNS = "seconds a step", "images a second", "times as fast as plain", "share of the convolution rate", "peak MiB"
HEAD = f"| | {' | '.join(COLUMNS)} | launches a step |\n|{'---|' * 7}"


def summary(folder: Path) -> str:
    parts = [machine(folder), benchmark(folder), trained(folder), ended(folder)]
    return "\n\n".join(part for part in parts if part)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def machine(folder: Path) -> str:
    lines = [line for line in read(folder / "machine.txt").splitlines() if line.startswith(("python", "CUDA", "rev"))]
    return "; ".join(lines)


def benchmark(folder: Path) -> str:
    """A row for each case and form, and the loader's line."""
    records = [json.loads(line) for line in read(folder / "benchmark.jsonl").splitlines()]
    rows = [
        row(case, form, own) for record in records for case, of in record["cases"].items() for form, own in of.items()
    ]
    if not rows:
        return ""
    sizes, device = records[0]["settings"], records[0]["machine"]["device"]
    size = f"{sizes['height']}x{2 * sizes['height']}"
    title = f"{device}, `python -m SBGAN.benchmark`, {size}, medians of {sizes['repeats']}:"
    loader = [line.split() for line in read(folder / "checks.txt").splitlines() if line.startswith("pairs ")]
    after = f"One core's loader gives {loader[-1][1]} pairs of 256x512 a second." if loader else ""
    return "\n".join([title, "", HEAD, *rows, "", after])


def row(case: str, form: str, own: dict) -> str:
    peak = f"{own['peak_bytes'] / 2**20:.0f}" if own["peak_bytes"] else ""
    spread = f"{own['ratio']:.2f} ({min(own['ratios']):.2f} - {max(own['ratios']):.2f})"
    cells = [f"{case}, {form}", f"{own['seconds']:.4f}", f"{own['images_per_second']:.1f}", spread]
    cells += [f"{own['rate_share']:.0%}", peak, str(own["launches"] or "")]
    return f"| {' | '.join(cells)} |"


def trained(folder: Path) -> str:
    if not (folder / "scores.json").exists():
        return ""
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    lines = []
    for name, found in scores.items():
        numbers = {"FSD": found.get("fsd"), "grid": found.get("fsd_grid"), "diversity": found.get("diversity")}
        numbers["SWD"] = found.get("swd", {}).get("mean")
        lines.append(
            f"- {name}: " + ", ".join(f"{key} {value:.4g}" for key, value in numbers.items() if value is not None)
        )
    return "\n".join(["All stages on toy_street:", "", *lines])


def ended(folder: Path) -> str:
    tests = [line for line in read(folder / "checks.txt").splitlines() if " passed" in line or " skipped" in line]
    lines = [*read(folder / "parts.txt").splitlines(), *(f"tests: {line.strip('= ')}" for line in tests[-1:])]
    return "\n".join(["How each part ended:", "", *(f"- {line}" for line in lines)])


def differences(one, other, name: str = "") -> list[str]:
    """Names of what is not the same in two nested values."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in differences(one[key], other[key], f"{name}.{key}")]
    if isinstance(one, (list, tuple)) and len(one) == len(other):
        return [
            found for i, (a, b) in enumerate(zip(one, other, strict=True)) for found in differences(a, b, f"{name}.{i}")
        ]
    same = one.equal(other) if hasattr(one, "equal") else one == other
    return [] if same else [name]


def same(*paths: str) -> int:
    from SPADE.engine import checkpoint

    contents = [checkpoint.load(Path(path), "spade") for path in paths]
    found = differences(*({key: content[key] for key in ("networks", "optimizers")} for content in contents))
    print(
        f"not the same: {', '.join(found)}" if found else "exact resume: the same bits in all networks and optimisers"
    )
    return bool(found)


if __name__ == "__main__":
    if sys.argv[1] == "--same":
        sys.exit(same(*sys.argv[2:]))
    print(summary(Path(sys.argv[1])))
