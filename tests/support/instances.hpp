// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>

#include <stiefelx/host/factor.hpp>
#include <stiefelx/host/gram_schmidt.hpp>
#include <stiefelx/host/multiply.hpp>
#include <stiefelx/host/routed.hpp>

/// \file
/// \brief What nearly every test computes with on the host, compiled once, in instances.cpp.
///
/// Products, factors and solves of dynamic sizes end in functions of plain memory that depend on the
/// scalar alone. Compiled anew they are a third of a test. Programs that link instances.cpp define
/// STIEFELX_TEST_INSTANCES; every other one compiles what it uses.

#if defined(STIEFELX_TEST_DEFINES_INSTANCES)
#define STIEFELX_TEST_INSTANCE template
#else
#define STIEFELX_TEST_INSTANCE extern template
#endif

namespace stiefelx::simd {

STIEFELX_TEST_INSTANCE void gram(std::ptrdiff_t, std::ptrdiff_t, float const*, std::ptrdiff_t,
                                 float*, std::ptrdiff_t, float*);
STIEFELX_TEST_INSTANCE void gram(std::ptrdiff_t, std::ptrdiff_t, double const*, std::ptrdiff_t,
                                 double*, std::ptrdiff_t, double*);
STIEFELX_TEST_INSTANCE int cholesky(std::ptrdiff_t, float*, std::ptrdiff_t, float*);
STIEFELX_TEST_INSTANCE int cholesky(std::ptrdiff_t, double*, std::ptrdiff_t, double*);
STIEFELX_TEST_INSTANCE void solve_right(std::ptrdiff_t, std::ptrdiff_t, float const*,
                                        std::ptrdiff_t, float*, std::ptrdiff_t, float*);
STIEFELX_TEST_INSTANCE void solve_right(std::ptrdiff_t, std::ptrdiff_t, double const*,
                                        std::ptrdiff_t, double*, std::ptrdiff_t, double*);

}  // namespace stiefelx::simd

namespace stiefelx::host::detail {

// An operand as it is, its transpose, its adjoint.
template <class S>
using as_it_is = operand<S, Eigen::ColMajor, false>;
template <class S>
using transposed = operand<S, Eigen::RowMajor, false>;
template <class S>
using adjoint_of = operand<S, Eigen::RowMajor, true>;

STIEFELX_TEST_INSTANCE void compute_product(context&, float, as_it_is<float>, as_it_is<float>,
                                            plain_view<float>, bool);
STIEFELX_TEST_INSTANCE void compute_product(context&, float, transposed<float>, as_it_is<float>,
                                            plain_view<float>, bool);
STIEFELX_TEST_INSTANCE void compute_product(context&, float, as_it_is<float>, transposed<float>,
                                            plain_view<float>, bool);
STIEFELX_TEST_INSTANCE void compute_product(context&, float, transposed<float>, transposed<float>,
                                            plain_view<float>, bool);
STIEFELX_TEST_INSTANCE void compute_product(context&, double, as_it_is<double>, as_it_is<double>,
                                            plain_view<double>, bool);
STIEFELX_TEST_INSTANCE void compute_product(context&, double, transposed<double>, as_it_is<double>,
                                            plain_view<double>, bool);
STIEFELX_TEST_INSTANCE void compute_product(context&, double, as_it_is<double>, transposed<double>,
                                            plain_view<double>, bool);
STIEFELX_TEST_INSTANCE void compute_product(context&, double, transposed<double>,
                                            transposed<double>, plain_view<double>, bool);

using complex = std::complex<double>;
STIEFELX_TEST_INSTANCE void compute_product(context&, complex, as_it_is<complex>, as_it_is<complex>,
                                            plain_view<complex>, bool);
STIEFELX_TEST_INSTANCE void compute_product(context&, complex, adjoint_of<complex>,
                                            as_it_is<complex>, plain_view<complex>, bool);
STIEFELX_TEST_INSTANCE void compute_product(context&, complex, as_it_is<complex>,
                                            adjoint_of<complex>, plain_view<complex>, bool);

STIEFELX_TEST_INSTANCE int cholesky_by_blocks(context&, plain_view<float>&);
STIEFELX_TEST_INSTANCE int cholesky_by_blocks(context&, plain_view<double>&);
STIEFELX_TEST_INSTANCE int cholesky_by_blocks(context&, plain_view<complex>&);
STIEFELX_TEST_INSTANCE int solve_by_blocks(context&, plain_view<float>&, plain_view<float>&);
STIEFELX_TEST_INSTANCE int solve_by_blocks(context&, plain_view<double>&, plain_view<double>&);
STIEFELX_TEST_INSTANCE int solve_by_blocks(context&, plain_view<complex>&, plain_view<complex>&);
STIEFELX_TEST_INSTANCE void solve_right_by_blocks(context&, plain_const_view<float>&,
                                                  plain_view<float>&);
STIEFELX_TEST_INSTANCE void solve_right_by_blocks(context&, plain_const_view<double>&,
                                                  plain_view<double>&);
STIEFELX_TEST_INSTANCE void solve_right_by_blocks(context&, plain_const_view<complex>&,
                                                  plain_view<complex>&);

STIEFELX_TEST_INSTANCE void routed_dots(context&, routing_sizes const&, matrix_ref<int const>,
                                        simd::expert_columns<float>, matrix_ref<float const>,
                                        matrix_ref<float>);
STIEFELX_TEST_INSTANCE void routed_dots(context&, routing_sizes const&, matrix_ref<int const>,
                                        simd::expert_columns<double>, matrix_ref<double const>,
                                        matrix_ref<double>);
STIEFELX_TEST_INSTANCE void routed_sums(context&, routing_sizes const&, float,
                                        matrix_ref<int const>, simd::expert_columns<float>,
                                        matrix_ref<float const>, bool, matrix_ref<float>);
STIEFELX_TEST_INSTANCE void routed_sums(context&, routing_sizes const&, double,
                                        matrix_ref<int const>, simd::expert_columns<double>,
                                        matrix_ref<double const>, bool, matrix_ref<double>);

}  // namespace stiefelx::host::detail
