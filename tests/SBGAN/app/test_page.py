"""The page in a real browser: a scene from noise, paint, draw, complete, save; and what it asks of the network."""

import json
import shutil
import socket
import time
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from SBGAN import load
from SBGAN.app.studio import redraw

pytest.importorskip("gradio", reason="the page needs gradio: pip install -r requirements-app.txt")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser: pip install selenium")
CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
WebDriverException = pytest.importorskip("selenium.common").WebDriverException
needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its chromedriver here")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def checkpoint(untrained):
    torch.manual_seed(1)
    return untrained.joined(name="finetune_31.pt")


@pytest.fixture(scope="module")
def browser(checkpoint, tmp_path_factory):
    from SBGAN.app.__main__ import PageSettings, serve

    port = free_port()
    page = serve(PageSettings(checkpoint=str(checkpoint), port=port, device="cpu"), wait=False)
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,1500"):
        options.add_argument(flag)
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.page, driver.downloads = f"http://127.0.0.1:{port}/", downloads
    driver.space = load(checkpoint, device="cpu").label_space
    driver.get(driver.page)
    yield driver
    driver.save_screenshot("/tmp/page.png")
    driver.quit()
    page.close()


def wait_for(found, seconds=30):
    """The first true value of found(), which may fail before."""
    end = time.monotonic() + seconds
    while True:
        try:
            value = found()
        except WebDriverException:
            value = None
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.1)


def element(driver, selector):
    return wait_for(lambda: driver.find_element("css selector", selector))


def in_view(driver, selector):
    """The element, once nothing moves it any more."""
    found, places = element(driver, selector), []
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", found)

    def rests():
        places.append(driver.execute_script("return JSON.stringify(arguments[0].getBoundingClientRect())", found))
        return len(places) > 3 and len(set(places[-4:])) == 1

    wait_for(rests)
    return found


def click(driver, selector):
    in_view(driver, selector).click()


def canvas(driver, space) -> np.ndarray:
    """What the canvas shows: train ids [32,64], 255 where it is free."""
    script = """const c = document.querySelector('#canvas canvas');
        return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"""
    pixels = np.array(driver.execute_script(script)).reshape(32, 64, 4)
    classes = (pixels[:, :, None, :3] == space.colours).all(3).argmax(2)
    return np.where(pixels[..., 3] == 0, 255, classes)


def choose_class(driver, name: str):
    (found,) = [b for b in driver.find_elements("css selector", "#canvas .palette button") if b.text == name]
    driver.execute_script("arguments[0].click()", found)


def drag(driver, tool: str, start, stop):
    """Uses a tool from one pixel (row, column) to another."""
    click(driver, f"#canvas [data-tool={tool}]")
    surface = in_view(driver, "#canvas canvas")
    size = surface.size
    places = [((c + 0.5) * size["width"] / 64 - size["width"] / 2, (r + 0.5) * size["height"] / 32 - size["height"] / 2)
              for r, c in (start, stop)]  # fmt: skip
    actions = webdriver.ActionChains(driver, duration=20).move_to_element_with_offset(surface, *map(int, places[0]))
    actions.click_and_hold().move_to_element_with_offset(surface, *map(int, places[1])).release().perform()


def picture(driver, selector) -> str:
    return element(driver, f"{selector} img").get_attribute("src")


@needs_browser
def test_a_person_draws_paints_completes_and_saves(browser, checkpoint, tmp_path):
    driver, model = browser, load(checkpoint, device="cpu")
    space, names = model.label_space, model.label_space.names
    layouts, _ = model.sample(range(8))
    layouts = layouts.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, 0].numpy()

    # --- Scenes from noise; one onto the canvas ---
    assert (canvas(driver, space) == 255).all() if element(driver, "#canvas canvas") else False
    click(driver, "#draw")
    wait_for(lambda: len(driver.find_elements("css selector", "#gallery .thumbnail-item img")) == 8)
    click(driver, "#gallery [aria-label^='Thumbnail 3']")
    wait_for(lambda: (canvas(driver, space) == layouts[2]).all())
    before = picture(driver, "#image")

    # --- Paint: a box, which is drawn at once; a brush; undo ---
    choose_class(driver, names[4])
    drag(driver, "box", (8, 8), (19, 23))
    painted = layouts[2].copy()
    painted[8:20, 8:24] = 4
    wait_for(lambda: (canvas(driver, space) == painted).all())
    wait_for(lambda: picture(driver, "#image") != before)
    drag(driver, "brush", (4, 40), (4, 50))
    stroke = canvas(driver, space)
    assert (stroke[4, 41:50] == 4).all() and (stroke[12:] == painted[12:]).all()
    click(driver, "#canvas [data-undo]")
    assert (canvas(driver, space) == painted).all()
    drag(driver, "pick", (0, 0), (0, 0))
    assert element(driver, "#canvas .palette .chosen").text == names[painted[0, 0]]
    drag(driver, "fill", (12, 12), (12, 12))  # all of the box, and what it touches of its class
    assert (canvas(driver, space)[8:20, 8:24] == painted[0, 0]).all()
    click(driver, "#canvas [data-undo]")

    # --- Free the right half, complete it, take the second ---
    choose_class(driver, "free")
    drag(driver, "box", (0, 32), (31, 63))
    wait_for(lambda: (canvas(driver, space)[:, 32:] == 255).all())
    click(driver, "#render")
    wait_for(lambda: "1024 pixels of the canvas are free" in driver.find_element("tag name", "body").text)
    click(driver, "#complete")
    wait_for(lambda: "8 completions" in element(driver, "#says").text, 60)
    click(driver, "#gallery [aria-label^='Thumbnail 2']")
    wait_for(lambda: canvas(driver, space).max() < 255)
    completed = canvas(driver, space)
    assert (completed[:, :32] == painted[:, :32]).all() and (completed[:, 32:] != layouts[2][:, 32:]).any()

    # --- Save: files of one pair, and a line that gives the same again ---
    click(driver, "#save")
    wait_for(lambda: len(driver.find_elements("css selector", "#saved a[href*='/file=']")) == 5)
    click(driver, "#everything")
    with zipfile.ZipFile(wait_for(lambda: next(driver.downloads.glob("*.zip"), None))) as archive:
        archive.extractall(tmp_path)
    folders = ("images", "layouts", "colours", "raw_ids")
    image, ids, colours, raw_ids = (np.asarray(Image.open(tmp_path / folder / "0000.png")) for folder in folders)
    assert (ids == completed).all() and (space.colours[ids] == colours).all()
    assert (space.remap(raw_ids, "raw_ids") == ids).all()
    line = json.loads((tmp_path / "scenes.jsonl").read_text())
    layout, again = redraw(model, line)
    assert (layout[0].numpy() == ids).all() and (again.permute(1, 2, 0).numpy() == image).all()
    assert line["seed"] == 1 and line["sha256"] == next(iter(model.files.values()))["sha256"]


@needs_browser
def test_a_bad_upload_is_refused_in_a_sentence(browser, tmp_path):
    driver = browser
    (tmp_path / "garbage.png").write_bytes(b"no picture")
    Image.fromarray(np.zeros((20, 64), np.uint8)).save(tmp_path / "small.png")
    sketch = np.full((32, 64), 255, np.uint8)
    sketch[20:] = 2
    Image.fromarray(sketch).save(tmp_path / "sketch.png")
    (header,) = [b for b in driver.find_elements("css selector", "button.label-wrap") if "of your own" in b.text]
    driver.execute_script("arguments[0].click()", header)
    for name, words in (("garbage", "unreadable"), ("small", "wanted 32x64"), ("sketch", "1280 of 2048 pixels")):
        element(driver, "#upload input[type=file]").send_keys(str(tmp_path / f"{name}.png"))
        wait_for(lambda name=name: name in element(driver, "#upload").text)
        click(driver, "#take")
        wait_for(lambda words=words: words in driver.find_element("tag name", "body").text)
        if name != "sketch":
            click(driver, "#upload [aria-label*='lear'], #upload [aria-label*='emove']")
    assert (canvas(driver, browser.space) == sketch).all()


@needs_browser
def test_the_page_asks_nobody_else(browser):
    """Every request of the browser's log went to the page itself."""
    element(browser, "#canvas canvas")
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert len(asked) > 20
    assert [url for url in asked if not url.startswith((browser.page, "data:", "blob:"))] == []
    wrong = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert wrong == []
