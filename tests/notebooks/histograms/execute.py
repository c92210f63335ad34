"""Runs a script with `# %%` cells in a Jupyter kernel, and prints the kinds of output that its cells showed:
`python execute.py SCRIPT`. smdebug's pictures need one, because bokeh talks to the page of the notebook."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

cells = re.split(r"^# %%(.*)\n", Path(sys.argv[1]).read_text(), flags=re.MULTILINE)
notebook = nbformat.v4.new_notebook()
for kind, source in zip(cells[1::2], cells[2::2], strict=True):
    if "[markdown]" not in kind:
        notebook.cells.append(nbformat.v4.new_code_cell(source))
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
shown = [sorted({part for each in cell.outputs for part in each.get("data", {})}) for cell in notebook.cells]
sys.stdout.write(json.dumps(shown) + "\n")
