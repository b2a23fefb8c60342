"""The layout GAN, and the layout GAN and SPADE joined (Azadi et al., arXiv 1911.11357)."""
