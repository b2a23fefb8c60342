"""The page itself: what stands where, and which function of the studio each part calls."""

import functools
import shutil
import tempfile
from pathlib import Path

import gradio as gr
import numpy as np

from datasets.errors import UserError
from SBGAN.app.studio import FREE, Studio, packed
from SBGAN.drawing.files import KINDS

HERE = Path(__file__).parent
FONTS = ("system-ui", "sans-serif")  # of the visitor's own system: nothing is fetched from elsewhere
LAST_SEED = 2**53  # of the whole numbers that a browser knows exactly
ICONS = ["download", "fullscreen"]  # and none that would send a picture elsewhere
KEPT = (3600, 86400)  # Gradio's copies of pictures: seconds between looks, and until they go
IN_TURN = dict(concurrency_id="model", concurrency_limit=1)  # one request at a time, others wait in line


def explained(function):
    """A UserError is shown to the visitor as it is, and the page goes on."""

    @functools.wraps(function)
    def wrapped(*arguments):
        try:
            return function(*arguments)
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return wrapped


def canvas_of(studio: Studio) -> gr.HTML:
    classes = [{"name": c.name, "colour": list(c.colour)} for c in studio.space.classes]
    rows, columns = studio.size
    parts = {kind: (HERE / f"canvas.{kind}").read_text() for kind in ("html", "css", "js")}
    return gr.HTML(
        studio.encode(np.full(studio.size, FREE, np.uint8)),
        html_template=parts["html"],
        css_template=parts["css"],
        js_on_load=parts["js"],
        apply_default_css=False,
        elem_id="canvas",
        rows=rows,
        columns=columns,
        classes=classes,
    )


def button(label: str, reason: str | None = None, **more) -> gr.Button:
    """A button; greyed out, with the reason in its label, where there is a reason why it cannot serve."""
    return gr.Button(f"{label} ({reason})" if reason else label, interactive=not reason, **more)


def make_page(studio: Studio, title: str) -> gr.Blocks:
    names = list(studio.space.names)
    no_layouts, no_images = studio.no_layouts, studio.no_images
    no_scenes = no_layouts or no_images
    with gr.Blocks(title="SB-GAN", analytics_enabled=False, delete_cache=KEPT) as page:
        gallery_state = gr.State({"canvases": [], "seeds": []})
        folder = gr.State(None, delete_callback=remove)  # of this visitor's saved pairs
        gr.Markdown(f"## SB-GAN: {title}")

        with gr.Row():
            with gr.Column():
                canvas = canvas_of(studio)
                with gr.Row():
                    render = button("Draw image", no_images, variant="primary", elem_id="render")
                    complete = button("Complete free pixels", no_layouts, elem_id="complete")
                after_stroke = gr.Checkbox(
                    studio.quick,
                    label="draw after each stroke"
                    + ("" if studio.quick else f" ({no_images or 'an image takes over a second'})"),
                    interactive=studio.quick,
                )
            with gr.Column():
                image = gr.Image(
                    label="image", type="numpy", interactive=False, elem_id="image", format="png", buttons=ICONS
                )
                says = gr.Markdown("paint a layout, or take a scene from below", elem_id="says")
                with gr.Row():
                    style_seed = gr.Number(
                        0, label="style: seed", precision=0, minimum=0, maximum=LAST_SEED, visible=studio.has_styles
                    )
                    style_image = gr.Image(label="style: of an image", type="filepath", height=140,
                                           visible=not studio.no_style)  # fmt: skip
                with gr.Row():
                    save = button("Save pair", no_images, elem_id="save")
                    everything = gr.DownloadButton("Download all", interactive=False, elem_id="everything")
                saved = gr.File(
                    label="saved pair", file_count="multiple", elem_id="saved", interactive=False, visible=False
                )

        with gr.Row():
            num = gr.Slider(1, 24, 8, step=1, label="how many")
            seed = gr.Number(0, label="first seed", precision=0, minimum=0, maximum=LAST_SEED)
            wished = gr.Dropdown(
                names, value=[], multiselect=True, label="classes to steer", interactive=not no_layouts
            )
            draw = button("Draw scenes", no_layouts, variant="primary", elem_id="draw")
        with gr.Row():
            sliders = [gr.Slider(0, 1, 0.1, step=0.005, label=name, visible=False) for name in names]
        counted = gr.Textbox(label="shares asked for and got", visible=False, interactive=False)
        gallery = gr.Gallery(label="scenes: choose one to paint on", columns=4, height="auto", elem_id="gallery",
                             format="png", allow_preview=False, object_fit="contain", buttons=["download"])  # fmt: skip

        with gr.Accordion("Walk between two scenes", open=False), gr.Row():
            ends = [
                gr.Number(i, label=f"{word} seed", precision=0, minimum=0, maximum=LAST_SEED)
                for i, word in enumerate(("from", "to"))
            ]
            walk = button("Walk", no_scenes, elem_id="walk")
            animation = gr.Image(label="walk", type="filepath", format="webp", interactive=False, buttons=ICONS)
        with gr.Accordion("A layout of your own", open=False), gr.Row():
            upload = gr.File(
                label="label PNG; free pixels: transparent or index 255", elem_id="upload", type="filepath"
            )
            kind = gr.Radio(KINDS, value="train_ids", label="its pixels say")
            nearest = gr.Checkbox(False, label="read colours that are no class as the nearest one")
            take = gr.Button("Put onto the canvas", elem_id="take")

        @explained
        def show(value, seed, style_path):
            picture = studio.render(studio.decode(value), int(seed or 0), studio.style_of(style_path))
            return studio.shown(picture), "a pair: the canvas and its image"

        @explained
        def show_if_whole(value, wanted, seed, style_path):
            canvas = studio.decode(value)
            if not wanted or (canvas == FREE).any():
                return gr.skip(), gr.skip()
            return show(value, seed, style_path)

        @explained
        def draw_scenes(num, seed, wished, *values):
            shares = {name: value for name, value in zip(names, values, strict=True) if name in (wished or [])}
            seeds = list(range(int(seed or 0), int(seed or 0) + int(num)))
            canvases, text = studio.scenes(len(seeds), seeds[0], shares)
            return *shown_in_gallery(canvases, seeds, [f"seed {i}" for i in seeds]), gr.update(
                value=text, visible=bool(text)
            )

        @explained
        def complete_canvas(value, num, seed):
            seeds = list(range(int(seed or 0), int(seed or 0) + int(num)))
            canvases, met = studio.complete(studio.decode(value), len(seeds), seeds[0])
            words = [f"seed {i}, {share:.0%} of the sketch met" for i, share in zip(seeds, met, strict=True)]
            mean = sum(met) / len(met)
            said = f"{len(met)} completions; {mean:.0%} of the sketch met before it was pasted: choose one below"
            return *shown_in_gallery(canvases, seeds, words), said

        def shown_in_gallery(canvases, seeds, captions):
            pictures = studio.pictures(canvases, seeds)
            return list(zip(pictures, captions, strict=True)), {"canvases": canvases, "seeds": seeds}

        @explained
        def choose(state, style_path, chosen: gr.SelectData):
            canvas, seed = state["canvases"][chosen.index], state["seeds"][chosen.index]
            if no_images:
                return studio.encode(canvas), seed, None, f"seed {seed}"
            picture = studio.render(canvas, seed, studio.style_of(style_path))
            return studio.encode(canvas), seed, studio.shown(picture), f"seed {seed}"

        @explained
        def save_pair(value, seed, style_path, folder):
            folder = folder or Path(tempfile.mkdtemp(prefix="sbgan_"))
            files = studio.save(studio.decode(value), int(seed or 0), studio.style_of(style_path), folder)
            everything = gr.update(value=str(packed(folder)), interactive=True)
            return (
                gr.update(value=[str(file) for file in files], visible=True),
                everything,
                folder,
                f"saved as {files[0].stem}",
            )

        @explained
        def take_upload(path, kind, nearest):
            if path is None:
                raise UserError("no file was chosen; choose a label PNG first")
            canvas = studio.read(path, kind, nearest)
            free = int((canvas == FREE).sum())
            return studio.encode(canvas), f"{Path(path).name}: {free} of {canvas.size} pixels are free"

        @explained
        def make_walk(first, second):
            return str(studio.walk(int(first or 0), int(second or 0), 16))

        style, gallery_parts = [style_seed, style_image], [gallery, gallery_state]
        render.click(show, [canvas, *style], [image, says], **IN_TURN)
        canvas.input(show_if_whole, [canvas, after_stroke, *style], [image, says], show_progress="hidden", **IN_TURN)
        draw.click(draw_scenes, [num, seed, wished, *sliders], [*gallery_parts, counted], **IN_TURN)
        complete.click(complete_canvas, [canvas, num, seed], [*gallery_parts, says], **IN_TURN)
        gallery.select(choose, [gallery_state, style_image], [canvas, style_seed, image, says], **IN_TURN)
        save.click(save_pair, [canvas, *style, folder], [saved, everything, folder, says], **IN_TURN)
        take.click(take_upload, [upload, kind, nearest], [canvas, says], **IN_TURN)
        walk.click(make_walk, ends, animation, **IN_TURN)
        wished.change(lambda chosen: [gr.update(visible=name in chosen) for name in names], wished, sliders)
    return page.queue(default_concurrency_limit=1)


def remove(folder):
    """Removes what a visitor saved; called by Gradio an hour after the visitor has left."""
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def looks(studio: Studio) -> dict:
    """Theme and style sheet, for `launch`."""
    shape = f"#gallery .thumbnail-item {{ aspect-ratio: {studio.size[1]} / {studio.size[0]}; }}"
    return {"theme": gr.themes.Default(font=FONTS, font_mono=("ui-monospace", "monospace")), "css": shape}
