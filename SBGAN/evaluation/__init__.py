"""Scores of layouts and scenes: metrics of layouts, the released FID, copies of training images."""
