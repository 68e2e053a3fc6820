"""A run folder -> something to read: html.render, markdown.render, terminal.show. Reads only, computes no score.

The folder is read once into a view (view.py) whose numbers are already text (numbers.py); the three formats only lay it
out, so that they cannot disagree. `summary.schema.json` is the exact contract of summary.json.
"""
