"""Layout to image: semantic image synthesis with spatially-adaptive normalisation (Park et al., CVPR 2019)."""
