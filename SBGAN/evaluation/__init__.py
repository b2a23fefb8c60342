"""Scores of layouts and scenes, and what is made of them: copies, comparison, report."""
