"""Draws a toy street: where things stand, the ground, the things, the canvas, its shaders."""
