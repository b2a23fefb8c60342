"""Scores of images: uint8 tensors in, numbers out; nothing here knows a generator or a config."""
