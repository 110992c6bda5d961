#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   check_syntax.sh headers|sources [--once HEADER]... COMPILER FLAG... -- FILE...
#
# Runs COMPILER -fsyntax-only over each FILE as a translation unit of its own, two at a time.
# A header is included twice, so that a missing include guard is seen. Prints the first 60 lines of
# what the compiler says of a file; exits 1 if any file fails, 77 (skipped) if there is no such
# compiler.
#
# --once HEADER, by its end of a path as files include it: clang parses it once, and the files that
# include it, themselves or by another one, start from there; from the last one given where there are
# several. A file's includes come before its text, which therefore sees the same; a file that has them
# elsewhere, or under a condition, is compiled without.
set -u

kind=$1
shift
once=()
while [ "$1" = --once ]; do
  once+=("$2")
  shift 2
done
compiler=$1
shift
flags=()
while [ "$1" != -- ]; do
  flags+=("$1")
  shift
done
shift

if ! command -v "$compiler" >/dev/null; then
  echo "skipped: $compiler is not installed"
  exit 77
fi

declare -A start=()
if [ ${#once[@]} -gt 0 ]; then
  parsed=$(mktemp -d) || exit 1
  trap 'rm -rf "$parsed"' EXIT
  for header in "${once[@]}"; do
    for file; do
      # Where it has findings, its own check shows them.
      if [[ $file = */"$header" ]]; then
        "$compiler" "${flags[@]}" -x c++-header "$file" -o "$parsed/${header//\//.}" 2>/dev/null
      fi
    done
  done
  while IFS=$'\t' read -r file header; do
    if [ -e "$parsed/${header//\//.}" ]; then start[$file]=$parsed/${header//\//.}; fi
  done < <(awk -v once="${once[*]}" '
    FNR == 1 { depth = text = 0; files[++count] = FILENAME }
    /^[ \t]*#[ \t]*if/ { ++depth }
    /^[ \t]*#[ \t]*endif/ { --depth }
    depth == 0 && !/^[ \t]*(\/\/.*|#[ \t]*(include|pragma|endif).*)?$/ { text = 1 }
    depth == 0 && !text && /^[ \t]*#[ \t]*include[ \t]*</ {
      gsub(/.*<|>.*/, "")
      includes[FILENAME] = includes[FILENAME] " " $0
      end_of[$0] = ""
    }
    # Whether a file includes a header: found by what it includes, each looked at once.
    function reaches(file, header,   names, n, k) {
      if (looked[file, header]++) return answer[file, header]
      n = split(includes[file], names, " ")
      for (k = 1; k <= n; ++k)
        if (names[k] == header || (end_of[names[k]] != "" && reaches(end_of[names[k]], header)))
          return answer[file, header] = 1
      return 0
    }
    END {
      for (i = 1; i <= count; ++i)
        for (name in end_of)
          if (substr(files[i], length(files[i]) - length(name)) == "/" name) end_of[name] = files[i]
      n = split(once, headers, " ")
      for (i = 1; i <= count; ++i)
        for (k = n; k > 0; --k)
          if (reaches(files[i], headers[k])) { print files[i] "\t" headers[k]; break }
    }' "$@")
fi

check() {
  local text first=()
  if [ -n "${start[$1]:-}" ]; then first=(-include-pch "${start[$1]}"); fi
  if [ "$kind" = headers ]; then
    text=$(printf '#include "%s"\n#include "%s"\n' "$1" "$1" |
      "$compiler" -fsyntax-only "${flags[@]}" "${first[@]}" -x c++ - 2>&1)
  else
    text=$("$compiler" -fsyntax-only "${flags[@]}" "${first[@]}" "$1" 2>&1)
  fi
  local status=$?
  # A warning of the driver itself is no error to the compiler, and is one here.
  if [ $status -ne 0 ] || [ -n "$text" ]; then
    printf '%s\n%s\n' "--- $1" "$(head -n 60 <<<"$text")"
    return 1
  fi
}

running=0
failed=0
for file; do
  if [ $running -eq 2 ]; then
    wait -n || failed=$((failed + 1))
    running=$((running - 1))
  fi
  check "$file" &
  running=$((running + 1))
done
while [ $running -gt 0 ]; do
  wait -n || failed=$((failed + 1))
  running=$((running - 1))
done

echo "$# files, $failed with findings"
[ $failed -eq 0 ]
