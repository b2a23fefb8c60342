"""The layout GAN, and the layout GAN and SPADE joined (Azadi et al., arXiv 1911.11357).

from SBGAN import load
model = load("weights/NAME/finetune_100.pt")
layouts, images = model.sample(seeds=range(16))
"""


def __getattr__(name):
    """`load` and `Model` on demand: preparing data and reading help need no torch."""
    if name in ("load", "Model"):
        from SBGAN import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
