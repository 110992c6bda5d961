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

// Entries of one column that transform() takes at once.
inline constexpr index_t transform_run = 128;

// An input of transform() as runs of adjacent entries: those of memory where it has them, else copies.
template <class T>
class entry_runs {
 public:
  // For outputs of this many rows and columns.
  template <class M>
  entry_runs(M const& m, index_t rows, index_t cols)
      : data_(m.data()), step_(m.rowStride()), stride_(m.colStride()) {
    if (m.rows() == 1 && m.cols() == 1 && rows * cols > 1) {
      step_ = stride_ = 0;
      std::fill_n(copies_, std::min(rows * cols, transform_run), *data_);
    } else if (rows == 1) {
      step_ = 1;
    }
  }

  // Whether all columns are one run.
  bool is_flat(index_t rows) const { return step_ == 0 || (step_ == 1 && stride_ == rows); }
  T const* run(index_t i, index_t j, index_t length) {
    if (step_ == 0) return copies_;
    T const* const first = data_ + i * step_ + j * stride_;
    if (step_ == 1) return first;
    for (index_t k = 0; k < length; ++k) copies_[k] = first[k * step_];
    return copies_;
  }

 private:
  T const* data_;
  index_t step_, stride_;
  T copies_[std::size_t{transform_run}];
};

// An entry of an output depends on the same entry of others alone, so entries may be taken in any
// order, and several at once.
template <class F, class... T, class... S>
void transform_run_of(F const& f, index_t length, std::tuple<T*...> out, S const*... in) {
  // A copy of its own, for no store to an entry can change it.
  F const element = f;
  std::apply(
      [length, element, in...](T*... y) {
#if defined(__clang__)
#pragma clang loop vectorize(assume_safety)
#elif defined(__GNUC__)
#pragma GCC ivdep
#endif
        for (index_t k = 0; k < length; ++k) element(y[k]..., in[k]...);
      },
      out);
}

template <class F, class... T, class... S>
void transform_entries(F const& f, index_t rows, index_t cols, std::tuple<matrix_ref<T>...> out,
                       entry_runs<S>... in) {
  std::apply(
      [&](matrix_ref<T>... y) {
        if (cols > 1 && ((y.stride == rows) && ...) && (in.is_flat(rows) && ...)) {
          rows *= cols;
          cols = 1;
        }
        for (index_t j = 0; j < cols; ++j)
          for (index_t i = 0; i < rows; i += transform_run) {
            index_t const length = std::min(transform_run, rows - i);
            transform_run_of(f, length, std::tuple(y.data + j * y.stride + i...),
                             in.run(i, j, length)...);
          }
      },
      out);
}

template <class F, class... W, class... R>
void transform_dense(F const& f, std::tuple<W...>& written, R const&... read) {
  std::apply(
      [&](auto&... w) {
        auto const first = std::get<0>(written).ref();
        transform_entries(f, first.rows, first.cols, std::tuple(w.ref()...),
                          entry_runs<scalar_t<R>>(read, first.rows, first.cols)...);
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
