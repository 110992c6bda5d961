// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <complex>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <Eigen/Core>

#include <stiefelx/io/npy.hpp>

#include "files.hpp"
#include "npy_samples.hpp"

namespace {

using namespace io_test;
using stiefelx::dtype;
using stiefelx::npy_bytes;
using stiefelx::npy_file;
using stiefelx::write_npy;

void read(std::string_view bytes) { npy_file const file(bytes_of(bytes)); }

std::size_t sum_of_bytes(std::string_view bytes) {
  npy_file const file(bytes_of(bytes));
  auto const& header = file.header();
  std::size_t sum = 0;
  stiefelx::detail::visit_dtype(header.type, [&]<class T>(stiefelx::detail::entry_tag<T>) {
    auto const count = *header.shape.count();
    auto const values = std::make_unique<T[]>(count);
    file.read_entries(std::span<T>(values.get(), count));
    for (std::byte const b : std::as_bytes(std::span<T>(values.get(), count)))
      sum += static_cast<std::size_t>(b);
  });
  return sum;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(npy)

// The bytes that NumPy 2.2 writes for np.arange(6, dtype='<i2').reshape(2, 3).
BOOST_AUTO_TEST_CASE(a_file_of_numpy_is_read_in_both_orders) {
  std::string text = "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }";
  text.resize(117, ' ');
  auto const at = [](int k) { return std::string{static_cast<char>(k), '\0'}; };
  std::string const file = npy_version_1(text, 0) + at(0) + at(1) + at(2) + at(3) + at(4) + at(5);
  BOOST_REQUIRE(file.size() == 128U + 12U);
  npy_file const in(bytes_of(file));
  BOOST_TEST((in.header().type == dtype::i16));
  BOOST_TEST(!in.header().fortran_order);
  BOOST_TEST(in.header().shape.text() == "[2, 3]");
  Eigen::MatrixXd same(2, 3), turned(3, 2), expected(2, 3);
  expected << 0, 1, 2, 3, 4, 5;
  in.read_same_indices(same);
  in.read_rows_as_columns(turned);
  BOOST_TEST((same == expected));
  BOOST_TEST((turned == expected.transpose()));

  text.replace(text.find("False, "), 7, "True,  ");
  std::string const fortran =
      npy_version_1(text, 0) + at(0) + at(3) + at(1) + at(4) + at(2) + at(5);
  npy_file const other(bytes_of(fortran));
  other.read_same_indices(same);
  other.read_rows_as_columns(turned);
  BOOST_TEST((same == expected));
  BOOST_TEST((turned == expected.transpose()));
}

BOOST_AUTO_TEST_CASE(written_bytes_are_those_of_the_format) {
  Eigen::MatrixXf a(2, 2);
  a << 1, 2, 3, 4;
  std::string header = "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }";
  header.resize(117, ' ');
  BOOST_TEST(text_of(npy_bytes(a)).substr(0, 128) == npy_version_1(header, 0));
  auto const bytes = npy_bytes(a);
  BOOST_TEST(bytes.size() == 128U + 16U);
  float second = 0;
  std::memcpy(&second, bytes.data() + 132, 4);
  BOOST_TEST(second == 3.0F);
  std::uint8_t const flags[3] = {1, 2, 3};
  auto const vector = text_of(npy_bytes({3}, std::span<std::uint8_t const>(flags)));
  BOOST_TEST(vector.find("'descr': '|u1', 'fortran_order': False, 'shape': (3,), }") == 11U);
  auto const number = text_of(npy_bytes({}, std::span<std::uint8_t const>(flags, 1)));
  BOOST_TEST(number.find("'shape': (), }") != number.npos);
  BOOST_CHECK_THROW(npy_bytes({2}, std::span<std::uint8_t const>(flags)), stiefelx::shape_error);
  expect_fault(format_fault::dtype, "BF16", [&] { npy_bytes(a, dtype::bf16); });
}

BOOST_AUTO_TEST_CASE(matrices_come_back_from_a_file) {
  temporary_folder const folder;
  std::string const path = folder / "a.npy";
  Eigen::MatrixXcd const a = Eigen::MatrixXcd::Random(9, 8);
  write_npy(path, a.block(1, 2, 5, 6));
  npy_file const in(path);
  Eigen::MatrixXcd b(5, 6), c(6, 5);
  in.read_same_indices(b);
  in.read_rows_as_columns(c);
  BOOST_TEST((b == a.block(1, 2, 5, 6)));
  BOOST_TEST((c == b.transpose()));
  Eigen::MatrixXd real(5, 6);
  real.setConstant(7);
  expect_fault(format_fault::inexact, "<c16", [&] { in.read_same_indices(real); });
  expect_fault(format_fault::shape, "expected 6x5", [&] { in.read_same_indices(c); });
  expect_fault(format_fault::shape, "expected 5x6", [&] { in.read_rows_as_columns(b); });
  BOOST_TEST((real.array() == 7).all());

  std::vector<double> const values{1, 2, 3};
  write_npy(path, {3}, std::span<double const>(values), dtype::f16);
  Eigen::VectorXf column(3);
  npy_file(path).read_same_indices(column);
  BOOST_TEST(column(2) == 3.0F);
}

BOOST_AUTO_TEST_CASE(more_dimensions_are_columns_only_in_c_order) {
  auto const three = named(sound_npy(), "three").bytes;
  npy_file const in(bytes_of(three));
  Eigen::MatrixXf m(3, 2);
  in.read_rows_as_columns(m);
  std::vector<stiefelx::float16> halves(6);
  in.read_entries(std::span(halves));
  BOOST_TEST(m(2, 1) == float(halves[5]));
  BOOST_TEST(m(0, 1) == float(halves[3]));
  auto const fortran =
      npy_version_1("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 1, 3), }", 24);
  npy_file const other(bytes_of(fortran));
  expect_fault(format_fault::shape, "Fortran", [&] { other.read_rows_as_columns(m); });
  expect_fault(format_fault::shape, "two dimensions", [&] { other.read_same_indices(m); });
}

BOOST_AUTO_TEST_CASE(sound_files_are_read) {
  for (sample const& s : sound_npy()) {
    BOOST_TEST_CONTEXT(s.name) { BOOST_CHECK_NO_THROW(sum_of_bytes(s.bytes)); }
  }
}

BOOST_AUTO_TEST_CASE(every_defect_is_refused_for_its_reason) {
  for (sample const& s : hostile_npy()) {
    BOOST_TEST_CONTEXT(s.name) {
      expect_fault(s.fault, "memory: ", [&] { read(s.bytes); });
    }
  }
}

BOOST_AUTO_TEST_CASE(every_beginning_of_a_file_is_refused) {
  for (char const* name : {"matrix", "version_3"}) {
    std::string const whole = named(sound_npy(), name).bytes;
    for (std::size_t k = 0; k < whole.size(); ++k) {
      BOOST_TEST_CONTEXT(k) {
        BOOST_CHECK_THROW(read(std::string_view(whole).substr(0, k)), stiefelx::format_error);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_changed_byte_gives_an_error_or_a_sound_file) {
  std::string const whole = named(sound_npy(), "matrix").bytes;
  std::size_t const header = whole.size() - 24;
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
  BOOST_TEST(sound >= static_cast<int>(header));
  BOOST_TEST(refused > sound);
}

BOOST_AUTO_TEST_SUITE_END()
