// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <limits>
#include <type_traits>

#include <Eigen/Core>

#include <stiefelx/host/blas.hpp>
#include <stiefelx/host/operand.hpp>
#include <stiefelx/host/stored_product.hpp>
#include <stiefelx/host/thin_products.hpp>
#include <stiefelx/host/verbs.hpp>

/// \file
/// \brief Products of the host: kernels for tall thin matrices, else Eigen's with packing memory
/// from the arena.
/// \ingroup host

namespace stiefelx::host {

namespace detail {

// Memory for the kernel's packed panels, from the arena instead of the heap.
template <class S>
class packing : public Eigen::internal::level3_blocking<S, S> {
 public:
  packing(index_t rows, index_t cols, index_t depth) {
    this->m_mc = rows;
    this->m_nc = cols;
    this->m_kc = depth;
    Eigen::internal::computeProductBlockingSizes<S, S>(this->m_kc, this->m_mc, this->m_nc,
                                                       index_t(1));
  }
  // Rounded as a whole too: the next worker's panels start there, and the kernel's loads are aligned.
  index_t entries() const {
    return round(this->m_mc * this->m_kc) + round(this->m_kc * this->m_nc);
  }
  void place(S* memory) {
    this->m_blockA = memory;
    this->m_blockB = memory + round(this->m_mc * this->m_kc);
  }

 private:
  static constexpr index_t line = std::max<index_t>(1, index_t(arena::alignment / sizeof(S)));
  static index_t round(index_t entries) { return (entries + line - 1) / line * line; }
};

// Columns of c a task computes. It does not depend on the number of threads unless that is
// allowed, so results do not either; 256 columns make the repeated packing of a negligible.
inline index_t columns_per_task(context const& ctx, index_t cols) {
  index_t const threads = ctx.workers.size();
  if (ctx.options.same_bits_for == determinism::this_thread_count)
    return std::max<index_t>(1, (cols + threads - 1) / threads);
  return 256;
}

// The same for calls of a BLAS, each of which packs all of the left operand: blocks of 512 columns take
// a few per cent longer than one call.
inline index_t blas_columns_per_task(context const& ctx, index_t cols) {
  if (ctx.options.same_bits_for == determinism::this_thread_count)
    return columns_per_task(ctx, cols);
  return 512;
}

// What gemm calls an operand: N as it is, T transposed, C its adjoint; blank for a plain conjugate.
constexpr char blas_form(int order, bool conjugate) {
  if (order == Eigen::ColMajor) return conjugate ? ' ' : 'N';
  return conjugate ? 'C' : 'T';
}

// c = alpha a b or c += alpha a b by the BLAS of this build, by the kernels of simd/, or by Eigen's
// blocked kernel.
template <class S, int left, bool conjugate_left, int right, bool conjugate_right>
void compute_product(context& ctx, S alpha, operand<S, left, conjugate_left> a,
                     operand<S, right, conjugate_right> b, plain_view<S> c, bool add) {
  index_t const rows = c.rows(), cols = c.cols(), depth = a.cols;
  if (multiply_thin(ctx, alpha, a, b, c, add)) return;
  if (!add) c.setZero();
  if (rows == 0 || cols == 0 || depth == 0) return;
  if (rows * cols * depth <= small_product) {
    auto const product_with = [&](auto const& x) {
      if constexpr (conjugate_right)
        c += alpha * x.lazyProduct(b.view().conjugate());
      else
        c += alpha * x.lazyProduct(b.view());
    };
    if constexpr (conjugate_left)
      product_with(a.view().conjugate());
    else
      product_with(a.view());
    return;
  }
  constexpr char form_a = blas_form(left, conjugate_left);
  constexpr char form_b = blas_form(right, conjugate_right);
  if constexpr (has_blas && form_a != ' ' && form_b != ' ') {
    constexpr index_t largest = std::numeric_limits<int>::max();
    if (std::max({rows, cols, depth, a.stride, b.stride, c.outerStride()}) <= largest) {
      index_t const task = blas_columns_per_task(ctx, cols);
      index_t const tasks = (cols + task - 1) / task;
      return ctx.workers.for_each_index(tasks, [&](index_t i, int) {
        index_t const first = i * task, count = std::min(task, cols - first);
        auto const part = b.columns(first, count);
        blas_gemm(form_a, form_b, rows, count, depth, alpha, a.data, a.stride, part.data,
                  part.stride, c.data() + first * c.outerStride(), c.outerStride());
      });
    }
  }
  index_t const task = columns_per_task(ctx, cols);
  index_t const tasks = (cols + task - 1) / task;
  index_t const entries = packing<S>(rows, std::min(task, cols), depth).entries();
  auto memory = scratch<S>(ctx, entries, std::min<index_t>(tasks, ctx.workers.size()));
  ctx.workers.for_each_index(tasks, [&](index_t i, int worker) {
    index_t const first = i * task, count = std::min(task, cols - first);
    packing<S> own(rows, std::min(task, cols), depth);
    own.place(memory.data() + worker * entries);
    auto const part = b.columns(first, count);
    Eigen::internal::general_matrix_matrix_product<index_t, S, left, conjugate_left, S, right,
                                                   conjugate_right, Eigen::ColMajor,
                                                   1>::run(rows, count, depth, a.data, a.stride,
                                                           part.data, part.stride,
                                                           c.data() + first * c.outerStride(), 1,
                                                           c.outerStride(), alpha, own, nullptr);
  });
}

template <class A, class B, class C>
inline constexpr bool is_static_product =
    is_fixed<plain_t<A, scalar_t<C>>> && is_fixed<plain_t<B, scalar_t<C>>>;

template <class A, class B, class C>
void multiply_into(context& ctx, scalar_t<C> alpha, A const& a, B const& b, C&& c, bool add) {
  using Target = std::remove_reference_t<C>;
  using EA = expression_t<A>;
  using EB = expression_t<B>;
  constexpr bool is_stored = NarrowScalar<scalar_t<A>> || NarrowScalar<scalar_t<B>>;
  static_assert(
      !NarrowScalar<scalar_t<C>> && (!is_stored || StoredAs<float, A, B, C>),
      "a product of matrices of two bytes an entry is computed in float: the other factor "
      "and the result are float; copy() rounds a result");
  if constexpr (is_static_product<A, B, C> && is_stored) {
    multiply_into(ctx, alpha, in_arithmetic(a), in_arithmetic(b), c, add);
  } else if constexpr (is_static_product<A, B, C>) {
    if (!add) c.setZero();
    c.noalias() += alpha * (a * b);
  } else if constexpr ((flags<Target> & Eigen::RowMajorBit) != 0 && has_memory<Target>) {
    auto t = c.transpose();
    multiply_into(ctx, alpha, b.transpose(), a.transpose(), t, add);
  } else if constexpr (!is_plain<Target>) {
    auto t = clone(ctx, c);
    multiply_into(ctx, alpha, a, b, t, add);
    c = t;
  } else if constexpr (is_stored) {
    multiply_stored(ctx, alpha, a, b, c, add, !has_blas);
  } else if constexpr (!operand_traits<EA>::usable) {
    multiply_into(ctx, alpha, clone(ctx, a), b, c, add);
  } else if constexpr (!operand_traits<EB>::usable) {
    multiply_into(ctx, alpha, a, clone(ctx, b), c, add);
  } else {
    auto const factor = operand_traits<EA>::traits::extractScalarFactor(a.derived()) *
                        operand_traits<EB>::traits::extractScalarFactor(b.derived());
    compute_product(ctx, static_cast<scalar_t<C>>(alpha * factor), operand_of<EA>(a.derived()),
                    operand_of<EB>(b.derived()), view_of(c), add);
  }
}

}  // namespace detail

/// c += s a b.
/// \ingroup host
/// \param[in]     ctx  threads, and an arena for packing
/// \param[in]     s    a number, or a real 1 x 1 matrix
/// \param[in]     a    m x k, any expression; of c's scalar, or two bytes an entry where that is float
/// \param[in]     b    k x n, likewise
/// \param[in,out] c    m x n; must not overlap a or b
template <Coefficient C0, EigenMatrix A, EigenMatrix B, EigenOutput C>
void multiply_add(context& ctx, C0 const& s, A const& a, B const& b, C&& c) {
  detail::multiply_into(ctx, scalar_t<C>(detail::coefficient<real_t<C>>(s)), a, b, c, true);
}

/// c = a b.
/// \ingroup host
/// \param[in]  ctx  threads, and an arena for packing
/// \param[in]  a    m x k, any expression; of c's scalar, or two bytes an entry where that is float
/// \param[in]  b    k x n, likewise
/// \param[out] c    m x n; must not overlap a or b
/// \par Cost
/// 2 m k n flops. A factor of two bytes an entry becomes float in parts of at most 1 MiB, in scratch:
/// 2 bytes read and 4 written an entry, once a call, or b's once for each part of
/// a's rows where both have two bytes; a result of several parts is added up in float.
template <EigenMatrix A, EigenMatrix B, EigenOutput C>
void multiply(context& ctx, A const& a, B const& b, C&& c) {
  detail::multiply_into(ctx, scalar_t<C>(1), a, b, c, false);
}

/// A scratch product a b.
/// \ingroup host
/// \param[in] ctx  threads and arena
/// \param[in] a    m x k, any expression
/// \param[in] b    k x n, any expression
/// \returns m x n, on the stack when its size is static
template <EigenMatrix A, EigenMatrix B>
auto product(context& ctx, A const& a, B const& b) {
  using EA = detail::expression_t<A>;
  using EB = detail::expression_t<B>;
  using Plain =
      Eigen::Matrix<arithmetic_t<scalar_t<A>>, EA::RowsAtCompileTime, EB::ColsAtCompileTime,
                    EA::RowsAtCompileTime == 1 && EB::ColsAtCompileTime != 1 ? Eigen::RowMajor
                                                                             : Eigen::ColMajor>;
  auto c = detail::make<Plain>(ctx, a.rows(), b.cols());
  multiply(ctx, a, b, c);
  return c;
}

}  // namespace stiefelx::host
