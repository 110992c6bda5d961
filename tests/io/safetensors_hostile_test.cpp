// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/io/flat_experts.hpp>
#include <stiefelx/io/safetensors.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

#include "files.hpp"
#include "safetensors_samples.hpp"

namespace {

using namespace io_test;
using stiefelx::index_t;
using stiefelx::safetensors_file;
using stiefelx::stored_tensor;

void read(std::string_view bytes, stiefelx::safetensors_limits limits = {}) {
  safetensors_file const file(bytes_of(bytes), limits);
}

/// Expects the sample of a name to be refused for its reason.
void expect_refused(std::string_view name) {
  auto const s = named(hostile_safetensors(), name);
  BOOST_TEST_CONTEXT(name) {
    expect_fault(s.fault, "memory: ", [&] { read(s.bytes); });
  }
}

/// Reads every byte of every tensor: an address checker sees what lies outside.
std::size_t sum_of_bytes(std::string_view bytes) {
  safetensors_file const file(bytes_of(bytes));
  std::size_t sum = 0;
  for (stored_tensor const& t : file.tensors()) {
    std::vector<std::byte> content(t.end - t.begin);
    file.read_bytes(t.name, content);
    for (std::byte const b : content) sum += static_cast<std::size_t>(b);
  }
  return sum;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(safetensors_hostile)

BOOST_AUTO_TEST_CASE(shape_product_that_wraps_is_refused) {
  expect_refused("shape_product_wraps");
  expect_refused("bytes_of_entries_wrap");
  expect_refused("product_wraps_before_a_zero");
}

BOOST_AUTO_TEST_CASE(offsets_that_do_not_fit_the_shape_are_refused) {
  expect_refused("offsets_shorter_than_shape");
  expect_refused("offsets_longer_than_shape");
}

BOOST_AUTO_TEST_CASE(negative_and_reversed_offsets_are_refused) {
  expect_refused("negative_offset");
  expect_refused("reversed_offsets");
  expect_refused("offset_at_the_end_of_64_bits");
  expect_refused("tensor_beyond_the_end");
}

BOOST_AUTO_TEST_CASE(too_many_dimensions_are_refused) {
  expect_refused("nine_dimensions");
  expect_refused("thousands_of_dimensions");
}

BOOST_AUTO_TEST_CASE(zero_dimensions_are_sound) {
  auto const s = named(sound_safetensors(), "empty");
  safetensors_file const file(bytes_of(s.bytes));
  BOOST_TEST(file.at("w").count() == 0U);
  double untouched = 7;
  constexpr stiefelx::index_t many = stiefelx::index_t{1} << 53;
  file.read_rows_as_columns("w", stiefelx::matrix_ref<double>{&untouched, many, 0, many});
  file.read_same_indices("w", stiefelx::matrix_ref<double>{&untouched, 0, many, 0});
  BOOST_TEST(untouched == 7);
}

BOOST_AUTO_TEST_CASE(duplicate_names_are_refused_at_every_level) {
  expect_refused("duplicate_tensor");
  expect_refused("duplicate_tensor_by_escape");
  expect_refused("duplicate_member");
  expect_refused("duplicate_metadata");
  expect_refused("duplicate_metadata_name");
}

BOOST_AUTO_TEST_CASE(an_empty_tensor_cannot_share_bytes_of_another) {
  expect_refused("empty_tensor_inside_another");
  expect_refused("empty_tensor_behind_the_end");
}

BOOST_AUTO_TEST_CASE(bytes_belong_to_one_tensor_each) {
  expect_refused("overlapping_tensors");
  expect_refused("same_bytes_twice");
  expect_refused("gap_between_tensors");
  expect_refused("gap_before_the_first");
  expect_refused("bytes_after_the_last");
  expect_refused("bytes_without_a_tensor");
}

BOOST_AUTO_TEST_CASE(the_length_of_the_header_is_not_believed) {
  expect_refused("header_of_4_gigabytes_in_12_bytes");
  expect_refused("header_of_2_to_64_bytes");
  expect_refused("header_whose_end_wraps");
  expect_refused("header_one_byte_too_long");
  expect_refused("header_of_no_bytes");
  // Also where the limit is at its largest.
  expect_fault(format_fault::truncated, "90000000 bytes in a file of 10",
               [] { read(with_length(90'000'000, "{}"), {.header = 100'000'000}); });
  BOOST_CHECK_THROW(read("", {.header = 100'000'001}), stiefelx::option_error);
  auto const sound = named(sound_safetensors(), "one").bytes;
  expect_fault(format_fault::header_length, "at most 10", [&] { read(sound, {.header = 10}); });
}

BOOST_AUTO_TEST_CASE(a_file_too_short_for_its_header_is_refused) {
  expect_refused("nothing");
  expect_refused("seven_bytes");
}

BOOST_AUTO_TEST_CASE(numbers_too_long_for_any_type_are_refused) {
  expect_refused("size_beyond_2_to_53");
  expect_refused("size_of_thousands_of_digits");
  expect_refused("offset_with_a_fraction");
}

BOOST_AUTO_TEST_CASE(every_defect_is_refused_for_its_reason) {
  for (sample const& s : hostile_safetensors()) expect_refused(s.name);
}

BOOST_AUTO_TEST_CASE(sound_files_are_read) {
  for (sample const& s : sound_safetensors()) {
    BOOST_TEST_CONTEXT(s.name) { BOOST_CHECK_NO_THROW(sum_of_bytes(s.bytes)); }
  }
}

BOOST_AUTO_TEST_CASE(every_beginning_of_a_file_is_refused) {
  std::string const whole = named(sound_safetensors(), "several").bytes;
  for (std::size_t k = 0; k < whole.size(); ++k) {
    BOOST_TEST_CONTEXT(k) {
      BOOST_CHECK_THROW(read(std::string_view(whole).substr(0, k)), stiefelx::format_error);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_changed_byte_gives_an_error_or_a_sound_file) {
  std::string const whole = named(sound_safetensors(), "several").bytes;
  std::size_t const header = whole.size() - 34;
  int sound = 0, refused = 0;
  for (std::size_t k = 0; k < header; ++k) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = whole;
      changed[k] = static_cast<char>(value);
      try {
        sum_of_bytes(changed);
        ++sound;
      } catch (stiefelx::format_error const&) {
        ++refused;
      }
    }
  }
  // Each byte as it is, and other letters in names, are sound.
  BOOST_TEST(sound > static_cast<int>(header));
  BOOST_TEST(refused > sound);
}

BOOST_AUTO_TEST_CASE(a_read_that_is_refused_changes_nothing) {
  temporary_folder const folder;
  std::string const path = folder / "w.safetensors";
  std::string const whole = one_tensor("F32", "2,3", "0,24", 24);
  put(path, whole);
  safetensors_file const file(path);
  std::vector<double> memory(12, 7.0);
  auto const untouched = [&] { return memory == std::vector<double>(12, 7.0); };
  std::span<double> const six(memory.data(), 6);
  stiefelx::matrix_ref<double> const m{memory.data(), 3, 2, 4}, wide{memory.data(), 2, 3, 2};

  expect_fault(format_fault::missing_tensor, "'x'", [&] { file.read_entries("x", six); });
  expect_fault(format_fault::shape, "[2, 3] is 2x3 with the same indices, expected 3x2",
               [&] { file.read_same_indices("w", m); });
  expect_fault(format_fault::shape, "[2, 3] is 3x2 with rows as columns, expected 2x3",
               [&] { file.read_rows_as_columns("w", wide); });
  expect_fault(format_fault::shape, "5 entries", [&] { file.read_entries("w", six.first(5)); });
  std::vector<std::int32_t> whole_numbers(6, 7);
  expect_fault(format_fault::inexact, "from F32 to I32", [&] {
    file.read_entries("w", std::span(whole_numbers), stiefelx::conversion::rounded);
  });
  BOOST_TEST((whole_numbers == std::vector<std::int32_t>(6, 7)));

  // The file loses its last byte while it is open.
  BOOST_REQUIRE(::truncate(path.c_str(), static_cast<::off_t>(whole.size() - 1)) == 0);
  expect_fault(format_fault::cannot_read, "bytes by now",
               [&] { file.read_rows_as_columns("w", m); });
  expect_fault(format_fault::cannot_read, path, [&] { file.read_entries("w", six); });
  BOOST_TEST(untouched());
}

BOOST_AUTO_TEST_CASE(names_are_shown_without_control_characters) {
  auto const file = safetensors("{" + tensor("\\u007f[2J\\u001bx", "U8", "4", "0,9") + "}", 9);
  expect_fault(format_fault::size, "'?[2J?x'", [&] { read(file); });
  // 79 bytes, then a character of two.
  auto const longer = safetensors(
      "{" + tensor(std::string(79, 'x') + "\xC3\xA9" + std::string(5000, 'y'), "U8", "4", "0,9") +
          "}",
      9);
  expect_fault(format_fault::size, "'" + std::string(79, 'x') + "...'", [&] { read(longer); });
}

BOOST_AUTO_TEST_CASE(names_are_text_and_never_paths) {
  temporary_folder const folder;
  // Relative to the file, it names a file that is there.
  put(folder / "w", "secret");
  for (std::string const name : {"../w", "w", "/dev/zero", "", "."}) BOOST_TEST_CONTEXT(name) {
      put(folder / "a", safetensors("{" + tensor(name, "U8", "2", "0,2") + "}", 2));
      safetensors_file const file(folder / "a");
      BOOST_TEST((file.entries<std::uint8_t>(name) == std::vector<std::uint8_t>{1, 2}));
    }
  BOOST_TEST(content(folder / "w") == "secret");
}

BOOST_AUTO_TEST_CASE(rows_without_entries_take_no_time) {
  auto const bytes = one_tensor("F32", "9007199254740992,0", "0,0", 0);
  safetensors_file const file(bytes_of(bytes));
  float none = 0;
  // Between the columns of a bank, too.
  file.read_rows_as_columns("w", stiefelx::matrix_ref<float>{&none, 0, index_t{1} << 53, 4});
  BOOST_TEST(file.entries<float>("w").empty());
  stiefelx::matrix_ref<float> up{&none, index_t{1} << 53, 0, index_t{1} << 53};
  BOOST_CHECK_NO_THROW(stiefelx::reorder_flat_experts(2, true, up));
}

BOOST_AUTO_TEST_CASE(only_regular_files_are_opened) {
  temporary_folder const folder;
  expect_fault(format_fault::cannot_open, "none.safetensors",
               [&] { safetensors_file(folder / "none.safetensors"); });
  expect_fault(format_fault::cannot_open, "regular file", [&] { safetensors_file(folder / ""); });
  expect_fault(format_fault::cannot_open, "regular file", [] { safetensors_file("/dev/zero"); });
  // A pipe without a writer would make the opening wait.
  std::string const pipe = folder / "pipe";
  BOOST_REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  expect_fault(format_fault::cannot_open, "regular file", [&] { safetensors_file{pipe}; });
}

BOOST_AUTO_TEST_CASE(a_text_file_is_read_up_to_a_limit) {
  temporary_folder const folder;
  put(folder / "a", "12345");
  BOOST_TEST(stiefelx::read_file(folder / "a") == "12345");
  BOOST_TEST(stiefelx::read_file(folder / "a", 5) == "12345");
  expect_fault(format_fault::size, "5 bytes, expected at most 4",
               [&] { stiefelx::read_file(folder / "a", 4); });
  expect_fault(format_fault::cannot_open, "No such file",
               [&] { stiefelx::read_file(folder / "b"); });
}

BOOST_AUTO_TEST_SUITE_END()
