#!/usr/bin/env bash
# The tests with the lowest versions that requirements.txt allows:  bash tests/floors.sh [pytest arguments]
# PYTHON names the Python (default: python3.10 where it runs, else python3), FLOORS the folder of the environment, which
# is kept for the next time (default: .floors; 6 GB with PyPI's PyTorch, less with PIP_EXTRA_INDEX_URL set to PyTorch's
# own https://download.pytorch.org/whl/cpu).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-$(python3.10 -c 'import sys; print(sys.executable)' 2>/dev/null || echo python3)}
folder=${FLOORS:-.floors}
[ -f "$folder/bin/python" ] || "$python" -m venv "$folder"
sed 's/#.*//; s/>=/==/' requirements.txt > "$folder/floors.txt"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$folder/floors.txt"
# What executes the notebook has its own lowest version, which no test starts.
"$folder/bin/python" - << 'EOF'
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
notebook = new_notebook(cells=[new_code_cell("print(6 * 7)")])
NotebookClient(notebook, timeout=120).execute()
assert notebook.cells[0].outputs[0]["text"] == "42\n"
EOF
"$folder/bin/python" -m pytest "$@"  # pyproject.toml says where they are
