"""Checkpoints of other people, the released SB-GAN and SPADE, become checkpoints of this code."""
