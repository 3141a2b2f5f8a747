"""report.html: one page on what was trained on what and what came of it, made of what a run leaves on its volume."""
