// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <complex>
#include <tuple>

#include <Eigen/Core>

// nvcc does not compile the host's own headers; a program for a GPU tests the device alone.
#if defined(__CUDACC__)
#include <support/device_only.hpp>
#else
#include <stiefelx/host/batch.hpp>
#include <stiefelx/host/context.hpp>
#include <stiefelx/host/factor.hpp>
#include <stiefelx/host/multiply.hpp>
#include <stiefelx/host/routed.hpp>
#include <stiefelx/host/verbs.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>
#if defined(STIEFELX_TEST_INSTANCES)
#include <support/instances.hpp>
#endif
#endif
#if defined(STIEFELX_TEST_ON_DEVICE)
#include <support/device_backend.hpp>
#endif

/// What the tests share: backends, type lists, comparison, tolerances and matrices.
///
/// Oracles and test matrices are Eigen's. A typed test uploads them to its backend, runs, and
/// downloads what it compares.
namespace support {

using stiefelx::index_t;

/// A matrix of the tests.
template <class S>
using matrix_x = Eigen::Matrix<S, Eigen::Dynamic, Eigen::Dynamic>;

#if !defined(__CUDACC__)

/// The library's own backend.
struct host_backend {
  using context = stiefelx::host::context;
  template <class S>
  using matrix = matrix_x<S>;

  /// An owning matrix of the backend with a's entries.
  template <class A>
  static matrix<typename A::Scalar> upload(context&, Eigen::MatrixBase<A> const& a) {
    return a;
  }

  /// The entries of a matrix, view or adjoint of the backend.
  template <class A>
  static matrix_x<stiefelx::scalar_t<A>> download(context&, A const& a) {
    return a;
  }
};

/// The backend that promises nothing beyond the library's pages.
struct archetype_backend {
  using context = archetype::context;
  template <class S>
  using matrix = archetype::matrix<S>;

  /// An owning matrix of the backend with a's entries.
  template <class A>
  static matrix<typename A::Scalar> upload(context& ctx, Eigen::MatrixBase<A> const& a) {
    matrix_x<typename A::Scalar> const source = a;
    auto made = zeros<typename A::Scalar>(ctx, source.rows(), source.cols());
    for (index_t j = 0; j < source.cols(); ++j)
      for (index_t i = 0; i < source.rows(); ++i) archetype::access::at(made, i, j) = source(i, j);
    return made;
  }

  /// The entries of a matrix, view or adjoint of the backend.
  template <class A>
  static matrix_x<stiefelx::scalar_t<A>> download(context& ctx, A const& a) {
    ctx.check();
    matrix_x<stiefelx::scalar_t<A>> target(a.rows(), a.cols());
    for (index_t j = 0; j < a.cols(); ++j)
      for (index_t i = 0; i < a.rows(); ++i) target(i, j) = archetype::access::get(a, i, j);
    return target;
  }
};

#endif

/// What a typed test is run with.
template <class Backend, class S>
struct test_case {
  using backend = Backend;
  using context = typename Backend::context;
  using scalar = S;
  using real = stiefelx::real_of_t<S>;
  using matrix = typename Backend::template matrix<S>;
};

#if defined(__CUDACC__)

/// The device has real scalars alone, and runs the real case a second time.
template <class Backend, class R>
struct test_case<Backend, std::complex<R>> : test_case<Backend, R> {};

#endif

#if defined(STIEFELX_TEST_ON_DEVICE)

/// A build for the device runs the same tests there; its scalars are real.
using real_cases = std::tuple<test_case<device_backend, float>, test_case<device_backend, double>>;
using complex_cases = real_cases;
using double_cases = std::tuple<test_case<device_backend, double>>;

#elif defined(STIEFELX_TEST_HOST_ALONE)

/// What another build runs on the device is run here on the host alone; the scalar that the device
/// lacks stays with the second backend too.
using real_cases = std::tuple<test_case<host_backend, float>, test_case<host_backend, double>>;
using complex_cases = std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
                                 test_case<host_backend, std::complex<double>>,
                                 test_case<archetype_backend, std::complex<double>>>;
using double_cases = std::tuple<test_case<host_backend, double>>;

#else

/// Both backends with float and double.
using real_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
               test_case<archetype_backend, float>, test_case<archetype_backend, double>>;

/// The real cases, and both backends with complex entries.
using complex_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, double>,
               test_case<host_backend, std::complex<double>>, test_case<archetype_backend, float>,
               test_case<archetype_backend, double>,
               test_case<archetype_backend, std::complex<double>>>;

/// Both backends in double, for what does not depend on the scalar.
using double_cases =
    std::tuple<test_case<host_backend, double>, test_case<archetype_backend, double>>;

#endif

/// A context of a typed test, and transfer to it and from it.
template <class Case>
struct place {
  using backend = typename Case::backend;

  typename Case::context ctx;

  /// An owning matrix of the backend.
  template <class A>
  auto up(A const& a) {
    return backend::upload(ctx, a);
  }

  /// The entries of a matrix of the backend.
  template <class A>
  auto down(A const& a) {
    return backend::download(ctx, a);
  }

  /// An owning 1 x 1 matrix of the backend.
  template <class T>
  auto number(T x) {
    return up(matrix_x<T>::Constant(1, 1, x));
  }
};

/// An owning 1 x 1 matrix that holds 0.
template <class Backend, class S>
auto single(typename Backend::context& ctx) {
  return Backend::upload(ctx, matrix_x<S>::Zero(1, 1));
}

/// An owning status with no bit set.
template <class Backend>
auto status_matrix(typename Backend::context& ctx) {
  return single<Backend, int>(ctx);
}

/// The bits of a status.
template <class Ctx, class Status>
int status_value(Ctx& ctx, Status const& status) {
  return value(ctx, status);
}

}  // namespace support
