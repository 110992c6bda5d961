// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception

#include <algorithm>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <Eigen/Core>

#include <stiefelx/io/safetensors.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

#include "files.hpp"
#include "safetensors_samples.hpp"

namespace {

using namespace io_test;
using stiefelx::dtype;
using stiefelx::index_t;
using stiefelx::matrix_ref;
using stiefelx::safetensors_file;
using stiefelx::safetensors_writer;

/// Entries 0, 1, 2, ... of a row-major r x d tensor "w", in a file in memory.
std::vector<std::byte> counting(std::uint64_t r, std::uint64_t d) {
  std::vector<float> values(r * d);
  for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(k);
  safetensors_writer out;
  out.add_entries("w", {r, d}, std::span<float const>(values));
  return out.bytes();
}

template <class M>
concept can_be_added =
    requires(safetensors_writer& out, M&& m) { out.add_same_indices("x", std::forward<M>(m)); };

}  // namespace

BOOST_AUTO_TEST_SUITE(safetensors)

BOOST_AUTO_TEST_CASE(rows_of_the_file_become_columns_in_any_stride) {
  auto const bytes = counting(3, 5);
  safetensors_file const file{std::span<std::byte const>(bytes)};
  std::vector<float> memory(3 * 7, -1);
  file.read_rows_as_columns("w", matrix_ref<float>{memory.data(), 5, 3, 7});
  for (index_t i = 0; i < 3; ++i) {
    for (index_t j = 0; j < 7; ++j)
      BOOST_TEST(memory[std::size_t(i * 7 + j)] == (j < 5 ? float(i * 5 + j) : -1.0F));
  }
}

BOOST_AUTO_TEST_CASE(same_indices_stay_in_any_stride_and_size) {
  // Beyond one piece of the transfer, in rows that fit and in one row that does not.
  for (auto const& [r, d] : {std::pair<index_t, index_t>{3, 5}, {300, 111}, {2, 40000}, {1, 9}}) {
    auto const bytes = counting(std::uint64_t(r), std::uint64_t(d));
    safetensors_file const file{std::span<std::byte const>(bytes)};
    index_t const stride = r + 2;
    std::vector<double> memory(std::size_t(stride * d), -1);
    file.read_same_indices("w", matrix_ref<double>{memory.data(), r, d, stride});
    index_t wrong = 0;
    for (index_t j = 0; j < d; ++j) {
      for (index_t i = 0; i < stride; ++i)
        if (memory[std::size_t(i + j * stride)] != (i < r ? double(i * d + j) : -1.0)) ++wrong;
    }
    BOOST_TEST(wrong == 0);
  }
}

BOOST_AUTO_TEST_CASE(written_matrices_come_back_from_a_file) {
  temporary_folder const folder;
  std::string const path = folder / "m.safetensors";
  Eigen::MatrixXd const a = Eigen::MatrixXd::Random(40, 30);
  Eigen::MatrixXf const b = Eigen::MatrixXf::Random(7, 200);
  Eigen::RowVectorXf const row = Eigen::RowVectorXf::Random(6);
  Eigen::VectorXd const column = Eigen::VectorXd::Random(6);
  safetensors_writer out;
  out.add_metadata("stiefelx.format", "1");
  out.add_columns_as_rows("a", a);
  out.add_same_indices("b", b);
  out.add_same_indices("part of a", a.block(3, 4, 20, 10));
  out.add_columns_as_rows("row", row);
  out.add_same_indices("column", column);
  out.write(path);

  safetensors_file const in(path);
  BOOST_TEST(in.tensors().size() == 5U);
  BOOST_TEST(in.at("a").shape.text() == "[30, 40]");
  BOOST_TEST(in.at("b").shape.text() == "[7, 200]");
  BOOST_TEST(in.at("row").shape.text() == "[6, 1]");
  BOOST_REQUIRE(in.metadata("stiefelx.format") != nullptr);
  BOOST_TEST(*in.metadata("stiefelx.format") == "1");
  BOOST_TEST(in.metadata("other") == nullptr);
  BOOST_TEST(in.find("other") == nullptr);
  Eigen::MatrixXd a2(40, 30), a3(30, 40), part = Eigen::MatrixXd::Zero(30, 30);
  Eigen::MatrixXf b2(7, 200);
  Eigen::RowVectorXf row2(6);
  Eigen::VectorXd column2(6);
  in.read_rows_as_columns("a", a2);
  in.read_same_indices("a", a3);
  in.read_same_indices("b", b2);
  in.read_same_indices("part of a", part.block(5, 6, 20, 10));
  in.read_rows_as_columns("row", row2);
  in.read_same_indices("column", column2);
  BOOST_TEST((a2 == a));
  BOOST_TEST((a3 == a.transpose()));
  BOOST_TEST((b2 == b));
  BOOST_TEST((part.block(5, 6, 20, 10) == a.block(3, 4, 20, 10)));
  BOOST_TEST(part.norm() == a.block(3, 4, 20, 10).norm());
  BOOST_TEST((row2 == row));
  BOOST_TEST((column2 == column));
  BOOST_TEST((in.entries<double>("column") == std::vector<double>(column.begin(), column.end())));
}

BOOST_AUTO_TEST_CASE(more_dimensions_are_columns_side_by_side) {
  std::vector<float> values(2 * 3 * 4);
  for (std::size_t k = 0; k < values.size(); ++k) values[k] = static_cast<float>(k);
  safetensors_writer out;
  out.add_entries("experts", {2, 3, 4}, std::span<float const>(values));
  auto const bytes = out.bytes();
  safetensors_file const in{std::span<std::byte const>(bytes)};
  Eigen::MatrixXf m(4, 6);
  in.read_rows_as_columns("experts", m);
  BOOST_TEST(m(1, 3 * 1 + 2) == float(1 * 12 + 2 * 4 + 1));
  expect_fault(format_fault::shape, "[2, 3, 4]", [&] { in.read_same_indices("experts", m); });
}

BOOST_AUTO_TEST_CASE(a_view_of_memory_copies_nothing) {
  auto const bytes = counting(3, 5);
  safetensors_file const file{std::span<std::byte const>(bytes)};
  auto const view = file.view_rows_as_columns<float>("w");
  BOOST_TEST(view.rows == 5);
  BOOST_TEST(view.cols == 3);
  BOOST_TEST(view(4, 2) == 14.0F);
  BOOST_TEST((reinterpret_cast<std::byte const*>(view.data) == bytes.data() + bytes.size() - 60));
  expect_fault(format_fault::inexact, "F32", [&] { file.view_rows_as_columns<double>("w"); });

  std::vector<std::byte> shifted(bytes.size() + 1);
  std::copy(bytes.begin(), bytes.end(), shifted.begin() + 1);
  safetensors_file const odd{std::span<std::byte const>(shifted).subspan(1)};
  expect_fault(format_fault::alignment, "multiple of 4",
               [&] { odd.view_rows_as_columns<float>("w"); });
  BOOST_TEST(odd.entries<float>("w")[14] == 14.0F);

  temporary_folder const folder;
  put(folder / "w", text_of(bytes));
  safetensors_file const closed(folder / "w");
  expect_fault(format_fault::alignment, "a view of a file",
               [&] { closed.view_rows_as_columns<float>("w"); });
}

BOOST_AUTO_TEST_CASE(entries_begin_at_a_multiple_of_64_and_bytes_repeat) {
  for (std::size_t length = 1; length < 70; ++length) {
    safetensors_writer out;
    double const value = 3;
    out.add_entries(std::string(length, 'n'), {}, std::span<double const>(&value, 1));
    auto const bytes = out.bytes();
    BOOST_TEST((bytes.size() - sizeof value) % 64 == 0U);
    BOOST_TEST((out.bytes() == bytes));
  }
}

BOOST_AUTO_TEST_CASE(order_and_metadata_are_those_of_the_calls) {
  float const one = 1;
  std::span<float const> const value(&one, 1);
  safetensors_writer out;
  out.add_metadata("z", "last");
  out.add_metadata("a", "\xC3\xA9\n\"");
  for (char const* name : {"m", "z", "a", "\xF0\x9F\x98\x80", "../../etc/passwd"})
    out.add_entries(name, {1}, value);
  auto const bytes = out.bytes();
  safetensors_file const in{std::span<std::byte const>(bytes)};
  std::string order;
  for (stiefelx::stored_tensor const& t : in.tensors()) order += t.name + " ";
  BOOST_TEST(order == "m z a \xF0\x9F\x98\x80 ../../etc/passwd ");
  BOOST_TEST(in.metadata()[0].first == "z");
  BOOST_TEST(*in.metadata("a") == "\xC3\xA9\n\"");
}

BOOST_AUTO_TEST_CASE(the_writer_refuses_what_no_reader_accepts) {
  float const one = 1;
  std::span<float const> const value(&one, 1);
  safetensors_writer out;
  out.add_entries("w", {1}, value);
  expect_fault(format_fault::duplicate_name, "'w'", [&] { out.add_entries("w", {1}, value); });
  expect_fault(format_fault::name, "__metadata__",
               [&] { out.add_entries("__metadata__", {1}, value); });
  expect_fault(format_fault::not_utf8, "UTF-8", [&] { out.add_entries("\xFF", {1}, value); });
  expect_fault(format_fault::not_utf8, "UTF-8", [&] { out.add_metadata("a", "\xED\xA0\x80"); });
  out.add_metadata("a", "");
  expect_fault(format_fault::duplicate_name, "'a'", [&] { out.add_metadata("a", ""); });
  std::complex<double> const i(0, 1);
  expect_fault(format_fault::dtype, "<c16",
               [&] { out.add_entries("i", {1}, std::span<std::complex<double> const>(&i, 1)); });
  expect_fault(format_fault::inexact, "from F32 to I32",
               [&] { out.add_entries("x", {1}, value, dtype::i32); });
  BOOST_CHECK_THROW(out.add_entries("x", {2}, value), stiefelx::shape_error);
  BOOST_CHECK_THROW(out.add_bytes("x", dtype::f64, {1}, bytes_of("abcd")), stiefelx::shape_error);
  BOOST_CHECK_THROW((stiefelx::tensor_shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), stiefelx::option_error);
  BOOST_CHECK_THROW((stiefelx::tensor_shape{~std::uint64_t{0}, 2}), stiefelx::option_error);
  BOOST_CHECK_THROW(out.add_same_indices("x", matrix_ref<float const>{&one, 2, 2, 1}),
                    stiefelx::shape_error);
  // A matrix that is gone before it is written.
  static_assert(!can_be_added<Eigen::MatrixXf>);
  static_assert(can_be_added<Eigen::MatrixXf&> && can_be_added<Eigen::MatrixXf const&>);
  static_assert(can_be_added<Eigen::Block<Eigen::MatrixXf>>);
  // What was refused left no trace.
  auto const bytes = out.bytes();
  BOOST_TEST(safetensors_file{std::span<std::byte const>(bytes)}.tensors().size() == 1U);
}

BOOST_AUTO_TEST_CASE(bytes_go_from_file_to_file) {
  auto const source = named(sound_safetensors(), "several").bytes;
  safetensors_file const in(bytes_of(source));
  std::vector<std::vector<std::byte>> contents;
  contents.reserve(in.tensors().size());
  safetensors_writer out;
  for (auto const& t : in.tensors()) {
    contents.emplace_back(t.end - t.begin);
    in.read_bytes(t.name, contents.back());
    out.add_bytes(t.name, t.type, t.shape, contents.back());
  }
  auto const bytes = out.bytes();
  safetensors_file const again{std::span<std::byte const>(bytes)};
  BOOST_TEST((again.tensors() == in.tensors()));
  BOOST_TEST((text_of(bytes).substr(bytes.size() - 34) == source.substr(source.size() - 34)));
}

BOOST_AUTO_TEST_CASE(a_file_can_be_moved_while_open) {
  temporary_folder const folder;
  put(folder / "w", text_of(counting(2, 2)));
  safetensors_file first(folder / "w");
  safetensors_file second(std::move(first));
  BOOST_TEST(second.entries<float>("w")[3] == 3.0F);
  safetensors_file third(folder / "w");
  third = std::move(second);
  BOOST_TEST(third.entries<float>("w")[3] == 3.0F);
}

BOOST_AUTO_TEST_SUITE_END()
