// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Element text over runs of entries: every layout and length gives what plain loops give.

#include <Eigen/Core>
#include <boost/test/unit_test.hpp>

#include <stiefelx/core/transform.hpp>
#include <stiefelx/host/batch.hpp>
#include <support/data.hpp>
#include <support/guarded.hpp>

namespace {

using namespace support;
using stiefelx::inputs;
using stiefelx::outputs;
using stiefelx::host::context;

/// y = x + c y; z = y where x is positive, else it stays.
struct mixing_element {
  double weight;
  void operator()(double& y, float& z, float const& x, double const& c) const {
    y = weight * static_cast<double>(x) + c * y;
    if (x > 0) z = static_cast<float>(y);
  }
};

/// Whether mixing_element on these is what loops give; c is 1 x 1 or of y's shape.
template <class Y, class Z, class X, class C>
bool is_as_by_loops(Y&& y, Z&& z, X const& x, C const& c) {
  context ctx;
  matrix_x<double> expected_y = y;
  matrix_x<float> expected_z = z;
  mixing_element const element{2};
  bool const broadcast = c.size() == 1;
  for (index_t j = 0; j < y.cols(); ++j)
    for (index_t i = 0; i < y.rows(); ++i)
      element(expected_y(i, j), expected_z(i, j), x(i, j), broadcast ? c(0, 0) : c(i, j));
  transform(ctx, element, outputs(y, z), inputs(x, c));
  // The weight is a power of two, so a product and a sum round alike fused or not.
  return (y.array() - expected_y.array()).abs().maxCoeff() <= 1e-15 * expected_y.norm() &&
         (z.array() - expected_z.array()).abs().maxCoeff() <= 1e-6F * expected_z.norm();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(transform_runs)

BOOST_AUTO_TEST_CASE(every_length_of_a_column_or_a_row_is_covered) {
  for (index_t const size : {1, 2, 127, 128, 129, 255, 256, 300})
    for (bool const tall : {true, false}) {
      index_t const n = tall ? size : 1, p = tall ? 1 : size;
      BOOST_TEST_INFO_SCOPE(n << "x" << p);
      matrix_x<double> const c = random_matrix<double>(n, p, 1), one = c.topLeftCorner(1, 1);
      matrix_x<float> const x = random_matrix<float>(n, p, 2);
      matrix_x<double> y = random_matrix<double>(n, p, 3);
      matrix_x<float> z = random_matrix<float>(n, p, 4);
      BOOST_TEST(is_as_by_loops(y, z, x, c));
      BOOST_TEST(is_as_by_loops(y, z, x, one));
    }
}

BOOST_AUTO_TEST_CASE(columns_with_gaps_keep_their_gaps) {
  using map = Eigen::Map<matrix_x<double>, Eigen::Unaligned, Eigen::OuterStride<>>;
  for (index_t const n : {1, 5, 140}) {
    BOOST_TEST_INFO_SCOPE(n << " rows");
    guarded<double> memory(n, 3, 1, 2);
    map y(memory.data(), n, 3, Eigen::OuterStride<>(memory.stride));
    y = random_matrix<double>(n, 3, 1);
    matrix_x<float> z = random_matrix<float>(n, 3, 2);
    matrix_x<float> const wide = random_matrix<float>(n + 2, 3, 3);
    matrix_x<double> const c = random_matrix<double>(2 * n, 3, 4);
    BOOST_TEST(is_as_by_loops(y, z, wide.topRows(n), c.bottomRows(n)));
    matrix_x<double> adjacent = y;
    BOOST_TEST(is_as_by_loops(adjacent, z, wide.topRows(n), c.bottomRows(n)));
    // Expressions and row-major outputs go by way of copies.
    Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows = y;
    BOOST_TEST(is_as_by_loops(rows, z, -wide.bottomRows(n), 2 * c.topRows(n)));
    BOOST_TEST(memory.is_intact());
  }
}

BOOST_AUTO_TEST_CASE(an_input_may_be_an_output) {
  context ctx;
  for (index_t const n : {1, 130}) {
    matrix_x<double> y = random_matrix<double>(n, 3, 1);
    matrix_x<float> z = random_matrix<float>(n, 3, 2);
    matrix_x<double> const given = y;
    matrix_x<float> const x = z;
    transform(ctx, mixing_element{2}, outputs(y, z), inputs(z, y));
    matrix_x<double> const expected = 2 * x.cast<double>() + given.cwiseProduct(given);
    BOOST_TEST((y - expected).norm() <= 1e-15 * expected.norm());
    BOOST_TEST((z - (x.array() > 0).select(expected.cast<float>(), x)).norm() <= 1e-6F * z.norm());
  }
}

BOOST_AUTO_TEST_SUITE_END()
