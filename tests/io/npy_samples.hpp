// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "samples.hpp"

namespace io_test {

/// An NPY file of version 1: the header is padded and gets its length, byte_count bytes follow.
inline std::string npy_version_1(std::string_view header, std::size_t byte_count) {
  std::string text(header);
  text += '\n';
  std::string all("\x93NUMPY\x01\0", 8);
  all += static_cast<char>(text.size() & 0xFF);
  all += static_cast<char>(text.size() >> 8);
  all += text;
  for (std::size_t i = 0; i < byte_count; ++i) all += static_cast<char>(i + 1);
  return all;
}

inline std::string npy_array(std::string const& descr, std::string const& shape,
                             std::size_t byte_count) {
  return npy_version_1(
      "{'descr': '" + descr + "', 'fortran_order': False, 'shape': " + shape + ", }  ", byte_count);
}

/// A version 2 or 3, whose length has four bytes.
inline std::string npy_of_version(char version, std::uint32_t length, std::string_view rest) {
  std::string all("\x93NUMPY");
  all += version;
  all += '\0';
  for (int i = 0; i < 4; ++i) all += static_cast<char>(length >> (8 * i));
  return all.append(rest);
}

inline std::vector<sample> sound_npy() {
  std::string const two("{'descr': '<i2', 'fortran_order': True, 'shape': (2, 3)}\n");
  auto const length = static_cast<std::uint32_t>(two.size());
  return {
      {"matrix", npy_array("<f4", "(2, 3)", 24), {}},
      {"vector", npy_array("<c16", "(2,)", 32), {}},
      {"number", npy_array("|u1", "()", 1), {}},
      {"empty", npy_array("<f8", "(0, 5)", 0), {}},
      {"three", npy_array("<f2", "(2, 1, 3)", 12), {}},
      {"version_2", npy_of_version(2, length, two + "abcdefghijkl"), {}},
      {"version_3", npy_of_version(3, length, two + "abcdefghijkl"), {}},
      {"keys_in_another_order",
       npy_version_1("{\"shape\":(4,),'fortran_order':True,'descr':'|b1'}", 4),
       {}},
  };
}

inline std::vector<sample> hostile_npy() {
  using enum format_fault;
  auto const head = [](std::string_view text) { return npy_version_1(text, 0); };
  return {
      {"shape_product_wraps", npy_array("<f4", "(4194305, 4194305, 211106198978564)", 16),
       overflow},
      {"bytes_of_entries_wrap", npy_array("<f8", "(4611686018427387904,)", 0), overflow},
      {"product_wraps_before_a_zero", npy_array("<f8", "(4294967296, 4294967296, 0)", 0), overflow},
      {"size_of_many_digits", npy_array("<f8", "(" + std::string(500, '9') + ",)", 8), overflow},
      {"nine_dimensions", npy_array("|u1", "(1, 1, 1, 1, 1, 1, 1, 1, 1)", 1), rank},
      {"negative_size", npy_array("|u1", "(-1,)", 1), syntax},
      {"leading_zero", npy_array("|u1", "(01,)", 1), syntax},
      {"size_of_python_2", npy_array("|u1", "(1L,)", 1), syntax},
      {"number_for_a_tuple", npy_array("|u1", "(1)", 1), syntax},
      {"list_for_a_tuple", npy_array("|u1", "[1]", 1), syntax},
      {"sizes_without_a_comma", npy_array("|u1", "(1 1)", 1), syntax},
      {"two_commas", npy_array("|u1", "(1,, 1)", 1), syntax},
      {"digits_in_groups", npy_array("|u1", "(1,000)", 1000), syntax},
      {"array_cut_off", npy_array("<f8", "(4,)", 31), truncated},
      {"bytes_after_the_array", npy_array("<f8", "(4,)", 33), gap},
      {"header_of_4_gigabytes_in_12_bytes", npy_of_version(2, 0xFFFFFFFFU, ""), header_length},
      {"header_behind_the_end", std::string("\x93NUMPY\x01\0\xFF\x7F{", 11), truncated},
      {"length_cut_off", npy_of_version(2, 0, "").substr(0, 11), truncated},
      {"nothing", "", truncated},
      {"nine_bytes", std::string("\x93NUMPY\x01\0\x02", 9), truncated},
      {"header_of_no_bytes", std::string("\x93NUMPY\x01\0\0\0", 10), syntax},
      {"another_magic", "\x93NUMPX" + npy_array("<f8", "()", 8).substr(6), magic},
      {"version_4", npy_of_version(4, 2, "{}"), version},
      {"version_0", npy_of_version(0, 2, "{}"), version},
      {"version_1_1", std::string("\x93NUMPY\x01\x01\x02\0{}", 12), version},
      {"big_endian", npy_array(">f8", "(1,)", 8), dtype},
      {"native_endian", npy_array("=f8", "(1,)", 8), dtype},
      {"objects", npy_array("|O", "(1,)", 8), dtype},
      {"texts", npy_array("<U4", "(1,)", 16), dtype},
      {"long_double", npy_array("<f16", "(1,)", 16), dtype},
      {"several_fields", head("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }"),
       dtype},
      {"no_descr", head("{'fortran_order': False, 'shape': (0,), }"), member},
      {"unknown_key",
       head("{'descr': '<f8', 'fortran_order': False, 'shape': (0,), 'strides': (1,)}"), member},
      {"duplicate_key",
       head("{'descr': '<f8', 'shape': (0,), 'fortran_order': False, 'shape': (0,)}"),
       duplicate_name},
      {"order_as_a_number", head("{'descr': '<f8', 'fortran_order': 0, 'shape': (0,), }"), syntax},
      {"lower_case_truth", head("{'descr': '<f8', 'fortran_order': false, 'shape': (0,), }"),
       syntax},
      {"an_expression", head("{'descr': '<f8', 'fortran_order': 1==1, 'shape': (0,), }"), syntax},
      {"a_call", head("__import__('os').abort()"), syntax},
      {"text_after_the_dictionary",
       head("{'descr': '<f8', 'fortran_order': False, 'shape': (0,), } #"), syntax},
      {"no_line_end", npy_of_version(2, 2, "{}"), member},
      {"quote_not_closed", head("{'descr"), syntax},
      {"escape_in_a_key", head("{'descr\\x00': '<f8'}"), syntax},
      {"tab_for_a_blank", head("{\t'descr': '<f8', 'fortran_order': False, 'shape': (0,), }"),
       syntax},
  };
}

}  // namespace io_test
