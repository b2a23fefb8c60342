"""`from SPADE.torchvision_import import torchvision` works where a plain import may fail.

The torchvision wheel on PyPI is compiled against a CUDA build of PyTorch. Beside a CPU-only build its compiled
operators do not load. torchvision lets that pass at first, but while it imports it registers shape rules for two of
them, and stops: "operator torchvision::nms does not exist". Only Python parts of it are used here (VGG-19, and what
torch-fidelity imports), so declaring the two operators, without kernels, is all it takes; calling one still fails.

Whatever imports torchvision itself (torch-fidelity does) must be imported after this module.
"""

import torch

try:
    import torchvision
except RuntimeError as error:
    if "operator torchvision::" not in str(error):
        raise
    # The declarations live as long as this object does.
    _declarations = torch.library.Library("torchvision", "DEF")
    for _operator in ("nms", "qnms"):
        _declarations.define(f"{_operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

__all__ = ["torchvision"]
