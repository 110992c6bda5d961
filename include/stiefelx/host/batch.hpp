// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>

#include <Eigen/Core>

#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/core/transform.hpp>
#include <stiefelx/host/gram_schmidt.hpp>
#include <stiefelx/host/scratch.hpp>
#include <stiefelx/host/verbs.hpp>
#include <stiefelx/team/team.hpp>

/// \file
/// \brief Team text and element text on the host.
/// \ingroup host

namespace stiefelx::host {

namespace detail {

// A body's argument: the caller's memory where it is plain, else a scratch copy that goes back.
template <class M>
class batch_argument {
  static constexpr bool writes = is_writable<M>;
  static constexpr bool direct = is_plain<M>;
  using S = scalar_t<M>;
  using Copy = std::conditional_t<direct, char, scratch_matrix<dynamic_matrix<S>>>;

 public:
  batch_argument(context& ctx, M& m) : source_(m), copy_(make_copy(ctx, m)) {}

  auto ref() {
    using T = std::conditional_t<writes, S, S const>;
    if constexpr (direct)
      return matrix_ref<T>{source_.data(), source_.rows(), source_.cols(), source_.outerStride()};
    else
      return matrix_ref<T>{copy_.data(), copy_.rows(), copy_.cols(), copy_.outerStride()};
  }

  void put_back() {
    if constexpr (writes && !direct) source_ = copy_;
  }

 private:
  static Copy make_copy(context& ctx, M& m) {
    if constexpr (direct) {
      return Copy{};
    } else {
      Copy copy(ctx, m.rows(), m.cols());
      copy = m;
      return copy;
    }
  }

  M& source_;
  Copy copy_;
};

// Items first to end - 1, one after the other; a body that has a kernel of its own overloads this.
template <class Body, class... Ref>
void run_items(context&, Body const& body, index_t first, index_t end, double* scratch,
               Ref const&... refs) {
  for (index_t item = first; item < end; ++item) body(serial_team{}, item, scratch, refs...);
}

}  // namespace detail

/// \brief Runs a team body once an item, one lane a team, items shared by the context's threads.
/// \ingroup host
///
/// `body(team, item, scratch, a, b, ...)` gets a `matrix_ref` of each matrix and
/// `body.scratch_size()` doubles of its own. Items may run in any order and at once, so each
/// writes only what belongs to it.
/// \param[in]     ctx       threads and arena
/// \param[in]     count     number of items
/// \param[in]     body      team text
/// \param[in,out] matrices  what it reads and writes; const ones arrive as `matrix_ref<T const>`
template <class Body, class... M>
  requires(EigenMatrix<M> && ...)
void run_batch(context& ctx, index_t count, Body const& body, M&&... matrices) {
  std::tuple<detail::batch_argument<std::remove_reference_t<M>>...> arguments(
      detail::batch_argument<std::remove_reference_t<M>>(ctx, matrices)...);
  // Enough items a task that taking one costs little beside its work.
  index_t const per_task = std::max<index_t>(1, std::min<index_t>(64, count / 16));
  index_t const tasks = (count + per_task - 1) / per_task;
  // A line between the teams' scratch keeps threads from sharing one.
  index_t const room = body.scratch_size() + 8;
  auto memory = scratch<double>(ctx, room, std::min<index_t>(ctx.workers.size(), tasks));
  std::apply(
      [&](auto&... argument) {
        ctx.workers.for_each_index(tasks, [&](index_t task, int worker) {
          index_t const end = std::min(count, (task + 1) * per_task);
          double* const own = memory.data() + worker * room;
          detail::run_items(ctx, body, task * per_task, end, own, argument.ref()...);
        });
        (argument.put_back(), ...);
      },
      arguments);
}

namespace detail {

// An input of transform(): steps of zero broadcast its one entry.
template <class T>
struct entry_view {
  T const* data;
  index_t step, stride;
  T const& operator()(index_t i, index_t j) const { return data[i * step + j * stride]; }
};

template <class M>
entry_view<scalar_t<M>> entries_of(M const& m) {
  bool const broadcast = m.rows() == 1 && m.cols() == 1;
  return {m.data(), broadcast ? 0 : m.rowStride(), broadcast ? 0 : m.colStride()};
}

template <class F, class... T, class... S>
void transform_entries(F const& f, index_t rows, index_t cols, std::tuple<matrix_ref<T>...> out,
                       entry_view<S>... in) {
  std::apply(
      [&](matrix_ref<T>... y) {
        for (index_t j = 0; j < cols; ++j)
          for (index_t i = 0; i < rows; ++i) f(y(i, j)..., in(i, j)...);
      },
      out);
}

template <class F, class... W, class... R>
void transform_dense(F const& f, std::tuple<W...>& written, R const&... read) {
  std::apply(
      [&](auto&... w) {
        auto const first = std::get<0>(written).ref();
        transform_entries(f, first.rows, first.cols, std::tuple(w.ref()...), entries_of(read)...);
        (w.put_back(), ...);
      },
      written);
}

}  // namespace detail

/// \brief Runs element text: f(y_ij&..., x_ij...) for every entry.
/// \ingroup host
/// \param[in]     ctx  arena, for arguments that are not column-major
/// \param[in]     f    named functor; it must not depend on the order of the entries
/// \param[in,out] out  outputs(...) of one shape; they may be the same memory as an input
/// \param[in]     in   inputs(...) of that shape, or 1 x 1 and then broadcast
template <class F, class... Y, class... X>
void transform(context& ctx, F const& f, output_list<Y...> out, input_list<X...> in) {
  std::apply(
      [&](auto&... y) {
        std::tuple<detail::batch_argument<std::remove_reference_t<Y>>...> written(
            detail::batch_argument<std::remove_reference_t<Y>>(ctx, y)...);
        std::apply([&](auto const&... x) { detail::transform_dense(f, written, dense(ctx, x)...); },
                   in.matrices);
      },
      out.matrices);
}

}  // namespace stiefelx::host
