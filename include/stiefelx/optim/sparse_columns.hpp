// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/stack.hpp>
#include <stiefelx/optim/item_columns_body.hpp>

namespace stiefelx {

/// What sparse_columns has to know of its items.
/// \ingroup optim
struct sparse_columns_options {
  index_t items;    ///< number of items N in the parameter, at least 1
  index_t largest;  ///< largest number of indices in one step, at least 1
};

/// \brief Throws unless every index names an item. For callers who can afford to wait.
/// \ingroup optim
/// \param[in] ctx      where the indices live; waits
/// \param[in] indices  1 x m, int
/// \param[in] items    number of items
/// \throws option_error  naming the first index that is not in [0, items)
template <class Ctx, Matrix Indices>
  requires std::is_same_v<scalar_t<Indices>, int>
void expect_indices(Ctx& ctx, Indices const& indices, index_t items) {
  std::vector<int> all(static_cast<std::size_t>(indices.rows() * indices.cols()));
  download(ctx, indices, all.data());
  for (int index : all)
    if (index < 0 || index >= items)
      throw option_error("expect_indices: an index is " + std::to_string(index) +
                         ", expected a number in [0, " + std::to_string(items) + ")");
}

/// \brief Steps of an optimizer for some items of a parameter: the "sparse rows" of an embedding.
/// \ingroup optim
///
/// A parameter of N items side by side, p columns each: a row-major [N, d] table of any framework is
/// a d x N matrix of items with one column, a point of `power<M>` has the columns of a point of M.
/// A step is given the indices of m items and their gradients. It brings the columns of these items
/// together, of the parameter and of every state array that has columns for each item; lets the
/// optimizer step there; and puts them back. All other columns keep their bits: their moments do not
/// decay, and weight decay does not touch them. This is the lazy rule of the frameworks' sparse
/// optimizers. State arrays that belong to no item are shared by all: adamw counts the steps of the
/// whole parameter, as there, and riemannian_adam on a power those of each point.
///
/// Whatever an optimizer takes from all its columns at once it takes here from the given items, such
/// as adamw's question whether a gradient is finite.
///
/// ```
/// sparse_columns table(ctx, x, {.items = n, .largest = 64},
///                      [&](auto const& part, index_t) { return adamw(ctx, part); });
/// table.step_items(ctx, x, indices, g, status);
/// ```
///
/// A repeated index counts once, with the sum of its gradients. An index outside of [0, N) is left
/// out; expect_indices() finds it, and waits. The state is that of the dense optimizer, to save()
/// and load() as well: a run may change between step() and step_items().
///
/// \tparam Opt     an optimizer whose steps act on each item alone
/// \tparam Places  owning matrix of int, where the parameter lives
template <class Opt, Matrix Places>
class sparse_columns {
 public:
  /// What save() calls it: its state is that of the optimizer.
  static constexpr char const* name = Opt::name;

  /// \param[in] ctx      where the state lives
  /// \param[in] x        the parameter
  /// \param[in] options  items, and most of them in one step
  /// \param[in] make     `make(part, count)` makes the optimizer for a matrix of count items; it is
  ///                     called for all, and for `largest` items, half of them and so on down to one
  /// \throws option_error  if an option is out of its range
  /// \throws shape_error   if x's columns are not a multiple of the items, or if a state array is
  ///                       neither shared nor made of columns for each item
  /// \par Cost
  /// Beside the dense state, that of twice `largest` items.
  template <class Ctx, Matrix X, class Make>
  sparse_columns(Ctx& ctx, X const& x, sparse_columns_options options, Make const& make)
      : items_(options.items),
        rows_(x.rows()),
        columns_(columns_of(x, options)),
        all_(make_part(ctx, x, items_, make)),
        first_(zeros<int>(ctx, 1, items_)) {
    for (index_t size = options.largest;; size = (size + 1) / 2) {
      parts_.push_back({size, make_part(ctx, x, size, make)});
      if (size == 1) break;
    }
    sort_arrays();
  }

  /// Moves the given items one step. Never allocates after the first call, never waits.
  /// \param[in]     ctx      where to run
  /// \param[in,out] x        the parameter; what is not column-major is copied as a whole
  /// \param[in]     indices  1 x m, int, at most `largest`
  /// \param[in]     g        gradients of these items side by side; must not overlap x
  /// \param[in,out] status   1 x 1 int, or no_status{}
  /// \throws shape_error  if x has another shape than the state, there are more indices than
  ///                      `largest`, or g has not p columns an index
  /// \throws alias_error  if g or indices overlaps x
  /// \par Cost
  /// Gathering and scattering the columns of m items, and the optimizer's step for at most 2 m.
  template <class Ctx, class X, Matrix Indices, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<X, G> && std::is_same_v<scalar_t<Indices>, int>
  void step_items(Ctx& ctx, X&& x, Indices const& indices, G const& g, Status&& status = {}) {
    index_t const count = indices.cols();
    expect_arguments(ctx, x, indices, g);
    if (count == 0) return;
    part_of& part = part_for(count);
    auto const places = dense(ctx, indices);
    auto const gradients = dense(ctx, g);

    using S = scalar_t<X>;
    auto next = scratch<int>(ctx, 1, count);
    run_batch(ctx, 1, link_items_body{count, items_}, places, next, first_);
    auto sums = scratch<S>(ctx, rows_, part.size * columns_);
    run_batch(ctx, part.size, gather_gradients_body{count, items_, columns_}, places, next, first_,
              gradients, sums);
    auto points = scratch<S>(ctx, rows_, part.size * columns_);
    run_batch(ctx, part.size, gather_items_body{count, items_, columns_}, places, std::as_const(x),
              points);
    for_each_pair(part.optimizer, [&](bool for_each_item, auto& whole, auto& piece) {
      gather_items_body const body{count, items_, whole.cols() / items_};
      if (for_each_item)
        run_batch(ctx, part.size, body, places, whole, piece);
      else
        copy(ctx, whole, piece);
    });

    part.optimizer.step(ctx, points, sums, status);

    run_batch(ctx, count, scatter_items_body{items_, columns_}, places, first_, points, x);
    for_each_pair(part.optimizer, [&](bool for_each_item, auto& whole, auto& piece) {
      scatter_items_body const body{items_, whole.cols() / items_};
      if (for_each_item)
        run_batch(ctx, count, body, places, first_, piece, whole);
      else
        copy(ctx, piece, whole);
    });
  }

  /// Moves every item one step, by the dense optimizer.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       the parameter
  /// \param[in]     g       gradient of x's shape; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error  if x or g has another shape than the state
  /// \throws alias_error  if g overlaps x
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    all_.step(ctx, x, g, status);
  }

  /// Sets the step size of the following steps.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) {
    all_.set_learning_rate(learning_rate);
    for (part_of& part : parts_) part.optimizer.set_learning_rate(learning_rate);
  }

  /// \returns the optimizer of the whole parameter, with its state
  Opt const& optimizer() const { return all_; }

  /// \brief Offers every array of the whole parameter's state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    all_.for_each_array(visit);
  }

 private:
  // The optimizer for up to this many items. Places that are left over repeat a given item with a
  // gradient of zero, and are dropped.
  struct part_of {
    index_t size;
    Opt optimizer;
  };

  template <class X>
  static index_t columns_of(X const& x, sparse_columns_options options) {
    expect_option(options.items >= 1, "sparse_columns", "items", options.items,
                  "a number of at least 1");
    expect_option(options.largest >= 1, "sparse_columns", "largest", options.largest,
                  "a number of at least 1");
    return columns_of_each("sparse_columns", "x", stack{options.items}, x);
  }

  // Copies of item 0 stand in for any point of so many items.
  template <class Ctx, class X, class Make>
  Opt make_part(Ctx& ctx, X const& x, index_t count, Make const& make) const {
    auto part = scratch<scalar_t<X>>(ctx, rows_, count * columns_);
    if (count == items_)
      copy(ctx, x, part);
    else
      for (index_t k = 0; k < count; ++k)
        copy(ctx, x.middleCols(0, columns_), part.middleCols(k * columns_, columns_));
    return make(std::as_const(part), count);
  }

  template <class Ctx, class X, class Indices, class G>
  void expect_arguments(Ctx& ctx, X const& x, Indices const& indices, G const& g) const {
    expect_shape("sparse_columns::step_items", "x", x, rows_, items_ * columns_);
    expect_shape("sparse_columns::step_items", "indices", indices, 1, indices.cols());
    expect_shape("sparse_columns::step_items", "g", g, rows_, indices.cols() * columns_);
    if (indices.cols() > parts_.front().size)
      throw shape_error("sparse_columns::step_items: indices has " +
                        std::to_string(indices.cols()) + " columns, expected at most " +
                        std::to_string(parts_.front().size));
    expect_distinct(ctx, "sparse_columns::step_items", "x", x, "g", g);
    expect_distinct(ctx, "sparse_columns::step_items", "x", x, "indices", indices);
  }

  // The smallest part that holds so many items; sizes fall by halves.
  part_of& part_for(index_t count) {
    std::size_t k = 0;
    while (k + 1 < parts_.size() && parts_[k + 1].size >= count) ++k;
    return parts_[k];
  }

  // Asks of each state array whether it has columns for each item, by comparing with one item's.
  void sort_arrays() {
    std::vector<std::string> names;
    all_.for_each_array([&](char const* array, auto&) { names.emplace_back(array); });
    for_each_item_.resize(names.size(), false);
    std::size_t place = 0;
    for_each_pair(parts_.back().optimizer, [&](bool, auto const& whole, auto const& piece) {
      bool const same_rows = whole.rows() == piece.rows();
      bool const columns_for_each = same_rows && whole.cols() == items_ * piece.cols();
      if (!columns_for_each && !(same_rows && whole.cols() == piece.cols()))
        detail::throw_shape("sparse_columns", names[place].c_str(), whole.rows(), whole.cols(),
                            "the shape of one item's, " + std::to_string(piece.rows()) + "x" +
                                std::to_string(piece.cols()) +
                                ", or as many times its columns as there are items");
      for_each_item_[place++] = columns_for_each;
    });
  }

  // f(columns for each item, array of all, array of the part) for every state array.
  template <class F>
  void for_each_pair(Opt& part, F const& f) {
    std::size_t i = 0;
    all_.for_each_array([&](char const*, auto& whole) {
      std::size_t j = 0;
      part.for_each_array([&](char const*, auto& piece) {
        // Arrays of equal place have equal types; pairs of different ones are not compiled.
        if constexpr (std::is_same_v<decltype(whole), decltype(piece)>)
          if (i == j) f(for_each_item_[i], whole, piece);
        ++j;
      });
      ++i;
    });
  }

  index_t items_, rows_, columns_;
  Opt all_;
  Places first_;
  std::vector<part_of> parts_;
  std::vector<bool> for_each_item_;
};

namespace detail {

// What make(part, count) returns for scratch of X's scalar.
template <class Ctx, class X, class Make>
using made_optimizer_t = std::invoke_result_t<
    Make const&, decltype(scratch<scalar_t<X>>(std::declval<Ctx&>(), index_t(), index_t())) const&,
    index_t>;

}  // namespace detail

/// The optimizer is what `make` returns for a matrix of the parameter's scalar.
/// \ingroup optim
template <class Ctx, Matrix X, class Make>
sparse_columns(Ctx&, X const&, sparse_columns_options, Make const&)
    -> sparse_columns<detail::made_optimizer_t<Ctx, X, Make>, matrix_t<Ctx, int>>;

}  // namespace stiefelx
