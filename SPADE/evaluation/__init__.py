"""Scores of images: feature networks, metrics, and what is compared with what."""
