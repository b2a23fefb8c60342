"""The flags of programs that score."""

from dataclasses import dataclass

from SPADE.engine.config import harmless, require, setting


@dataclass(frozen=True, kw_only=True)
class ImageScores:
    """Flags of programs that score images, in training or after it."""

    num_eval: int = harmless(500, "images of a score", at_least=2)
    inception_weights: str | None = harmless(None, "file of the FID Inception; default: cache, else download")
    feature_extractor: str | None = harmless(
        None, "TorchScript or .pt2, uint8 [N,3,H,W] -> [N,D], instead of Inception"
    )
    fid: bool = harmless(True, "compute FID, KID, precision and recall (--no_fid: FSD and SWD only)")


@dataclass(frozen=True, kw_only=True)
class SegmenterFile:
    """The flags of programs that ask a segmentation network."""

    segmenter: str | None = setting(
        None, "segmentation network: a checkpoint of SBGAN.train_segmenter, or TorchScript or .pt2, "
        "uint8 [N,3,H,W] -> logits [N,K,h,w] or ids"
    )  # fmt: skip
    segmenter_ids: str | None = setting(
        None, "JSON list of the class's name for each of the segmenter's ids, null where there is none"
    )


@dataclass(frozen=True, kw_only=True)
class ScoringSettings(SegmenterFile, ImageScores):
    """Flags of every program that scores a checkpoint."""

    store: str | None = setting(None, "packed data set to score against; default the one it was trained on")
    results: str = setting("results", "folder of all scores and pictures; a run's are in RESULTS/NAME")
    device: str | None = setting(None, "cpu, cuda or cuda:N; default cuda if there is one")
    seed: int = setting(0, "of the first latent; sample i has seed + i", at_least=0)
    ema: bool = setting(True, "score the averages of the weights, where there are some (--no_ema: the last weights)")


def check_samples(config: ScoringSettings, sets: int = 1):
    """Raises UserError."""
    last = config.seed + sets * config.num_eval
    require(last < 2**63, "seed", config.seed, "below 2^63 with all samples", "lower it")
