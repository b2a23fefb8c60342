"""The page of all settings has every program, and is what the programs declare now."""

from pathlib import Path

from SBGAN.settings_page import PROGRAMS, page

ROOT = Path(__file__).parents[2]


def test_every_program_is_on_the_page():
    files = [path for package in ("datasets", "SPADE", "SBGAN") for path in (ROOT / package).rglob("*.py")]
    programs = [path for path in files if '__name__ == "__main__"' in path.read_text()]
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__") for path in programs}
    assert names - {"SBGAN.settings_page"} == set(PROGRAMS)


def test_the_page_is_up_to_date():
    written = (ROOT / "docs/settings.md").read_text()
    assert written == page(), "python -m SBGAN.settings_page > docs/settings.md"
    assert "| `--lr LR` | Adam, both networks (above 0; default 0.001) |" in written
    assert "| `--ema, --no_ema` |" in written and "| `--precision {fp32,tf32,bf16}` |" in written
