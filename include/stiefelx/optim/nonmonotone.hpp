// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/shape.hpp>

/// \file
/// \brief The cost that a line search holds its steps against: the last one, or more patient ones.
/// \ingroup optim
///
/// A reference is a value with `expect_options()` and `start()`, which makes what it remembers.
/// That is called once an iteration with the current cost and returns search_start::cost, which is
/// never below the current cost. Armijo's rule with monotone{} is the usual one.

namespace stiefelx {

/// The current cost: no step may raise it.
/// \ingroup optim
struct monotone {
  /// Remembers nothing.
  struct history {
    /// \param[in] cost  the current one
    /// \returns cost
    double operator()(double cost) { return cost; }
  };
  /// There are no options.
  void expect_options() const {}
  /// \returns an empty history
  history start() const { return {}; }
};

/// \brief The largest of the last costs.
/// \ingroup optim
///
/// Steps may raise the cost as long as it stays below the largest of the last `count`.
/// \see \cite grippo1986
struct largest_recent {
  static constexpr index_t capacity = 64;  ///< largest count

  index_t count = 10;  ///< how many costs, the current one among them, from 1 to capacity

  /// The last costs, in a ring.
  class history {
   public:
    /// \param[in] count  how many costs
    explicit history(index_t count) : count_(count) {}
    /// \param[in] cost  the current one
    /// \returns the largest of it and those before
    double operator()(double cost) {
      costs_[static_cast<std::size_t>(seen_++ % count_)] = cost;
      return *std::max_element(costs_.begin(), costs_.begin() + std::min(seen_, count_));
    }

   private:
    std::array<double, capacity> costs_{};
    index_t count_;
    index_t seen_ = 0;
  };

  /// \throws option_error  if count is out of its range
  void expect_options() const {
    expect_option(count > 0 && count <= capacity, "largest_recent", "count", count,
                  "a number from 1 to 64");
  }
  /// \returns an empty history
  history start() const { return history(count); }
};

/// \brief An average of all costs, in which older ones count less.
/// \ingroup optim
///
/// \f$ q \leftarrow \eta q + 1 \f$, \f$ c \leftarrow c + (f - c)/q \f$. With \f$ \eta = 0 \f$ it is
/// the current cost, with 1 the mean of all.
/// \see \cite zhang2004
struct average_cost {
  double decay = 0.85;  ///< \f$ \eta \f$, in [0, 1]

  /// The average so far.
  class history {
   public:
    /// \param[in] decay  \f$ \eta \f$
    explicit history(double decay) : decay_(decay) {}
    /// \param[in] cost  the current one
    /// \returns the average, at least cost: rounding does not lower it
    double operator()(double cost) {
      weight_ = decay_ * weight_ + 1;
      average_ += (cost - average_) / weight_;
      return std::max(average_, cost);
    }

   private:
    double decay_;
    double weight_ = 0, average_ = 0;
  };

  /// \throws option_error  if decay is out of its range
  void expect_options() const {
    expect_option(decay >= 0 && decay <= 1, "average_cost", "decay", decay, "a number in [0, 1]");
  }
  /// \returns an empty history
  history start() const { return history(decay); }
};

}  // namespace stiefelx
