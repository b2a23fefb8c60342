"""One self-contained HTML page: sections, tables, pictures as data."""

import base64
import html
import io

from PIL import Image

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222; }
h1 { font-size: 1.6em; overflow-wrap: anywhere; }
h2 { border-bottom: 1px solid #ccc; margin-top: 2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .15em .7em; text-align: right; border-bottom: 1px solid #eee; }
td:first-child, th:first-child { text-align: left; }
figure { display: inline-block; margin: .5em 1em .5em 0; max-width: 100%; vertical-align: top; }
figcaption { font-weight: 600; overflow-wrap: anywhere; }
li { overflow-wrap: anywhere; }
img { max-width: 100%; min-width: min(100%, 800px); image-rendering: pixelated; }
.small img { display: block; min-width: 0; }
.small figcaption { font-size: .75em; font-weight: normal; color: #666; }
.scroll { overflow-x: auto; }
.warning { background: #fff4d6; padding: .5em 1em; }
.ok { color: #17703a; }
.mend { color: #a3261b; }
.swatch { display: inline-block; width: .8em; height: .8em; border-radius: 2px; outline: 1px solid #0003; }
.bar { width: 30em; }
.bar div { height: .8em; border-radius: 2px; outline: 1px solid #0003; outline-offset: -1px; }
.settings { columns: 3 20em; font-size: 13px; }
.settings div { display: flex; justify-content: space-between; gap: 1em; break-inside: avoid; }
.settings span { color: #666; }
.settings b { font-weight: 500; overflow-wrap: anywhere; text-align: right; }
"""


class Html(str):
    """Text that is HTML already."""


def escape(text) -> str:
    return text if isinstance(text, Html) else html.escape(str(text))


def page(title: str, sections: list[str]) -> str:
    body = "\n".join([f"<h1>{escape(title)}</h1>", *sections])
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def section(title: str, *content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>\n" + "\n".join(content) + "</section>"


def paragraph(text: str, kind: str = "") -> str:
    """kind: "warning", or nothing"""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def number(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value


def table(columns: list[str], rows: list[list]) -> str:
    """Cells that are None stay empty."""
    head = "".join(f"<th>{escape(c)}</th>" for c in columns)
    lines = [
        "<tr>" + "".join(f"<td>{'' if cell is None else escape(number(cell))}</td>" for cell in row) + "</tr>"
        for row in rows
    ]
    return f'<div class="scroll"><table><tr>{head}</tr>\n' + "\n".join(lines) + "</table></div>"


def settings_list(values: dict) -> str:
    items = [f"<div><span>{escape(k)}</span><b>{escape(v) or '&nbsp;'}</b></div>" for k, v in values.items()]
    return f'<div class="settings">{"".join(items)}</div>'


def embedded(image: Image.Image, kind: str) -> str:
    """The picture as PNG or JPEG within the page."""
    data = io.BytesIO()
    image.convert("RGB").save(data, kind, **({"quality": 88} if kind == "JPEG" else {}))
    text = base64.b64encode(data.getvalue()).decode()
    return f'<img src="data:image/{kind.lower()};base64,{text}" alt="">'


def figure(caption: str, *content: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{''.join(content)}</figure>"


def picture(image: Image.Image, caption: str, width: int = 1160) -> str:
    """As JPEG, no wider than `width`; small ones as PNG."""
    if image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.LANCZOS)
    return figure(caption, embedded(image, "PNG" if image.width * image.height < 200_000 else "JPEG"))
