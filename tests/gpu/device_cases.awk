# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#
#   awk -v file=NAME -v left_out=LIST -f tests/gpu/device_cases.awk FILE
#
# Prints a file of tests for nvcc and a GPU: without the cases that name the host's context, its
# matrices of other layouts or complex entries, because nvcc does not compile the headers of the host,
# and without those that look behind the fake device, themselves or by a function above them. The names
# of these cases are appended to LIST as "NAME: case". Lines keep their numbers.

BEGIN { printf "#line 1 \"%s\"\n", ARGV[1] }

function looks_behind(text,   name) {
  gsub(/fake_cuda::(keeps_lane_order|schedule|lane_)/, "", text)
  if (text ~ /fake_cuda::/) return 1
  for (name in behind)
    if (text ~ ("(^|[^a-z_0-9:])" name "[<(]")) return 1
  return 0
}

function is_of_the_host(text) {
  return text ~ /host::|place<(host_|test_case<host_backend)|archetype::|complex<|[Ee]igen::RowMajor|expect_layouts_taken\(|[.]counts\(\)/
}

function flush_case(   i, n, name) {
  if (is_of_the_host(text) || looks_behind(text)) {
    name = text
    sub(/^[A-Z_]*\( */, "", name)
    sub(/[,) \n].*/, "", name)
    if (left_out != "") print file ": " name >> left_out
    n = gsub(/\n/, "\n", text)
    for (i = 0; i < n; ++i) print ""
  } else {
    printf "%s", text
  }
  text = ""
  inside = 0
}

# nvcc's own headers declare all() for everybody: a list of that name gets another.
/const all\{/ { sub(/const all\{/, "const all_of_them{"); renamed = 1 }
renamed { gsub(/: all\)/, ": all_of_them)") }

# A list of scalars keeps the real ones.
/std::tuple<double, std::complex<double>>;/ { sub(/, std::complex<double>>;/, ">;") }

/^BOOST_[A-Z_]*TEST_CASE[A-Z_]*\(/ { inside = 1 }
inside {
  text = text $0 "\n"
  if ($0 ~ /^}/) flush_case()
  next
}
# A function above the cases begins in the first column.
/^[a-z].*[a-z_0-9]\(/ && !/;$/ {
  current = $0
  sub(/\(.*/, "", current)
  sub(/.*[^a-z_0-9]/, "", current)
  first_line = 1
}
/^}/ { current = "" }
current != "" && !first_line && looks_behind($0) { behind[current] = 1 }
current != "" && first_line && /fake_cuda::/ && looks_behind($0) { behind[current] = 1 }
{ first_line = 0 }
# An instance that only the host has, and the header of its kernels.
/^STIEFELX_INSTANTIATE\(.*complex/ || /^#include <stiefelx\/host\// { print ""; next }
{ print }
END { if (inside) flush_case() }
