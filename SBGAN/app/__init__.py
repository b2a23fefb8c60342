"""The page: scenes from noise, a canvas, completing, class shares, walks, by Gradio, which is imported here alone."""
