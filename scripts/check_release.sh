#!/usr/bin/env bash
# Builds the wheel and the source distribution, checks them, and stops before any upload.
# Usage: scripts/check_release.sh [FOLDER], the folder for both files; default dist. It needs the
# packages build and twine, which `pip install build twine` installs.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mkdir -p "${1:-dist}" && cd "${1:-dist}" && pwd)
python=${PYTHON:-python3}
most_bytes=3000000  # of each file; the embedded weights are most of it

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

version=$(sed -n "s/^__version__ = '\(.*\)'/\1/p" tljax/version.py)
grep -q "^## $version" CHANGELOG.md || { echo "CHANGELOG.md has no section $version"; exit 1; }
grep -q "^version: $version$" CITATION.cff || { echo "CITATION.cff is not of $version"; exit 1; }

echo "== build $version"
rm -f "$out"/tljax-*.whl "$out"/tljax-*.tar.gz
git archive HEAD | tar -x -C "$scratch"  # without files that are not part of the repository
(cd "$scratch" && "$python" -m build --outdir "$out" . >"$scratch/build.log") ||
  { cat "$scratch/build.log"; exit 1; }
wheel=$(ls "$out"/tljax-"$version"-*.whl) sdist=$(ls "$out"/tljax-"$version".tar.gz)

echo "== twine check"
"$python" -m twine check --strict "$wheel" "$sdist"

echo "== contents"
"$python" - "$wheel" "$most_bytes" "$sdist" <<'PYTHON'
import pathlib, sys, zipfile

wheel, most, sdist = sys.argv[1:]
names = zipfile.ZipFile(wheel).namelist()
tops = {name.split('/')[0] for name in names}
allowed = {'tljax', *(top for top in tops if top.endswith('.dist-info'))}
problems = [f'the wheel has {top}/' for top in sorted(tops - allowed)]
problems += [f'the wheel has {n}' for n in names if '/tests/' in n or n.endswith(('.npz', '.jpg'))]
wanted = ('tljax/__init__.pyi', 'tljax/py.typed', 'tljax/_configs/quickstart.py')
problems += [f'the wheel lacks {name}' for name in wanted if name not in names]
for path in map(pathlib.Path, (wheel, sdist)):
    print(f'{path.name}: {path.stat().st_size:,} bytes')
    if path.stat().st_size > int(most):
        problems.append(f'{path.name} has more than {int(most):,} bytes')
sys.exit('\n'.join(problems) or 0)
PYTHON

echo "== the wheel alone, in a new environment, from outside the clone"
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --no-compile "$wheel"
cd "$scratch" && mkdir run && cd run
env -u PYTHONPATH "$scratch/venv/bin/tljax" --help
env -u PYTHONPATH "$scratch/venv/bin/tljax" train --config=quickstart
test -s runs/quickstart/result.json

echo "$wheel and $sdist are checked. Nothing was uploaded."
