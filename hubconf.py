"""torch.hub.load(FOLDER, "sbgan", source="local", checkpoint="F.pt"): a trained model from any directory."""

dependencies = ["torch", "torchvision", "numpy", "PIL", "scipy", "tqdm"]


def sbgan(checkpoint: str, spade_checkpoint: str | None = None, device: str | None = None, ema: bool = True):
    """SBGAN.load of a checkpoint: `sample`, `render`, `complete`, `edit`, `shares`, `walk` (docs/drawing.md)."""
    from SBGAN import load  # when it is called: torch.hub asks first whether the dependencies are there

    return load(checkpoint, spade_checkpoint, device, ema)
