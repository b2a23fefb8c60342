r"""python -m SBGAN.import_released: checkpoints of the published SB-GAN and SPADE become checkpoints of this code.

    --layout 100000.pth                        the layout GAN (or the RGB baseline)
    --generator 100_net_G.pth  and, if there are any, --discriminator *_D, --discriminator_2 *_D2, --encoder *_E

Both give a checkpoint of stage 3, one of them that of its stage. Classes and widths are read off the tensors; the
layout GAN ends at the height that it had grown to.

Examples:
    python -m SBGAN.import_released --layout 100000.pth --generator 100_net_G.pth --label_space cityscapes \
        --height 256 --width 512 --out weights/released/finetune_0.pt
    python -m SBGAN.import_released --generator latest_net_G.pth --store packed/ade --upsampling normal \
        --out weights/nvidia/spade_0.pt
"""

from dataclasses import dataclass
from pathlib import Path

from datasets.errors import exit_on_user_error
from SBGAN.drawing.files import check_file, explained
from SBGAN.released.convert import convert
from SBGAN.stages import STAGES
from SPADE.engine import checkpoint
from SPADE.engine import config as settings
from SPADE.engine.config import setting
from SPADE.networks import UPSAMPLINGS


@dataclass(frozen=True)
class ImportSettings:
    out: str = setting(help="checkpoint to write, such as weights/published/finetune_0.pt")
    layout: str | None = setting(None, "released layout GAN or RGB ProGAN, ITERATION.pth")
    generator: str | None = setting(None, "released SPADE generator, EPOCH_net_G.pth")
    discriminator: str | None = setting(None, "its conditional discriminator, EPOCH_net_D.pth")
    discriminator_2: str | None = setting(None, "the unconditional one of stage 3, EPOCH_net_D2.pth")
    encoder: str | None = setting(None, "style encoder, EPOCH_net_E.pth")
    store: str | None = setting(None, "packed store of the data it was trained on; or")
    label_space: str | None = setting(None, "the name of a label table, or a JSON file, and")
    height: int | None = setting(None, "of its images", at_least=1)
    width: int | None = setting(None, "of its images", at_least=1)
    upsampling: str | None = setting(
        None,
        "SPADE's setting; asked for unless the tensors or the label table (Cityscapes, ADE-Indoor) tell it",
        tuple(UPSAMPLINGS),
    )
    d_last_stride: int | None = setting(
        None,
        "of the conditional discriminator's last layer but one: 2 in SB-GAN, 1 in NVIDIA's SPADE; asked for "
        "unless the other files are SB-GAN's",
        (1, 2),
    )
    without_edges: bool = setting(False, "drop the last semantic channel, instance edges, as if there were none")
    overwrite: bool = setting(False, "replace the file that --out names")


@exit_on_user_error
def main(arguments=None):
    config = settings.parse(ImportSettings, arguments, "SBGAN.import_released", __doc__)
    out = Path(config.out)
    check_file(out, config.overwrite)
    stage, content = convert(config)
    for name, record in content["networks"].items():
        network = checkpoint.rebuild(STAGES[stage].networks[name], record)  # that it loads, before writing
        count = sum(p.numel() for p in network.parameters())
        print(f"{name}: {count} parameters, {record['arguments']}")
    with explained(out):
        checkpoint.save(out, stage, content)
    print(f"checkpoint of stage {stage}: {out}")


if __name__ == "__main__":
    main()
