"""What README and docs name is there: pages, files, programs, flags."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
DRAWINGS = sorted((ROOT / "docs").glob("*.svg"))
OTHERS_FLAGS = {"nnodes", "nproc_per_node", "rdzv_backend", "rdzv_endpoint", "rdzv_id"}  # torchrun's
OTHERS_FLAGS |= {"logdir", "no-deps", "check", "help"}  # TensorBoard's, pip's, ruff's, everybody's
PLACEHOLDERS = re.compile(r"NAME|<|\*|\.\.\.")


def flags_there_are() -> set[str]:
    """Every setting, and whatever stands behind two dashes in the programs and scripts."""
    found = set()
    for path in [p for place in ("datasets", "SPADE", "SBGAN") for p in (ROOT / place).rglob("*.py")]:
        text = path.read_text()
        found |= set(re.findall(r"^    (\w+): .* = \w*(?:setting|harmless)\(", text, re.MULTILINE))
        found |= set(re.findall(r'"--(\w+)"', text))
    found |= {"source", "images", "labels", "labelspace", "palette", "image_ending", "label_ending"}  # of the recipes
    return found | {f"no_{name}" for name in found}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page):
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / link).exists(), link
    for name in re.findall(r"\b(?:datasets|SPADE|SBGAN|scripts|tests|docs)/[\w./<>*-]*\w", text):
        assert PLACEHOLDERS.search(name) or (ROOT / name).exists() or "zoo" in name, name
    for module in re.findall(r"(?:-m|-m --) ((?:datasets|SPADE|SBGAN)\.\w+)", text):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").exists() or (place / "__main__.py").exists(), module
    for flag in set(re.findall(r"(?<![\w-])--(\w[\w-]*)", text)) - OTHERS_FLAGS:
        assert flag in flags_there_are(), flag


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.name)
def test_files_in_a_drawing_are_there(drawing):
    names = re.findall(r">((?:datasets|SPADE|SBGAN)/[\w./]+)<", drawing.read_text())
    assert len(names) > 5
    for name in names:
        assert (ROOT / name).exists(), name


def test_every_page_is_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for page in [*PAGES[1:], ROOT / "LICENSE", ROOT / "CITATION.cff"]:
        assert str(page.relative_to(ROOT)) in readme, page.name


def test_scripts_are_bash():
    for script in (ROOT / "scripts").rglob("*.sh"):
        subprocess.run(["bash", "-n", script], check=True)
