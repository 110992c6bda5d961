#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
set -u

usage() {
  cat <<'TEXT'
usage: bash bench/peers/install.sh [DIR] [--help]

Makes a Python environment with the peers of bench/run.sh in DIR, in the versions of
bench/peers/requirements.txt. A second run changes nothing. It downloads about 3 GB and takes about
7 GB of disk, because torch brings its GPU libraries along: bench/run.sh uses torch's CPU side,
tests/gpu/run.sh its GPU side.

  DIR     default ${XDG_CACHE_HOME:-$HOME/.cache}/stiefelx/peers, where bench/run.sh looks for it;
          for another one set STIEFELX_PEERS=DIR when it runs
  --help  this text

PYTHON    the interpreter, default python3

Exit status: 0 the environment is there; 1 a step failed; 2 wrong option, or packages are missing
and this is not root.
TEXT
}

folder=
for argument; do
  case $argument in
    --help | -h)
      usage
      exit 0
      ;;
    -*)
      echo "install.sh: unknown option $argument" >&2
      usage >&2
      exit 2
      ;;
    *)
      if [ -n "$folder" ]; then
        echo "install.sh: one folder only, found $folder and $argument" >&2
        usage >&2
        exit 2
      fi
      folder=$argument
      ;;
  esac
done
folder=${folder:-${XDG_CACHE_HOME:-$HOME/.cache}/stiefelx/peers}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) || exit 1
requirements=$here/requirements.txt
python=${PYTHON:-python3}

if cmp -s "$requirements" "$folder/requirements.installed"; then
  echo "the peers are installed in $folder"
  exit 0
fi
# Debian's python3 lacks the module that makes environments with pip.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  # shellcheck source=cmake/packages.sh
  . "$here/../../cmake/packages.sh"
  install_packages "python3 python3-venv" "" || exit 1
fi

echo "making a Python environment in $folder"
mkdir -p "$(dirname "$folder")" && "$python" -m venv "$folder" || exit 1
echo "installing: $(grep -v '^#' "$requirements" | tr '\n' ' ')"
"$folder/bin/python" -m pip install --no-compile --progress-bar off --disable-pip-version-check \
  --requirement "$requirements" || exit 1
# Copied last: an installation that was cut off is gone on with by the next run.
cp "$requirements" "$folder/requirements.installed" || exit 1
echo "the peers are installed in $folder"
