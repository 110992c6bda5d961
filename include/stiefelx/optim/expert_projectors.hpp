// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include <stiefelx/core/context.hpp>
#include <stiefelx/element/scalar.hpp>
#include <stiefelx/optim/expert_assignment.hpp>
#include <stiefelx/optim/input_projector.hpp>
#include <stiefelx/optim/low_rank_projector.hpp>
#include <stiefelx/optim/projector_policy.hpp>

namespace stiefelx {

/// Root of a token's share.
/// \ingroup optim
struct share_root_element {
  /// \param[out] y  root
  /// \param[in]  x  at least 0
  template <class Real>
  STIEFELX_HD void operator()(Real& y, Real const& x) const {
    y = static_cast<Real>(std::sqrt(static_cast<double>(x)));
  }
};

/// \brief The projectors of one linear map of E experts: what each expert's step must leave alone.
/// \ingroup optim
///
/// observe() takes the inputs that were routed to each expert, remove() maps a direction of expert e
/// to the part that the other experts' inputs do not see, as projector_policy says. `mean` and
/// `product` keep one input_projector for the inputs of each expert; `joint` and `low_rank` keep, for
/// each expert, one projector of the inputs of all the others. So every policy applies what it
/// keeps, and no projector is inverted.
///
/// With one expert there are no others, and directions stay as they are.
///
/// \tparam Dense    input_projector
/// \tparam LowRank  low_rank_projector
template <class Dense, class LowRank>
class expert_projectors {
 public:
  static constexpr char const* name = "expert_projectors";  ///< for messages and saved states

  /// \param[in] ctx      where the state lives
  /// \param[in] x        the bank's weights, or one expert's where they are separate: only its
  ///                     shape, scalar and memory count
  /// \param[in] bank     experts and layout
  /// \param[in] options  policy, its numbers, and the most memory it may take
  /// \throws option_error  if an option is out of its range, or the state would take more memory than
  ///                       options.memory_limit: before anything is allocated
  /// \throws shape_error   if x cannot be divided among the experts
  template <class Ctx, Matrix X>
  expert_projectors(Ctx& ctx, X const& x, expert_bank bank, expert_projectors_options options = {})
      : bank_(bank), options_(options), dimension_(checked(x, bank, options)) {
    if (bank.count == 1) return;
    auto const like = scratch<scalar_t<X>>(ctx, dimension_, 0);
    for (index_t e = 0; e < bank.count; ++e) {
      if (options.policy == projector_policy::low_rank)
        low_rank_.emplace_back(ctx, like, low_rank_options());
      else
        dense_.emplace_back(ctx, like, options.alpha);
    }
  }

  /// \brief Adds the inputs that were routed to one expert.
  /// \param[in]     ctx     where to run; nothing waits
  /// \param[in]     e       the expert
  /// \param[in]     a       d x m, an input a column, each with share 1; m may be 0
  /// \param[in,out] status  1 x 1 int, or no_status{}; `not_finite` inputs change nothing
  /// \throws option_error  if there is no such expert
  /// \throws shape_error   if a has not d rows
  template <class Ctx, Matrix A, class Status = no_status>
  void observe(Ctx& ctx, index_t e, A const& a, Status&& status = {}) {
    expect_option(e >= 0 && e < bank_.count, "expert_projectors::observe", "e", e,
                  "the number of an expert");
    expect_shape("expert_projectors::observe", "a", a, dimension_, a.cols());
    if (a.cols() == 0 || bank_.count == 1) return;
    if (options_.inputs == observed_inputs::every) return give(ctx, e, dense(ctx, a), status);
    auto mean = scratch<scalar_t<A>>(ctx, dimension_, 1);
    sum_columns(ctx, a, mean);
    scale(ctx, 1 / static_cast<double>(a.cols()), mean);
    give(ctx, e, mean, status);
  }

  /// \brief Adds a batch of tokens by their shares of the experts.
  ///
  /// With the share \f$ c_{et} \ge 0 \f$ of token t for expert e, S_e grows by \f$ \bar x \bar x^H \f$
  /// with \f$ \bar x = \sum_t c_{et} x_t / \sum_t c_{et} \f$, or by \f$ \sum_t c_{et} x_t x_t^H \f$ where
  /// every input counts. An expert without tokens adds nothing.
  ///
  /// \param[in]     ctx         where to run; nothing waits
  /// \param[in]     x           d x T, inputs that all experts share, or (E d) x T: each its own
  /// \param[in]     assignment  E x T, shares, as expert_assignment() makes them
  /// \param[in,out] status      1 x 1 int, or no_status{}; `not_finite` inputs change nothing
  /// \throws shape_error  if a shape is wrong
  template <class Ctx, Matrix A, RealMatrix Assignment, class Status = no_status>
    requires std::is_same_v<scalar_t<Assignment>, real_t<A>>
  void observe(Ctx& ctx, A const& x, Assignment const& assignment, Status&& status = {}) {
    bool const own_rows = x.rows() == bank_.count * dimension_;
    expect_shape("expert_projectors::observe", "x", x, own_rows ? x.rows() : dimension_, x.cols());
    expect_shape("expert_projectors::observe", "assignment", assignment, bank_.count, x.cols());
    if (x.cols() == 0 || bank_.count == 1) return;
    auto const& tokens = dense(ctx, x);
    if (options_.inputs == observed_inputs::mean)
      observe_means(ctx, tokens, assignment, status);
    else
      observe_every(ctx, tokens, assignment, status);
  }

  /// \brief y = the part of a direction of expert e that the others' inputs do not see.
  /// \param[in]  ctx  where to run; nothing waits
  /// \param[in]  e    the expert, not checked
  /// \param[in]  g    d x p
  /// \param[out] y    d x p; may be g
  /// \par Cost
  /// 4 d^2 p flops for `joint`, E - 1 times that for `mean`, 2 E - 3 times for `product`; 4 d m p for
  /// `low_rank`.
  template <class Ctx, Matrix G, class Y>
    requires OutputMatrix<Y> && SameScalar<G, Y>
  void remove(Ctx& ctx, index_t e, G const& g, Y&& y) const {
    auto const own = static_cast<std::size_t>(e);
    if (bank_.count == 1) return copy(ctx, g, y);
    if (options_.policy == projector_policy::low_rank) return low_rank_[own].apply(ctx, g, y);
    if (options_.policy == projector_policy::joint) return dense_[own].apply(ctx, g, y);
    if (options_.policy == projector_policy::product) return apply_product(ctx, own, g, y);
    auto sum = scratch<scalar_t<G>>(ctx, g.rows(), g.cols());
    auto part = scratch<scalar_t<G>>(ctx, g.rows(), g.cols());
    fill(ctx, 0, sum);
    for (std::size_t j = 0; j < dense_.size(); ++j) {
      if (j == own) continue;
      dense_[j].apply(ctx, g, part);
      axpy(ctx, 1 / static_cast<double>(bank_.count - 1), part, sum);
    }
    copy(ctx, sum, y);
  }

  /// \brief Lets the past fade by options.decay: every S becomes \f$ \rho S \f$.
  /// \param[in] ctx      where to run; nothing waits
  /// \param[in] proceed  1 x 1 of double; 0 leaves everything as it is
  template <class Ctx, Matrix Number>
  void forget(Ctx& ctx, Number const& proceed) {
    for (auto& p : dense_) p.forget(ctx, options_.decay, proceed);
    for (auto& p : low_rank_) p.forget(ctx, options_.decay, proceed);
  }

  /// \returns experts and layout
  expert_bank bank() const { return bank_; }
  /// \returns d
  index_t dimension() const { return dimension_; }
  /// \returns the options, as given
  expert_projectors_options const& options() const { return options_; }
  /// \returns input_projectors: of each expert's inputs for `mean` and `product`, of the others' for
  ///          `joint`, none for `low_rank` or a single expert
  std::vector<Dense> const& dense_projectors() const { return dense_; }
  /// \returns low_rank_projectors of the others' inputs for `low_rank`, none otherwise
  std::vector<LowRank> const& low_rank_projectors() const { return low_rank_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    offer(dense_, visit);
    offer(low_rank_, visit);
  }

 private:
  template <class X>
  static index_t checked(X const& x, expert_bank bank, expert_projectors_options options) {
    index_t const d = inputs_of_each(name, bank, x);
    expect_projectors_options(name, options, d);
    double const count = bank.count == 1 ? 0 : static_cast<double>(bank.count);
    double const low_rank = count * LowRank::bytes(d, options.rank);
    expect_memory(name, options, bank.count, d,
                  options.policy == projector_policy::low_rank ? low_rank : count * Dense::bytes(d),
                  low_rank);
    return d;
  }

  low_rank_projector_options low_rank_options() const {
    return {.rank = options_.rank, .alpha = options_.alpha};
  }

  // Whether projector e holds the inputs of all experts but e.
  bool keeps_others() const {
    return options_.policy == projector_policy::joint ||
           options_.policy == projector_policy::low_rank;
  }

  template <class Ctx, class A, class Status>
  void update(Ctx& ctx, index_t e, A const& a, Status&& status) {
    auto const i = static_cast<std::size_t>(e);
    if (options_.policy == projector_policy::low_rank)
      low_rank_[i].observe(ctx, a, status);
    else
      dense_[i].observe(ctx, a, status);
  }

  // Inputs of expert e to the projectors that hold them.
  template <class Ctx, class A, class Status>
  void give(Ctx& ctx, index_t e, A const& a, Status&& status) {
    if (!keeps_others()) return update(ctx, e, a, status);
    for (index_t j = 0; j < bank_.count; ++j)
      if (j != e) update(ctx, j, a, status);
  }

  // The rows of x that are expert e's inputs.
  template <class A>
  auto inputs_of(A const& x, index_t e) const {
    return x.middleRows(x.rows() == dimension_ ? 0 : e * dimension_, dimension_);
  }

  // One column an expert.
  template <class Ctx, class A, class Assignment, class Status>
  void observe_means(Ctx& ctx, A const& x, Assignment const& assignment, Status&& status) {
    using S = scalar_t<A>;
    index_t const count = bank_.count;
    auto means = scratch<S>(ctx, dimension_, count);
    auto sums = scratch<real_of_t<S>>(ctx, count, 1);
    sum_columns(ctx, assignment, sums);
    transform(ctx, reciprocal_element{}, outputs(sums), inputs(sums));
    if (std::is_same_v<S, real_of_t<S>> && x.rows() == dimension_) {
      if constexpr (std::is_same_v<S, real_of_t<S>>) multiply(ctx, x, assignment.adjoint(), means);
    } else {
      for (index_t e = 0; e < count; ++e) {
        auto part = clone(ctx, inputs_of(x, e));
        scale_columns(ctx, assignment.middleRows(e, 1), part);
        sum_columns(ctx, part, means.middleCols(e, 1));
      }
    }
    scale_columns(ctx, sums.adjoint(), means);
    if (!keeps_others()) {
      for (index_t e = 0; e < count; ++e) update(ctx, e, means.middleCols(e, 1), status);
      return;
    }
    auto others = scratch<S>(ctx, dimension_, count - 1);
    for (index_t e = 0; e < count; ++e) {
      copy(ctx, means.middleCols(0, e), others.middleCols(0, e));
      copy(ctx, means.middleCols(e + 1, count - 1 - e), others.middleCols(e, count - 1 - e));
      update(ctx, e, others, status);
    }
  }

  // Tokens times the root of their share. For inputs that all share, the others' shares are added.
  template <class Ctx, class A, class Assignment, class Status>
  void observe_every(Ctx& ctx, A const& x, Assignment const& assignment, Status&& status) {
    using Real = real_t<A>;
    bool const summed = keeps_others() && x.rows() == dimension_;
    auto shares = clone(ctx, assignment);
    if (summed) {
      auto choose = scratch<Real>(ctx, bank_.count, bank_.count);
      auto identity = scratch<Real>(ctx, bank_.count, bank_.count);
      fill(ctx, 1, choose);
      set_identity(ctx, identity);
      axpy(ctx, -1, identity, choose);
      multiply(ctx, choose, assignment, shares);
    }
    transform(ctx, share_root_element{}, outputs(shares), inputs(shares));
    for (index_t e = 0; e < bank_.count; ++e) {
      auto part = clone(ctx, inputs_of(x, e));
      scale_columns(ctx, shares.middleRows(e, 1), part);
      if (summed)
        update(ctx, e, part, status);
      else
        give(ctx, e, part, status);
    }
  }

  template <class Ctx, class G, class Y>
  void apply_product(Ctx& ctx, std::size_t own, G const& g, Y&& y) const {
    std::size_t const last = own + 1 == dense_.size() ? dense_.size() - 2 : dense_.size() - 1;
    copy(ctx, g, y);
    for (std::size_t j = 0; j <= last; ++j)
      if (j != own) dense_[j].apply(ctx, y, y);
    for (std::size_t j = last; j-- > 0;)
      if (j != own) dense_[j].apply(ctx, y, y);
  }

  template <class All, class Visit>
  static void offer(All& all, Visit&& visit) {
    for (std::size_t e = 0; e < all.size(); ++e) {
      std::string const prefix = "expert" + std::to_string(e) + ".";
      all[e].for_each_array([&](char const* part, auto& a) { visit((prefix + part).c_str(), a); });
    }
  }

  expert_bank bank_;
  expert_projectors_options options_;
  index_t dimension_;
  std::vector<Dense> dense_;
  std::vector<LowRank> low_rank_;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, Matrix X>
expert_projectors(Ctx&, X const&, expert_bank, expert_projectors_options = {})
    -> expert_projectors<input_projector<matrix_t<Ctx, wide_t<scalar_t<X>>>>,
                         low_rank_projector<matrix_t<Ctx, scalar_t<X>>, matrix_t<Ctx, real_t<X>>>>;

}  // namespace stiefelx
