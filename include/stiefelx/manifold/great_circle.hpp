// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/random.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/team/column.hpp>

/// \file
/// \brief Geometry of unit vectors, written once for one long vector and for each column of a
/// matrix.
/// \ingroup manifolds

namespace stiefelx {

/// \brief Element text: the weights of point and velocity after an arc of unit speed.
/// \ingroup manifolds
struct arc_element {
  /// \param[out] point   cos t
  /// \param[out] along   sin t / t
  /// \param[in]  length  t, at least 0
  STIEFELX_HD void operator()(double& point, double& along, double const& length) const {
    point = std::cos(length);
    along = length == 0 ? 1 : std::sin(length) / length;
  }
};

/// \brief Element text: the angle between unit vectors from the lengths of difference and sum.
/// \ingroup manifolds
///
/// \f$ 2\,\mathrm{atan2}(\lVert y - x \rVert, \lVert y + x \rVert) \f$ has a small relative error
/// at every angle; the arc cosine of the inner product loses half of the digits near 0 and \f$ \pi
/// \f$.
struct chord_angle_element {
  /// \param[out] angle  in [0, pi]
  /// \param[in]  chord  length of y - x
  /// \param[in]  sum    length of y + x
  STIEFELX_HD void operator()(double& angle, double const& chord, double const& sum) const {
    angle = 2 * std::atan2(chord, sum);
  }
};

/// \brief Element text: the factor that brings a direction to the length of its arc.
/// \ingroup manifolds
struct arc_length_element {
  double antipodal;  ///< angles within this of pi have no direction

  /// \param[out] factor  angle / length, 1 where length is 0
  /// \param[out] status  `not_converged` for antipodal points
  /// \param[in]  angle   the angle
  /// \param[in]  length  length of the direction
  STIEFELX_HD void operator()(double& factor, int& status, double const& angle,
                              double const& length) const {
    factor = length == 0 ? 1 : angle / length;
    status = angle >= std::numbers::pi - antipodal ? not_converged : 0;
    if (angle != angle) status = not_finite;
  }
};

/// \brief Element text: the weights by which a tangent vector turns along an arc.
/// \ingroup manifolds
struct turn_element {
  /// \param[out] along   (cos t - 1) / t^2 times the component, the weight of the velocity
  /// \param[out] point   -sin t / t times the component, the weight of the point
  /// \param[in]  length  t, at least 0
  /// \param[in]  component  inner product of the vector and the velocity
  STIEFELX_HD void operator()(double& along, double& point, double const& length,
                              double const& component) const {
    double const half = length == 0 ? 1 : std::sin(length / 2) / (length / 2);
    along = -component * half * half / 2;
    point = length == 0 ? -component : -component * std::sin(length) / length;
  }
};

/// \brief Element text: the reciprocal of a length, and what is wrong with it.
/// \ingroup manifolds
struct direction_element {
  /// \param[out] inverse  1 / length, 0 for 0
  /// \param[out] status   `rank_deficient` for 0, `not_finite` for NaN and infinity
  /// \param[in]  length   a length
  STIEFELX_HD void operator()(double& inverse, int& status, double const& length) const {
    inverse = length == 0 ? 0 : 1 / length;
    status = length == 0 ? rank_deficient : length - length == 0 ? 0 : not_finite;
  }
};

/// \brief Element text: the reciprocal of an inner product that has to be positive.
/// \ingroup manifolds
struct hemisphere_element {
  /// \param[out] inverse    1 / component
  /// \param[out] status     `not_converged` unless it is above 0, `not_finite` for NaN
  /// \param[in]  component  an inner product
  STIEFELX_HD void operator()(double& inverse, int& status, double const& component) const {
    inverse = 1 / component;
    status = component > 0 ? 0 : component != component ? not_finite : not_converged;
  }
};

namespace detail {

// Lengths and inner products of a matrix as one vector.
struct one_vector {
  static index_t count(index_t) { return 1; }

  template <class Ctx, class A, class B, class S>
  static void pair(Ctx& ctx, A const& a, B const& b, S&& s) {
    inner(ctx, a, b, s);
  }
  template <class Ctx, class A, class S>
  static void measure(Ctx& ctx, A const& a, S&& s) {
    norm(ctx, a, s);
  }
  template <class Ctx, class S, class B>
  static void stretch(Ctx& ctx, S const& s, B&& b) {
    scale(ctx, s, b);
  }
  template <class Ctx, class S, class A, class B>
  static void add(Ctx& ctx, S const& s, A const& a, B&& b) {
    axpy(ctx, s, a, b);
  }
};

// The same of each column.
struct each_column {
  static index_t count(index_t p) { return p; }

  template <class Ctx, class A, class B, class S>
  static void pair(Ctx& ctx, A const& a, B const& b, S&& s) {
    column_inner(ctx, a, b, s);
  }
  template <class Ctx, class A, class S>
  static void measure(Ctx& ctx, A const& a, S&& s) {
    column_inner(ctx, a, a, s);
    transform(ctx, square_root_element{}, outputs(s), inputs(s));
  }
  template <class Ctx, class S, class B>
  static void stretch(Ctx& ctx, S const& s, B&& b) {
    scale_columns(ctx, s, b);
  }
  template <class Ctx, class S, class A, class B>
  static void add(Ctx& ctx, S const& s, A const& a, B&& b) {
    auto scaled = clone(ctx, a);
    scale_columns(ctx, s, scaled);
    axpy(ctx, 1, scaled, b);
  }
};

// y = y / |y|.
template <class By, class Ctx, class Y, class Status = no_status>
void to_unit_length(Ctx& ctx, Y&& y, Status&& status = {}) {
  index_t const k = By::count(y.cols());
  auto length = scratch<double>(ctx, 1, k), inverse = scratch<double>(ctx, 1, k);
  auto bits = clear_status(ctx, k);
  By::measure(ctx, y, length);
  transform(ctx, direction_element{}, outputs(inverse, bits), inputs(length));
  By::stretch(ctx, inverse, y);
  raise(ctx, status, bits);
}

// v = v - <x, v> x.
template <class By, class Ctx, class X, class V>
void remove_component(Ctx& ctx, X const& x, V&& v) {
  auto c = scratch<double>(ctx, 1, By::count(v.cols()));
  By::pair(ctx, x, v, c);
  scale(ctx, -1, c);
  By::add(ctx, c, x, v);
}

// w = P_x(h) - <x, g> v.
template <class By, class Ctx, class X, class G, class H, class V, class W>
void sphere_hessian(Ctx& ctx, X const& x, G const& g, H const& h, V const& v, W&& w) {
  auto const& direction = dense(ctx, v);
  auto c = scratch<double>(ctx, 1, By::count(x.cols()));
  By::pair(ctx, x, g, c);
  scale(ctx, -1, c);
  copy(ctx, h, w);
  By::add(ctx, c, direction, w);
  remove_component<By>(ctx, x, w);
}

// w = -<x, z> v.
template <class By, class Ctx, class X, class V, class Z, class W>
void sphere_weingarten(Ctx& ctx, X const& x, V const& v, Z const& z, W&& w) {
  auto c = scratch<double>(ctx, 1, By::count(x.cols()));
  By::pair(ctx, x, z, c);
  scale(ctx, -1, c);
  copy(ctx, v, w);
  By::stretch(ctx, c, w);
}

// y = cos|v| x + (sin|v| / |v|) v, brought to length one.
template <class By, class Ctx, class X, class V, class Y>
void sphere_exp(Ctx& ctx, X const& x, V const& v, Y&& y) {
  index_t const k = By::count(x.cols());
  auto const& velocity = dense(ctx, v);
  auto length = scratch<double>(ctx, 1, k), point = scratch<double>(ctx, 1, k),
       along = scratch<double>(ctx, 1, k);
  By::measure(ctx, velocity, length);
  transform(ctx, arc_element{}, outputs(point, along), inputs(length));
  copy(ctx, x, y);
  By::stretch(ctx, point, y);
  By::add(ctx, along, velocity, y);
  to_unit_length<By>(ctx, y);
}

// angle = that between x and y.
template <class By, class Ctx, class X, class Y, class S>
void sphere_angle(Ctx& ctx, X const& x, Y const& y, S&& angle) {
  index_t const k = By::count(x.cols());
  auto chord = scratch<double>(ctx, 1, k), sum = scratch<double>(ctx, 1, k);
  auto work = clone(ctx, y);
  axpy(ctx, 1, x, work);
  By::measure(ctx, work, sum);
  copy(ctx, y, work);
  axpy(ctx, -1, x, work);
  By::measure(ctx, work, chord);
  transform(ctx, chord_angle_element{}, outputs(angle), inputs(chord, sum));
}

template <class By, class Ctx, class X, class Y, class V, class Status>
void sphere_log(Ctx& ctx, X const& x, Y const& y, V&& v, Status&& status) {
  index_t const k = By::count(x.cols());
  auto angle = scratch<double>(ctx, 1, k), length = scratch<double>(ctx, 1, k),
       factor = scratch<double>(ctx, 1, k);
  auto bits = clear_status(ctx, k);
  sphere_angle<By>(ctx, x, y, angle);
  // The difference of near points is exact; projecting y itself would lose its small component.
  copy(ctx, y, v);
  axpy(ctx, -1, x, v);
  remove_component<By>(ctx, x, v);
  remove_component<By>(ctx, x, v);
  By::measure(ctx, v, length);
  double const eps = static_cast<double>(std::numeric_limits<real_t<X>>::epsilon());
  transform(ctx, arc_length_element{32 * eps}, outputs(factor, bits), inputs(angle, length));
  By::stretch(ctx, factor, v);
  raise(ctx, status, bits);
}

// w = v + a d + b x: v turned in the plane of x and d as far as the geodesic along d goes.
template <class By, class Ctx, class X, class D, class V, class W>
void sphere_transport_along(Ctx& ctx, X const& x, D const& d, V const& v, W&& w) {
  index_t const k = By::count(x.cols());
  auto const& velocity = dense(ctx, d);
  auto const& from = dense(ctx, x);
  auto length = scratch<double>(ctx, 1, k), component = scratch<double>(ctx, 1, k),
       along = scratch<double>(ctx, 1, k), point = scratch<double>(ctx, 1, k);
  By::measure(ctx, velocity, length);
  By::pair(ctx, velocity, v, component);
  transform(ctx, turn_element{}, outputs(along, point), inputs(length, component));
  copy(ctx, v, w);
  By::add(ctx, along, velocity, w);
  By::add(ctx, point, from, w);
}

// v = y / <x, y> - x.
template <class By, class Ctx, class X, class Y, class V, class Status>
void sphere_inverse_retract(Ctx& ctx, X const& x, Y const& y, V&& v, Status&& status) {
  index_t const k = By::count(x.cols());
  auto component = scratch<double>(ctx, 1, k), inverse = scratch<double>(ctx, 1, k);
  auto bits = clear_status(ctx, k);
  By::pair(ctx, x, y, component);
  transform(ctx, hemisphere_element{}, outputs(inverse, bits), inputs(component));
  copy(ctx, y, v);
  By::stretch(ctx, inverse, v);
  axpy(ctx, -1, x, v);
  remove_component<By>(ctx, x, v);
  raise(ctx, status, bits);
}

template <class By, class Ctx, class X, class V>
void sphere_random_tangent(Ctx& ctx, random_stream& stream, X const& x, V&& v) {
  fill_normal(ctx, stream, 1, v);
  remove_component<By>(ctx, x, v);
  to_unit_length<one_vector>(ctx, v);
  remove_component<By>(ctx, x, v);
}

}  // namespace detail

}  // namespace stiefelx
