"""Layouts and scenes from a trained model."""
