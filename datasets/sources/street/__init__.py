"""How a toy street is drawn: classes, where things stand, the things, the canvas, its shaders."""
