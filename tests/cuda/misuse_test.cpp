// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Every verb with each of its arguments in a wrong size, and with each overlap that its page forbids:
// the text names function, argument, what was found and what was expected, and nothing is queued.

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <cuda/table.hpp>
#include <fake_cuda/fake.hpp>
#include <stiefelx/core/alias.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/factor.hpp>
#include <stiefelx/cuda/line_sums.hpp>
#include <stiefelx/cuda/products.hpp>
#include <stiefelx/cuda/reductions.hpp>
#include <stiefelx/cuda/routed.hpp>
#include <stiefelx/cuda/transform.hpp>

namespace {

namespace device = stiefelx::cuda;
using device::matrix_view;
using stiefelx::alias_error;
using stiefelx::index_t;
using stiefelx::inputs;
using stiefelx::no_status;
using stiefelx::outputs;
using stiefelx::shape_error;

/// A call, and all that its error says: which function refuses which argument, what it is and what
/// it should be.
struct refusal {
  std::string text;
  std::function<void()> call;
};

// Work that a call may have queued.
long queued() {
  long sum = 0;
  for (char const* symbol :
       {"launch", "cudaMemcpyAsync", "cudaMemcpy2DAsync", "cudaMemsetAsync", "cudaMemset2DAsync",
        "cublasSgemm_v2", "cublasDgemm_v2", "cublasGemmEx", "cublasSsyrk_v2", "cublasDsyrk_v2",
        "cublasStrsm_v2", "cublasDtrsm_v2"})
    sum += fake_cuda::calls(symbol);
  return sum;
}

template <class Error>
void expect_refused(std::initializer_list<refusal> list) {
  for (refusal const& m : list) {
    long const before = queued();
    std::string found = "nothing was thrown";
    try {
      m.call();
    } catch (Error const& error) {
      found = error.what();
    } catch (std::exception const& error) {
      found = std::string("another type: ") + error.what();
    }
    BOOST_TEST(found == m.text);
    BOOST_TEST(queued() == before, m.text << ": something was queued");
  }
}

struct twice {
  STIEFELX_HD void operator()(double& y, double x) const { y = 2 * x; }
};
struct copy_twice {
  STIEFELX_HD void operator()(double& y, double& z, double x) const { y = z = x; }
};

/// Matrices that fit each other and some that do not, all in device memory.
struct operands {
  device::context ctx{{.blas_workspace = 4096}};
  device::matrix<double> a = zeros<double>(ctx, 4, 3), b = zeros<double>(ctx, 4, 3),
                         turned = zeros<double>(ctx, 3, 4), square = zeros<double>(ctx, 3, 3),
                         one = zeros<double>(ctx, 1, 1), row = zeros<double>(ctx, 1, 3),
                         column = zeros<double>(ctx, 4, 1), large = zeros<double>(ctx, 9, 9);
  device::matrix<int> status = zeros<int>(ctx, 1, 1), two = zeros<int>(ctx, 2, 1);

  /// A part of the large matrix.
  matrix_view<double> part(index_t row_of, index_t rows, index_t col, index_t cols) {
    return large.middleRows(row_of, rows).middleCols(col, cols);
  }
};

BOOST_AUTO_TEST_SUITE(misuse)

BOOST_FIXTURE_TEST_CASE(matrices_and_views_refuse_sizes_without_memory, operands) {
  double* const odd = reinterpret_cast<double*>(reinterpret_cast<std::uintptr_t>(a.data()) + 4);
  index_t const far = index_t{1} << 31;
  expect_refused<shape_error>({
      {"cuda::matrix: the matrix is -1x3, expected no negative size",
       [&] { device::matrix<double>(-1, 3); }},
      {"cuda::matrix: the matrix is 2147483648x2147483648, expected at most 1152921504606846975 "
       "entries",
       [&] { scratch<float>(ctx, far, far); }},
      {"cuda::matrix: the matrix is 4x-2, expected no negative size",
       [&] { scratch<float>(ctx, 4, -2); }},
      {"cuda::matrix: the matrix is 4x-2, expected no negative size",
       [&] { zeros<int>(ctx, 4, -2); }},
      {"cuda::matrix_view: the matrix is 4x3, expected at most as many rows as its stride, which "
       "is 3",
       [&] { matrix_view<double>(a.data(), 4, 3, 3); }},
      {"cuda::matrix_view: the matrix is 4x-3, expected no negative size",
       [&] { matrix_view<double>(a.data(), 4, -3); }},
      {"cuda::matrix_view: the matrix is 4x3, expected an address, found null",
       [&] { matrix_view<double>(nullptr, 4, 3); }},
      {"cuda::matrix_view: the matrix is 3x2, expected an address that is a multiple of 8",
       [&] { matrix_view<double>(odd, 3, 2); }},
      {"middleCols: the matrix is 4x3, expected columns 2 to 4", [&] { a.middleCols(2, 2); }},
      {"middleRows: the matrix is 4x3, expected rows -1 to 1", [&] { a.middleRows(-1, 2); }},
      {"queue_conversion: to is 3x4, expected 4x3",
       [&] { device::queue_conversion<double>(ctx.queue, ref(std::as_const(a)), ref(turned)); }},
      {"queue_transpose: to is 4x3, expected 3x4",
       [&] { device::queue_transpose<double>(ctx.queue, ref(std::as_const(a)), ref(b)); }},
  });
}

BOOST_FIXTURE_TEST_CASE(transfers_refuse_by_name, operands) {
  expect_refused<shape_error>({
      {"copy: b is 3x4, expected 4x3", [&] { copy(ctx, a, turned); }},
      {"copy: b is 4x3, expected 3x4", [&] { copy(ctx, a.adjoint(), b); }},
      {"value: s is 1x3, expected 1x1", [&] { value(ctx, row); }},
  });
  expect_refused<alias_error>({
      {"copy: b overlaps a, expected the same matrix or separate memory",
       [&] { copy(ctx, part(0, 4, 0, 3), part(1, 4, 0, 3)); }},
      {"copy: b overlaps a, expected the same matrix or separate memory",
       [&] { copy(ctx, square.adjoint(), square); }},
  });
}

BOOST_FIXTURE_TEST_CASE(elementwise_verbs_refuse_by_name, operands) {
  expect_refused<shape_error>({
      {"scale: c is 1x3, expected 1x1", [&] { scale(ctx, row, b); }},
      {"axpy: a is 3x4, expected 4x3", [&] { axpy(ctx, 2, turned, b); }},
      {"axpy: c is 1x3, expected 1x1", [&] { axpy(ctx, row, a, b); }},
      {"symmetrize: s is 4x3, expected 4x4", [&] { symmetrize(ctx, a); }},
      {"copy_if: s is 1x3, expected 1x1", [&] { copy_if(ctx, row, a, b); }},
      {"copy_if: a is 3x4, expected 4x3", [&] { copy_if(ctx, one, turned, b); }},
      {"scale_columns: w is 4x1, expected 1x3", [&] { scale_columns(ctx, column, b); }},
      {"raise: status is 2x1, expected 1x1", [&] { raise(ctx, two, 1); }},
      {"raise: status is 2x1, expected 1x1", [&] { raise(ctx, two, status); }},
      {"transform: an output is 3x4, expected 4x3",
       [&] { transform(ctx, copy_twice{}, outputs(b, turned), inputs(a)); }},
      {"transform: an input is 3x4, expected 4x3",
       [&] { transform(ctx, twice{}, outputs(b), inputs(turned)); }},
  });
  expect_refused<alias_error>({
      {"axpy: b overlaps a, expected the same matrix or separate memory",
       [&] { axpy(ctx, 2, part(0, 4, 0, 3), part(1, 4, 0, 3)); }},
      {"copy_if: b overlaps s, expected separate memory",
       [&] { copy_if(ctx, b.middleRows(0, 1).middleCols(0, 1), a, b); }},
      {"copy_if: b overlaps a, expected the same matrix or separate memory",
       [&] { copy_if(ctx, one, part(0, 4, 0, 3), part(1, 4, 0, 3)); }},
      {"scale_columns: h overlaps w, expected separate memory",
       [&] { scale_columns(ctx, b.middleRows(0, 1), b); }},
      {"transform: an output overlaps an input, expected the same matrix or separate memory",
       [&] { transform(ctx, twice{}, outputs(part(0, 4, 0, 3)), inputs(part(1, 4, 0, 3))); }},
      {"transform: an output overlaps an input, expected separate memory",
       [&] { transform(ctx, twice{}, outputs(b), inputs(b.middleRows(1, 1).middleCols(1, 1))); }},
  });
}

BOOST_FIXTURE_TEST_CASE(sums_refuse_by_name, operands) {
  expect_refused<shape_error>({
      {"inner: b is 3x4, expected 4x3", [&] { inner(ctx, a, turned, one); }},
      {"inner: s is 1x3, expected 1x1", [&] { inner(ctx, a, b, row); }},
      {"norm: s is 1x3, expected 1x1", [&] { norm(ctx, a, row); }},
      {"all_finite: s is 1x3, expected 1x1", [&] { all_finite(ctx, a, row); }},
      {"column_inner: b is 3x4, expected 4x3", [&] { column_inner(ctx, a, turned, row); }},
      {"column_inner: w is 4x1, expected 1x3", [&] { column_inner(ctx, a, b, column); }},
      {"sum_columns: w is 1x3, expected 4x1", [&] { sum_columns(ctx, a, row); }},
  });
  auto const corner = [](auto& x) { return x.middleRows(0, 1).middleCols(0, 1); };
  expect_refused<alias_error>({
      {"inner: s overlaps a, expected separate memory", [&] { inner(ctx, a, b, corner(a)); }},
      {"inner: s overlaps b, expected separate memory", [&] { inner(ctx, a, b, corner(b)); }},
      {"norm: s overlaps a, expected separate memory", [&] { norm(ctx, a, corner(a)); }},
      {"all_finite: s overlaps a, expected separate memory",
       [&] { all_finite(ctx, a, corner(a)); }},
      {"column_inner: w overlaps a, expected separate memory",
       [&] { column_inner(ctx, a, b, a.middleRows(1, 1)); }},
      {"column_inner: w overlaps b, expected separate memory",
       [&] { column_inner(ctx, a, b, b.middleRows(1, 1)); }},
      {"sum_columns: w overlaps a, expected separate memory",
       [&] { sum_columns(ctx, a, a.middleCols(1, 1)); }},
  });
}

BOOST_FIXTURE_TEST_CASE(products_refuse_by_name, operands) {
  matrix_view<double> const far(a.data(), 4, 3, index_t{1} << 31);
  matrix_view<double> far_out(a.data(), 4, 3, index_t{1} << 31);
  std::string const limit = "sizes and a stride of at most 2147483647 for cuBLAS";
  expect_refused<shape_error>({
      {"multiply: b is 4x3, expected 3x3", [&] { multiply(ctx, a, b, a); }},
      {"multiply: c is 3x4, expected 4x3", [&] { multiply(ctx, a, square, turned); }},
      {"multiply_add: b is 4x3, expected 3x3", [&] { multiply_add(ctx, 2, a, b, a); }},
      {"multiply_add: c is 3x4, expected 4x3", [&] { multiply_add(ctx, 2, a, square, turned); }},
      {"multiply_add: s is 1x3, expected 1x1", [&] { multiply_add(ctx, row, a, square, b); }},
      {"product: b is 4x3, expected 3x3", [&] { product(ctx, a, b); }},
      {"solve_right: r is 4x3, expected 3x3", [&] { solve_right(ctx, a, b); }},
      {"multiply: a is 4x3, expected " + limit, [&] { multiply(ctx, far, square, b); }},
      {"multiply: b is 3x4, expected " + limit,
       [&] { multiply(ctx, b, far.adjoint(), large.middleRows(0, 4).middleCols(0, 4)); }},
      {"multiply: c is 4x3, expected " + limit, [&] { multiply(ctx, b, square, far_out); }},
      {"gram: y is 4x3, expected " + limit, [&] { gram(ctx, far); }},
      {"solve_right: y is 4x3, expected " + limit, [&] { solve_right(ctx, square, far_out); }},
  });
  expect_refused<alias_error>({
      {"multiply: c overlaps a, expected separate memory", [&] { multiply(ctx, a, square, a); }},
      {"multiply: c overlaps b, expected separate memory",
       [&] { multiply(ctx, square, turned, turned); }},
      {"multiply_add: c overlaps a, expected separate memory",
       [&] { multiply_add(ctx, 2, a, square, a); }},
      {"multiply_add: c overlaps b, expected separate memory",
       [&] { multiply_add(ctx, 2, square, turned, turned); }},
      {"multiply_add: c overlaps s, expected separate memory",
       [&] { multiply_add(ctx, b.middleRows(0, 1).middleCols(0, 1), a, square, b); }},
      {"solve_right: y overlaps r, expected separate memory",
       [&] { solve_right(ctx, part(1, 3, 0, 3), part(0, 4, 0, 3)); }},
  });
}

BOOST_FIXTURE_TEST_CASE(factors_refuse_by_name, operands) {
  expect_refused<shape_error>({
      {"cholesky: g is 4x3, expected 3x3", [&] { cholesky(ctx, a, status); }},
      {"cholesky: status is 2x1, expected 1x1", [&] { cholesky(ctx, square, two); }},
      {"solve: a is 4x3, expected 3x3", [&] { solve(ctx, a, b, no_status{}); }},
      {"solve: b is 4x3, expected 3x3", [&] { solve(ctx, square, b, no_status{}); }},
      {"solve: status is 2x1, expected 1x1", [&] { solve(ctx, square, turned, two); }},
  });
  expect_refused<alias_error>({
      {"solve: b overlaps a, expected separate memory",
       [&] { solve(ctx, part(0, 3, 0, 3), part(0, 3, 2, 2), no_status{}); }},
  });
}

// Two slots a token, five tokens of width 4, three experts of rank 2.
BOOST_FIXTURE_TEST_CASE(routed_products_refuse_by_name, operands) {
  auto ids = zeros<int>(ctx, 2, 5);
  auto experts = zeros<double>(ctx, 4, 6), rows = zeros<double>(ctx, 6, 4),
       x = zeros<double>(ctx, 4, 5), h = zeros<double>(ctx, 4, 5), seven = zeros<double>(ctx, 4, 7),
       tall = zeros<double>(ctx, 7, 4), other = zeros<double>(ctx, 5, 5);
  std::string const parts = "h is 5x5, expected a multiple of 2 rows and 5 columns";
  expect_refused<shape_error>({
      {"routed_multiply: x is 5x5, expected 4x5",
       [&] { routed_multiply(ctx, ids, experts, other, h); }},
      {"routed_multiply: " + parts, [&] { routed_multiply(ctx, ids, experts, x, other); }},
      {"routed_multiply: a is 4x7, expected a multiple of 2 columns",
       [&] { routed_multiply(ctx, ids, seven, x, h); }},
      {"routed_multiply_add: y is 5x5, expected 4x5",
       [&] { routed_multiply_add(ctx, 1, ids, experts, h, other); }},
      {"routed_multiply_add: " + parts,
       [&] { routed_multiply_add(ctx, 1, ids, experts, other, x); }},
      {"routed_multiply_add: a is 4x7, expected a multiple of 2 columns",
       [&] { routed_multiply_add(ctx, 1, ids, seven, h, x); }},
      {"routed_multiply_add: s is 1x3, expected 1x1",
       [&] { routed_multiply_add(ctx, row, ids, experts, h, x); }},
      {"routed_outer_add: x is 5x5, expected 4x5",
       [&] { routed_outer_add(ctx, 1, ids, other, h, experts); }},
      {"routed_outer_add: " + parts, [&] { routed_outer_add(ctx, 1, ids, x, other, experts); }},
      {"routed_outer_add: a is 4x7, expected a multiple of 2 columns",
       [&] { routed_outer_add(ctx, 1, ids, x, h, seven); }},
      {"routed_outer_add: s is 1x3, expected 1x1",
       [&] { routed_outer_add(ctx, row, ids, x, h, experts); }},
      {"routed_adjoint_outer_add: x is 5x5, expected 4x5",
       [&] { routed_adjoint_outer_add(ctx, 1, ids, h, other, rows); }},
      {"routed_adjoint_outer_add: " + parts,
       [&] { routed_adjoint_outer_add(ctx, 1, ids, other, x, rows); }},
      {"routed_adjoint_outer_add: b is 7x4, expected a multiple of 2 rows",
       [&] { routed_adjoint_outer_add(ctx, 1, ids, h, x, tall); }},
      {"routed_adjoint_outer_add: s is 1x3, expected 1x1",
       [&] { routed_adjoint_outer_add(ctx, row, ids, h, x, rows); }},
  });
  expect_refused<alias_error>({
      {"routed_multiply: h overlaps a, expected separate memory",
       [&] { routed_multiply(ctx, ids, experts, x, experts.middleCols(0, 5)); }},
      {"routed_multiply: h overlaps x, expected separate memory",
       [&] { routed_multiply(ctx, ids, experts, x, x); }},
      {"routed_multiply_add: y overlaps a, expected separate memory",
       [&] { routed_multiply_add(ctx, 1, ids, experts, h, experts.middleCols(1, 5)); }},
      {"routed_multiply_add: y overlaps h, expected separate memory",
       [&] { routed_multiply_add(ctx, 1, ids, experts, h, h); }},
      {"routed_outer_add: a overlaps x, expected separate memory",
       [&] { routed_outer_add(ctx, 1, ids, experts.middleCols(0, 5), h, experts); }},
      {"routed_outer_add: a overlaps h, expected separate memory",
       [&] { routed_outer_add(ctx, 1, ids, x, experts.middleCols(0, 5), experts); }},
      {"routed_adjoint_outer_add: b overlaps x, expected separate memory",
       [&] { routed_adjoint_outer_add(ctx, 1, ids, h, part(0, 4, 0, 5), part(0, 6, 2, 4)); }},
      {"routed_adjoint_outer_add: b overlaps h, expected separate memory",
       [&] { routed_adjoint_outer_add(ctx, 1, ids, part(0, 4, 0, 5), x, part(0, 6, 2, 4)); }},
  });
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
