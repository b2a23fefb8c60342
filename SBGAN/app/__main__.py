"""python -m SBGAN.app: a page to draw on: scenes from noise, a canvas, completing, class shares, walks, saved pairs.

Examples:
    python -m SBGAN.app
    python -m SBGAN.app --checkpoint weights/camvid_finetune/finetune_4.pt --port 7861
"""

import errno
import getpass
import hmac
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import UserError, exit_on_user_error
from SBGAN.model import Model, load
from SPADE.engine import checkpoint as checkpoints
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.engine.device import keep_freed_memory, pick

OWN_ADDRESSES = ("127.0.0.1", "localhost", "::1")
PASSWORD = "SBGAN_PASSWORD"  # the environment's name for it: the command line is everybody's to read
DEMO = Path("weights") / "toy_street_finetune"  # what scripts/demo.sh leaves
SMALL = Path(__file__).parent / "toy_street.pt"  # the demo's, by python -m SBGAN.export


@dataclass(frozen=True)
class PageSettings:
    checkpoint: str | None = setting(
        None, "of stage 3, or of stage 1 or 2 for half of the page; default: the demo's, or a small one of toy_street"
    )
    spade_checkpoint: str | None = setting(None, "with a checkpoint of stage 1: SPADE's of stage 2")
    port: int = setting(7860, "of the page", at_least=1, at_most=65535)
    address: str = setting(
        "127.0.0.1", f"to listen on; others than this machine's need a password, by {PASSWORD} or typed in"
    )
    device: str | None = setting(None, "cpu, cuda or cuda:N; default cuda if there is one")
    ema: bool = setting(True, "draw with the averages of the weights, if there are some (--no_ema: the last weights)")


def check_free(address: str, port: int):
    """Raises UserError where a server could not listen at this address and port."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise UserError(f"--port is {port}, but another program has it; pass another") from error
            reason = error.strerror or error
            raise UserError(f"--address is {address}: nobody can listen there ({reason}); pass another") from error


def password_for(address: str) -> str | None:
    """None for this machine's own addresses; for others the environment's password, or one that is typed in."""
    if address in OWN_ADDRESSES:
        return None
    password = os.environ.get(PASSWORD) or (sys.stdin.isatty() and getpass.getpass(f"password for {address}: "))
    if not password:
        raise UserError(
            f"--address is {address}, where others can come in, but there is no password; set {PASSWORD}, "
            "or leave --address out"
        )
    return password


def find_checkpoint(config: PageSettings) -> str:
    """The checkpoint that --checkpoint names, else the demo's newest, else the small one beside this code."""
    if config.checkpoint:
        return config.checkpoint
    try:
        return str(checkpoints.newest(DEMO, "finetune"))
    except UserError:
        return str(SMALL)


def title_of(model: Model, path: str) -> str:
    space, data = model.label_space, model.data
    return f"{data['name']}, {space.num_classes} classes, {data['height']}x{data['width']} ({Path(path).name})"


def serve(config: PageSettings, wait: bool = True):
    """Opens the page; returns Gradio's Blocks. wait: until it is stopped."""
    check_free(config.address, config.port)
    password, path = password_for(config.address), find_checkpoint(config)
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read as it is imported: it would tell its makers
    try:
        from SBGAN.app.page import looks, make_page
    except ImportError as error:
        raise UserError(f"the page needs gradio ({error}); pip install -r requirements-app.txt") from error
    from SBGAN.app.studio import Studio

    device = pick(config.device)
    if device.type == "cpu":
        keep_freed_memory()
    model = load(path, config.spade_checkpoint, device, config.ema)
    if model.image_generator is not None:
        raise UserError(f"{path} is the RGB baseline's (image_gan), wanted one of scenes; take stage 3's")
    studio = Studio(model)
    page = make_page(studio, title_of(model, path))
    auth = None if password is None else lambda name, given: hmac.compare_digest(given.encode(), password.encode())
    page.launch(
        server_name=config.address, server_port=config.port, auth=auth, prevent_thread_lock=True,
        auth_message="any name, and the password" if auth else None,
        share=False, ssr_mode=False, quiet=True, footer_links=[], max_file_size="20mb", show_error=True,
        **looks(studio),
    )  # fmt: skip
    print(f"open http://{config.address}:{config.port} (Ctrl-C ends the page)", flush=True)
    if wait:
        page.block_thread()
    return page


@exit_on_user_error
def main(arguments=None):
    serve(settings.parse(PageSettings, arguments, "SBGAN.app", __doc__))


if __name__ == "__main__":
    main()
