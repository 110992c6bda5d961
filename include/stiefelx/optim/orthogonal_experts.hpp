// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <stiefelx/core/context.hpp>
#include <stiefelx/optim/expert_projectors.hpp>
#include <stiefelx/optim/finite_gradient.hpp>

namespace stiefelx {

/// What a step of orthogonal_experts does.
/// \ingroup optim
enum class expert_phase {
  accumulating,  ///< the base optimizer's step, as it is
  orthogonal     ///< what the other experts' inputs see is removed from it
};

/// \brief Accumulating steps, then orthogonal ones, and again.
/// \ingroup optim
///
/// Any callable from a step's number to an expert_phase takes its place.
struct phase_schedule {
  index_t accumulating = 1;  ///< steps of the first kind, at least 0
  index_t orthogonal = 1;    ///< steps of the second kind, at least 0

  /// \param[in] step  number of the step, from 0
  /// \returns its phase; accumulating where both counts are 0
  expert_phase operator()(index_t step) const {
    index_t const period = accumulating + orthogonal;
    return period > 0 && step % period >= accumulating ? expert_phase::orthogonal
                                                       : expert_phase::accumulating;
  }
};

/// What an orthogonal step removes the others' directions from.
/// \ingroup optim
enum class removal {
  /// The gradient, before the base optimizer sees it, as in \cite zeng2019. Momentum and element-wise
  /// step lengths leave the complement again.
  from_gradient,
  /// The finished update. The step is orthogonal to what the projectors remove, to rounding, whatever
  /// the base optimizer is, its weight decay included.
  from_update
};

/// Settings of orthogonal_experts.
/// \ingroup optim
struct orthogonal_experts_options {
  expert_projectors_options projectors{};    ///< policy and what goes with it
  removal removes = removal::from_gradient;  ///< what is projected
};

/// A gradient of which one entry is not finite, made NaN as a whole: no part of it is stepped along.
/// \ingroup optim
struct unusable_gradient_element {
  /// \param[in,out] g       entry
  /// \param[in]     finite  0 where some entry of the gradient is not finite
  template <class S>
  STIEFELX_HD void operator()(S& g, double const& finite) const {
    if (finite == 0) g = S(std::numeric_limits<real_of_t<S>>::quiet_NaN());
  }
};

/// The part of a norm that a projection retains.
/// \ingroup optim
struct retained_element {
  /// \param[in,out] part    after / before, or 1 for 0 / 0
  /// \param[in]     after   norm behind the projection
  /// \param[in]     before  norm in front of it
  /// \param[in]     finite  0 leaves part as it is
  STIEFELX_HD void operator()(double& part, double const& after, double const& before,
                              double const& finite) const {
    if (finite != 0) part = before > 0 ? after / before : 1;
  }
};

/// \brief The orthogonal optimizer of mixtures of experts, around any base optimizer.
/// \ingroup optim
///
/// Each expert is moved only in directions that the inputs of the other experts do not see, so that
/// experts which start alike come apart \cite liu2023omoe. One object serves one linear map of all
/// experts: it owns the expert_projectors of the map and the base optimizer of its weights, one for
/// the whole bank or one an expert. observe() takes the inputs of a batch, step() the gradient; steps
/// alternate between phases on a schedule. Averaged projectors (`mean`), their removal from the
/// gradient and two alternating phases are what is known of the paper's method and the defaults; how
/// long a phase lasts, and that inputs enter as means, are not, and are options
/// (\ref guide_experts).
///
/// A gradient that is not finite leaves weights, projectors and bases as they are and sets
/// `not_finite`; where it concerns one expert, all of them wait. The schedule counts calls of step(),
/// such ones included, since the host could not know of them without waiting.
///
/// \tparam Base        step(ctx, x, g, status) or step(ctx, x, g)
/// \tparam Projectors  expert_projectors
/// \tparam Number      owning matrix of double, in the same memory
/// \tparam Schedule    callable from a step's number to its expert_phase
template <class Base, class Projectors, Matrix Number, class Schedule>
class orthogonal_experts {
 public:
  static constexpr char const* name = "orthogonal_experts";  ///< for messages and saved states

  /// \brief With one base optimizer for the weights of the whole bank.
  /// \param[in] ctx       where the state lives
  /// \param[in] base      optimizer of the bank, made for x
  /// \param[in] x         the bank's weights: shape, scalar and memory count
  /// \param[in] bank      experts, side by side or stacked
  /// \param[in] options   projectors, and what they are applied to
  /// \param[in] schedule  phases
  /// \throws option_error  as expert_projectors, or if the experts are separate
  /// \throws shape_error   if x cannot be divided among the experts
  template <class Ctx, Matrix X>
  orthogonal_experts(Ctx& ctx, Base base, X const& x, expert_bank bank,
                     orthogonal_experts_options options = {}, Schedule schedule = {})
      : orthogonal_experts(ctx, single(std::move(base)), x, bank, options, std::move(schedule)) {}

  /// \brief With a base optimizer for each expert, or one in a list of one for the bank.
  /// \param[in] ctx       where the state lives
  /// \param[in] bases     optimizers, each made for one expert's weight
  /// \param[in] x         the bank's weights, or the weight of one expert where they are separate
  /// \param[in] bank      experts and layout
  /// \param[in] options   projectors, and what they are applied to
  /// \param[in] schedule  phases
  /// \throws option_error  as expert_projectors, or if the number of bases is wrong
  /// \throws shape_error   if x cannot be divided among the experts
  template <class Ctx, Matrix X>
  orthogonal_experts(Ctx& ctx, std::vector<Base> bases, X const& x, expert_bank bank,
                     orthogonal_experts_options options = {}, Schedule schedule = {})
      : projectors_(ctx, x, checked(bases.size(), bank), options.projectors),
        retained_(zeros<double>(ctx, 1, bank.count)),
        steps_(zeros<double>(ctx, 1, 1)),
        bases_(std::move(bases)),
        schedule_(std::move(schedule)),
        options_(options),
        rows_(x.rows()),
        cols_(x.cols()) {
    fill(ctx, 1, retained_);
  }

  /// \brief Adds inputs to the projectors: expert_projectors::observe().
  /// \param[in]     ctx        where to run; nothing waits
  /// \param[in,out] arguments  an expert and its inputs, or the tokens and their shares; then a status
  template <class Ctx, class... Arguments>
  void observe(Ctx& ctx, Arguments&&... arguments) {
    projectors_.observe(ctx, static_cast<Arguments&&>(arguments)...);
  }

  /// Moves the weights of a bank one step. Never allocates after the first call; never waits, but once
  /// after for_each_array(), to read the number of the step.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       the bank's weights
  /// \param[in]     g       gradient of x's shape; must not overlap x
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws shape_error   if x or g has another shape than the state
  /// \throws alias_error   if g overlaps x
  /// \throws option_error  if the experts are separate
  template <class Ctx, class X, Matrix G, class Status = no_status>
    requires OutputMatrix<X> && SameScalar<X, G>
  void step(Ctx& ctx, X&& x, G const& g, Status&& status = {}) {
    expect_option(bank().layout != expert_layout::separate, "orthogonal_experts::step", "x", 1,
                  "a list of weights, since the experts are separate");
    expect_shape("orthogonal_experts::step", "x", x, rows_, cols_);
    expect_shape("orthogonal_experts::step", "g", g, rows_, cols_);
    expect_distinct(ctx, "orthogonal_experts::step", "x", x, "g", g);
    auto const finite = finite_gradient(ctx, g, status);
    bool const orthogonal = next_phase(ctx) == expert_phase::orthogonal;
    if (bases_.size() == 1) {
      move(ctx, bases_[0], x, g, finite, orthogonal, status, [&](auto const& from, auto& to) {
        for (index_t e = 0; e < bank().count; ++e)
          with_expert(
              bank(), e, [&](auto const& part, auto&& out) { remove(ctx, e, part, out, finite); },
              from, to);
      });
    } else {
      for (index_t e = 0; e < bank().count; ++e)
        with_expert(
            bank(), e,
            [&](auto&& part, auto const& gradient) {
              move_expert(ctx, e, part, gradient, finite, orthogonal, status);
            },
            x, g);
    }
    projectors_.forget(ctx, finite);
  }

  /// Moves separate weights one step, as the function of a bank.
  /// \param[in]     ctx     where to run
  /// \param[in,out] x       E pointers to weights of d rows, none of them null
  /// \param[in]     g       E pointers to gradients of their shapes; none overlaps a weight
  /// \param[in,out] status  1 x 1 int, or no_status{}
  /// \throws option_error  if the experts are not separate, or a list has another length
  /// \throws shape_error   if a weight or a gradient has a wrong shape
  /// \throws alias_error   if a gradient overlaps its weight
  template <class Ctx, Matrix X, Matrix G, class Status = no_status>
    requires OutputMatrix<X&> && SameScalar<X, G>
  void step(Ctx& ctx, std::span<X* const> x, std::span<G* const> g, Status&& status = {}) {
    char const* const step_name = "orthogonal_experts::step";
    expect_option(bank().layout == expert_layout::separate, step_name, "x", x.size(),
                  "one matrix, since the experts are in a bank");
    auto const count = static_cast<std::size_t>(bank().count);
    expect_option(x.size() == count && g.size() == count, step_name, "x", x.size(),
                  "a weight and a gradient for each expert");
    auto finite = scratch<double>(ctx, 1, 1);
    fill(ctx, 1, finite);
    for (std::size_t e = 0; e < count; ++e) {
      expect_shape(step_name, "x", *x[e], projectors_.dimension(), x[e]->cols());
      expect_shape(step_name, "g", *g[e], x[e]->rows(), x[e]->cols());
      expect_distinct(ctx, step_name, "x", *x[e], "g", *g[e]);
    }
    for (G* gradient : g) {
      auto const one = finite_gradient(ctx, *gradient, status);
      scale(ctx, one, finite);
    }
    bool const orthogonal = next_phase(ctx) == expert_phase::orthogonal;
    for (std::size_t e = 0; e < count; ++e)
      move_expert(ctx, static_cast<index_t>(e), *x[e], *g[e], finite, orthogonal, status);
    projectors_.forget(ctx, finite);
  }

  /// Sets the step size of the following steps, for bases that have one.
  /// \param[in] learning_rate  at least 0
  void set_learning_rate(double learning_rate) {
    for (Base& base : bases_) base.set_learning_rate(learning_rate);
  }

  /// \returns 1 x E of double, where the data live: \f$ \lVert P_e G_e \rVert / \lVert G_e \rVert \f$ of
  ///          the last orthogonal step, of the gradient or of the update as `removes` says; 1 before
  Number const& retained() const { return retained_; }
  /// \returns the projectors
  Projectors const& projectors() const { return projectors_; }
  /// \returns the base optimizers, one for the bank or one an expert
  std::vector<Base>& bases() { return bases_; }

  /// \brief Offers every array of the state to a visitor, for saving and loading: those of the
  ///        projectors, of the bases, and its own.
  /// \param[in] visit  called as visit(name, matrix&)
  template <class Visit>
  void for_each_array(Visit&& visit) {
    projectors_.for_each_array(visit);
    for (std::size_t e = 0; e < bases_.size(); ++e) {
      std::string const prefix = bases_.size() == 1 ? "base." : "base" + std::to_string(e) + ".";
      auto const offer = [&](char const* part, auto& a) { visit((prefix + part).c_str(), a); };
      if constexpr (requires { bases_[e].for_each_array(offer); }) bases_[e].for_each_array(offer);
    }
    visit("retained", retained_);
    visit("steps", steps_);
    counted_ = -1;
  }

 private:
  static std::vector<Base> single(Base base) {
    std::vector<Base> list;
    list.push_back(std::move(base));
    return list;
  }

  static expert_bank checked(std::size_t bases, expert_bank bank) {
    bool const whole = bases == 1 && bank.layout != expert_layout::separate;
    expect_option(whole || static_cast<index_t>(bases) == bank.count, name, "bases", bases,
                  "one for the bank or one for each expert");
    return bank;
  }

  expert_bank bank() const { return projectors_.bank(); }

  // A visitor may have written the number of steps, which is then read anew.
  template <class Ctx>
  expert_phase next_phase(Ctx& ctx) {
    if (counted_ < 0) counted_ = static_cast<index_t>(value(ctx, steps_));
    expert_phase const phase = schedule_(counted_);
    ++counted_;
    fill(ctx, static_cast<double>(counted_), steps_);
    return phase;
  }

  template <class Ctx, class From, class To, class Finite>
  void remove(Ctx& ctx, index_t e, From const& from, To&& to, Finite const& finite) {
    auto before = scratch<double>(ctx, 1, 1);
    auto after = scratch<double>(ctx, 1, 1);
    norm(ctx, from, before);
    projectors_.remove(ctx, e, from, to);
    norm(ctx, to, after);
    transform(ctx, retained_element{}, outputs(retained_.middleCols(e, 1)),
              inputs(after, before, finite));
  }

  template <class Ctx, class X, class G, class Finite, class Status>
  void move_expert(Ctx& ctx, index_t e, X&& x, G const& g, Finite const& finite, bool orthogonal,
                   Status&& status) {
    move(ctx, bases_[static_cast<std::size_t>(e)], x, g, finite, orthogonal, status,
         [&](auto const& from, auto& to) { remove(ctx, e, from, to, finite); });
  }

  // One base optimizer's step; take_out(from, to) projects what belongs to it.
  template <class Ctx, class X, class G, class Finite, class Status, class TakeOut>
  void move(Ctx& ctx, Base& base, X&& x, G const& g, Finite const& finite, bool orthogonal,
            Status&& status, TakeOut const& take_out) {
    auto direction = clone(ctx, g);
    if (orthogonal && options_.removes == removal::from_gradient) take_out(g, direction);
    transform(ctx, unusable_gradient_element{}, outputs(direction), inputs(finite));
    auto next = clone(ctx, x);
    if constexpr (requires { base.step(ctx, next, std::as_const(direction), status); })
      base.step(ctx, next, std::as_const(direction), status);
    else
      base.step(ctx, next, std::as_const(direction));
    if (orthogonal && options_.removes == removal::from_update) {
      auto change = clone(ctx, next);
      axpy(ctx, -1, x, change);
      take_out(change, change);
      copy(ctx, x, next);
      axpy(ctx, 1, change, next);
    }
    copy_if(ctx, finite, next, x);
  }

  Projectors projectors_;
  Number retained_, steps_;
  std::vector<Base> bases_;
  Schedule schedule_;
  orthogonal_experts_options options_;
  index_t rows_, cols_, counted_ = 0;
};

/// The state lives where the context's matrices live.
/// \ingroup optim
template <class Ctx, class Base, Matrix X, class Schedule = phase_schedule>
orthogonal_experts(Ctx&, Base, X const&, expert_bank, orthogonal_experts_options = {},
                   Schedule = {})
    -> orthogonal_experts<Base,
                          decltype(expert_projectors(std::declval<Ctx&>(), std::declval<X const&>(),
                                                     std::declval<expert_bank>())),
                          matrix_t<Ctx, double>, Schedule>;

/// With a base optimizer for each expert.
/// \ingroup optim
template <class Ctx, class Base, Matrix X, class Schedule = phase_schedule>
orthogonal_experts(Ctx&, std::vector<Base>, X const&, expert_bank, orthogonal_experts_options = {},
                   Schedule = {})
    -> orthogonal_experts<Base,
                          decltype(expert_projectors(std::declval<Ctx&>(), std::declval<X const&>(),
                                                     std::declval<expert_bank>())),
                          matrix_t<Ctx, double>, Schedule>;

}  // namespace stiefelx
