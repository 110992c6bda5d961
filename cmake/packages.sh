# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
# For bash scripts to source:
#
#   install_packages REQUIRED_NAMES OPTIONAL_NAMES
#
# installs the Debian or Ubuntu packages that are missing, and says which. Names are separated by
# blanks. Returns 0 when every required package is there; an optional one that the archive lacks is
# named and skipped. Without root it prints the one line to run and exits 2. Everything goes to
# standard error. It never upgrades what is installed.

package_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

package_available() {
  apt-cache policy "$1" 2>/dev/null | grep -q '^  Candidate: [^(]'
}

install_packages() {
  local required=$1 optional=$2 name
  local missing=() extra=() chosen=()

  if ! command -v dpkg-query >/dev/null; then
    echo "This is no Debian or Ubuntu machine; nothing is installed. Needed: $required" >&2
    return 0
  fi
  for name in $required; do package_installed "$name" || missing+=("$name"); done
  for name in $optional; do package_installed "$name" || extra+=("$name"); done
  [ $((${#missing[@]} + ${#extra[@]})) -gt 0 ] || return 0

  if [ "$(id -u)" -ne 0 ]; then
    if [ ${#missing[@]} -eq 0 ]; then
      for name in "${extra[@]}"; do
        echo "$name: skipped, because it is not installed and this is not root" >&2
      done
      return 0
    fi
    # Where the archive's lists were never fetched, nothing in them can be ruled out.
    if package_available "${missing[0]}"; then
      for name in "${extra[@]}"; do package_available "$name" && chosen+=("$name"); done
    else
      chosen=("${extra[@]}")
    fi
    chosen=("${missing[@]}" "${chosen[@]}")
    echo "Packages are missing, and this is not root. Run:" >&2
    echo "sudo apt-get update && sudo apt-get install -y --no-install-recommends ${chosen[*]}" >&2
    exit 2
  fi

  export DEBIAN_FRONTEND=noninteractive
  local log
  log=$(mktemp)
  apt-get update >"$log" 2>&1 || { echo "apt-get update fails:" && tail -n 5 "$log"; } >&2
  chosen=("${missing[@]}")
  for name in "${extra[@]}"; do
    if package_available "$name"; then
      chosen+=("$name")
    else
      echo "$name: skipped, because the package archive does not have it" >&2
    fi
  done
  if [ ${#chosen[@]} -gt 0 ]; then
    echo "installing: ${chosen[*]}" >&2
    if ! apt-get install -y --no-install-recommends "${chosen[@]}" >"$log" 2>&1; then
      { echo "apt-get install fails:" && tail -n 15 "$log"; } >&2
      rm -f "$log"
      [ ${#missing[@]} -eq 0 ] || exit 2
      for name in "${extra[@]}"; do
        package_installed "$name" || echo "$name: skipped, because apt-get install fails" >&2
      done
      return 0
    fi
  fi
  rm -f "$log"
}
