"""Measures how fast the product is beside the plain form of the same computation."""
