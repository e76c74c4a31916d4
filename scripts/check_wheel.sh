#!/usr/bin/env bash
# Install a built wheel in a clean environment and run its demo from an empty folder.
# Usage: scripts/check_wheel.sh dist/animeflow-*.whl          (or simply: make wheel-check)
set -euo pipefail

[ $# -eq 1 ] && [ -f "$1" ] || { echo "usage: $0 WHEEL (one file that exists); make wheel builds it" >&2; exit 2; }
wheel=$(realpath "$1")
root=$(realpath "$(dirname "$0")/..")
python=$("$root/scripts/find_python.sh")
place=$(mktemp -d "${TMPDIR:-/tmp}/animeflow-wheel.XXXXXX")
trap 'rm -rf "$place"' EXIT

# Nothing of the checkout may help: not its source, not its configs, not an environment that is active here.
unset PYTHONPATH VIRTUAL_ENV
mkdir "$place/empty"
cd "$place/empty"

echo "== clean environment"
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --constraint "$root/constraints.txt" "$wheel"

echo "== what the wheel carries"
"$place/venv/bin/python" - "$root" <<'PY'
import pathlib
import sys

import animeflow

package, root = pathlib.Path(animeflow.__file__).parent, pathlib.Path(sys.argv[1])
assert "site-packages" in package.parts, f"{package} is not the installed wheel"


def files(folder: pathlib.Path) -> set[pathlib.Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


for source, installed in ((root / "src" / "animeflow", package), (root / "configs", package / "configs")):
    missing = sorted(map(str, files(source) - files(installed)))
    assert not missing, f"the wheel lacks files of {source.name}: {missing}"
print(f"animeflow {animeflow.__version__}: {len(files(package))} files, {len(files(package / 'configs'))} of them configs")
PY

echo "== animeflow demo --fast"
"$place/venv/bin/animeflow" --help >/dev/null
"$place/venv/bin/animeflow" demo --fast </dev/null

for made in '*.safetensors' '*.html' '*.png'; do
  [ -n "$(find "$place/empty" -name "$made" -size +0 -print -quit)" ] || { echo "the demo left no $made behind" >&2; exit 1; }
done
echo "The wheel works: $(basename "$wheel")"
