// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A program's locale may group digits and write a decimal comma; no file does.

#include <cstddef>
#include <cstdint>
#include <locale>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/io/checkpoint.hpp>
#include <stiefelx/io/npy.hpp>
#include <stiefelx/io/peft_config.hpp>
#include <stiefelx/io/safetensors.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

#include "files.hpp"

namespace {

using namespace io_test;

struct grouping : std::numpunct<char> {
  char do_decimal_point() const override { return ','; }
  char do_thousands_sep() const override { return '.'; }
  std::string do_grouping() const override { return "\3"; }
};

/// The global locale of a scope.
class grouped_digits {
 public:
  grouped_digits() : before_(std::locale::global(std::locale(std::locale(), new grouping))) {}
  grouped_digits(grouped_digits const&) = delete;
  grouped_digits& operator=(grouped_digits const&) = delete;
  ~grouped_digits() { std::locale::global(before_); }

 private:
  std::locale before_;
};

/// What a call returns is the same under both locales.
template <class Call>
void expect_same(Call const& call) {
  auto const plain = call();
  grouped_digits const in_scope;
  auto const grouped = call();
  BOOST_TEST((grouped == plain));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(locale)

BOOST_AUTO_TEST_CASE(the_locale_groups_digits) {
  grouped_digits const in_scope;
  std::ostringstream text;
  text << 1234567;
  BOOST_TEST(text.str() == "1.234.567");
}

BOOST_AUTO_TEST_CASE(every_kind_of_file_is_the_same) {
  std::vector<float> const values(1234567, 1.5F);
  expect_same([&] {
    stiefelx::safetensors_writer out;
    out.add_entries("w", {1, 1234567}, std::span<float const>(values));
    return out.bytes();
  });
  expect_same([&] { return stiefelx::npy_bytes({1234567}, std::span<float const>(values)); });
  expect_same([] {
    stiefelx::checkpoint_writer to;
    to.add_number("step", -1234567);
    to.add_stream("dropout", {1234567, 7654321});
    return to.bytes();
  });
  expect_same([] {
    return stiefelx::write_peft_config({.rank = 123456, .alpha = 1234567.5, .dropout = 0.25});
  });
}

BOOST_AUTO_TEST_CASE(every_kind_of_file_is_read) {
  std::vector<float> const values(1234567, 1.5F);
  stiefelx::checkpoint_writer to;
  to.add_number("step", -1234567);
  auto const checkpoint = to.bytes();
  auto const array = stiefelx::npy_bytes({1234567}, std::span<float const>(values));
  auto const config = stiefelx::write_peft_config({.rank = 123456, .alpha = 1234567.5});
  grouped_digits const in_scope;
  BOOST_TEST(stiefelx::checkpoint_reader(std::span<std::byte const>(checkpoint)).number("step") ==
             -1234567);
  BOOST_TEST(*stiefelx::npy_file(std::span<std::byte const>(array)).header().shape.count() ==
             1234567U);
  BOOST_TEST(stiefelx::read_peft_config(config).alpha == 1234567.5);
  BOOST_TEST(stiefelx::read_peft_config(config).rank == 123456);
}

BOOST_AUTO_TEST_SUITE_END()
