// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "samples.hpp"

namespace io_test {

/// The length in eight bytes, or what a defect puts there, then the rest.
inline std::string with_length(std::uint64_t length, std::string_view rest) {
  std::string all(8, '\0');
  for (std::size_t i = 0; i < 8; ++i) all[i] = static_cast<char>(length >> (8 * i));
  return all.append(rest);
}

/// A safetensors file of a header and as many bytes of data.
inline std::string safetensors(std::string_view header, std::size_t byte_count) {
  std::string all = with_length(header.size(), header);
  for (std::size_t i = 0; i < byte_count; ++i) all += static_cast<char>(i + 1);
  return all;
}

/// The member of one tensor.
inline std::string tensor(std::string const& name, std::string const& dtype,
                          std::string const& shape, std::string const& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
         "],\"data_offsets\":[" + offsets + "]}";
}

inline std::string one_tensor(std::string const& dtype, std::string const& shape,
                              std::string const& offsets, std::size_t byte_count) {
  return safetensors("{" + tensor("w", dtype, shape, offsets) + "}", byte_count);
}

inline std::vector<sample> sound_safetensors() {
  auto const a = tensor("a", "F32", "2,3", "0,24");
  return {
      {"no_tensor", safetensors("{}", 0), {}},
      {"one", one_tensor("BF16", "2,2", "0,8", 8), {}},
      {"number", one_tensor("F64", "", "0,8", 8), {}},
      {"empty", one_tensor("F64", "0,9007199254740992", "0,0", 0), {}},
      {"several",
       safetensors("{\"__metadata__\":{\"format\":\"pt\",\"\\u00e9\":\"\"}," +
                       tensor("c", "I8", "0", "24,24") + "," + a + "," +
                       tensor("b", "I64", "1", "24,32") + "," + tensor("d", "BOOL", "2", "32,34") +
                       "}   ",
                   34),
       {}},
  };
}

inline std::vector<sample> hostile_safetensors() {
  using enum format_fault;
  auto const file = [](std::string_view header, std::size_t byte_count) {
    return safetensors(header, byte_count);
  };
  auto const a = tensor("a", "U8", "4", "0,4");
  std::string const ones = "1,1,1,1,1,1,1,1,1";
  std::string many = "1";
  for (int i = 0; i < 5000; ++i) many += ",1";
  return {
      {"shape_product_wraps", one_tensor("F32", "4194305,4194305,211106198978564", "0,16", 16),
       overflow},
      {"bytes_of_entries_wrap", one_tensor("F64", "9007199254740992,512", "0,0", 0), overflow},
      {"product_wraps_before_a_zero",
       one_tensor("U8", "9007199254740992,9007199254740992,0", "0,0", 0), overflow},
      {"offsets_shorter_than_shape", one_tensor("F32", "1000", "0,4", 4), size},
      {"offsets_longer_than_shape", one_tensor("F32", "1", "0,400", 400), size},
      {"negative_offset", one_tensor("U8", "8", "-4,4", 4), number},
      {"negative_zero_offset", one_tensor("U8", "4", "-0,4", 4), number},
      {"reversed_offsets", one_tensor("U8", "4", "4,0", 4), offsets},
      {"offset_at_the_end_of_64_bits", one_tensor("U8", "4", "18446744073709551612,0", 4), number},
      {"tensor_beyond_the_end", one_tensor("U8", "9007199254740992", "0,9007199254740992", 4),
       offsets},
      {"offset_with_a_fraction", one_tensor("U8", "4", "0,4.0", 4), number},
      {"offset_as_text", one_tensor("U8", "4", "0,\"4\"", 4), member},
      {"one_offset", one_tensor("U8", "4", "4", 4), offsets},
      {"three_offsets", one_tensor("U8", "4", "0,4,4", 4), offsets},
      {"nine_dimensions", one_tensor("U8", ones, "0,1", 1), rank},
      {"thousands_of_dimensions", one_tensor("U8", many, "0,1", 1), rank},
      {"negative_size", one_tensor("U8", "-1", "0,4", 4), number},
      {"size_beyond_2_to_53", one_tensor("U8", "9007199254740993", "0,4", 4), number},
      {"size_of_thousands_of_digits", one_tensor("U8", std::string(5000, '9'), "0,4", 4), number},
      {"duplicate_tensor", file("{" + a + "," + a + "}", 4), duplicate_name},
      {"duplicate_tensor_by_escape",
       file("{" + a + "," + tensor("\\u0061", "U8", "4", "4,8") + "}", 8), duplicate_name},
      {"duplicate_member",
       file("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"shape\":[4]}}", 4),
       duplicate_name},
      {"duplicate_metadata",
       file("{\"__metadata__\":{\"a\":\"\"},\"__metadata__\":{\"a\":\"\"}}", 0), duplicate_name},
      {"duplicate_metadata_name", file("{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0),
       duplicate_name},
      {"empty_tensor_inside_another", file("{" + a + "," + tensor("z", "U8", "0", "2,2") + "}", 4),
       overlap},
      {"empty_tensor_behind_the_end", file("{" + a + "," + tensor("z", "U8", "0", "9,9") + "}", 4),
       offsets},
      {"overlapping_tensors", file("{" + a + "," + tensor("b", "U8", "4", "3,7") + "}", 7),
       overlap},
      {"same_bytes_twice", file("{" + a + "," + tensor("b", "U8", "4", "0,4") + "}", 4), overlap},
      {"gap_between_tensors", file("{" + a + "," + tensor("b", "U8", "1", "5,6") + "}", 6), gap},
      {"gap_before_the_first", one_tensor("U8", "3", "1,4", 4), gap},
      {"bytes_after_the_last", one_tensor("U8", "4", "0,4", 5), gap},
      {"bytes_without_a_tensor", file("{}", 1), gap},
      {"header_of_4_gigabytes_in_12_bytes", with_length(0xFFFFFFFFU, "{}  "), header_length},
      {"header_of_2_to_64_bytes", with_length(~std::uint64_t{0}, "{}"), header_length},
      {"header_whose_end_wraps", with_length(~std::uint64_t{7}, "{}      "), header_length},
      {"header_one_byte_too_long", with_length(3, "{}"), truncated},
      {"header_of_no_bytes", with_length(0, ""), header_length},
      {"header_of_one_byte", with_length(1, "{"), header_length},
      {"seven_bytes", with_length(2, "").substr(0, 7), truncated},
      {"nothing", "", truncated},
      {"header_in_latin_1", file("{\"\xE9\":{}}", 0), not_utf8},
      {"half_a_surrogate_pair", file("{\"\\ud800\":{}}", 0), not_utf8},
      {"control_character_in_a_name", file(std::string_view("{\"a\0b\":{}}", 10), 0), syntax},
      {"blank_before_the_brace", file(" {}", 0), magic},
      {"array_for_a_header", file("[]", 0), magic},
      {"line_end_after_the_brace", file("{}\n", 0), syntax},
      {"second_header", file("{}{}", 0), syntax},
      {"comma_at_the_end", file("{" + a + ",}", 4), syntax},
      {"leading_zero", one_tensor("U8", "04", "0,4", 4), syntax},
      {"unknown_dtype", one_tensor("F12", "4", "0,4", 4), dtype},
      {"empty_dtype", one_tensor("", "4", "0,4", 4), dtype},
      {"lower_case_dtype", one_tensor("u8", "4", "0,4", 4), dtype},
      {"no_shape", file("{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4), member},
      {"unknown_member",
       file("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"strides\":[1]}}", 4),
       member},
      {"tensor_that_is_null", file("{\"a\":null}", 0), member},
      {"metadata_of_numbers", file("{\"__metadata__\":{\"a\":1}}", 0), member},
      {"metadata_of_objects", file("{\"__metadata__\":{\"a\":{}}}", 0), member},
      {"deep_brackets", file("{\"a\":{\"shape\":[[[[[[[[", 0), member},
  };
}

}  // namespace io_test
