// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The manifolds beside stiefel with the archetype backend (see archetype_instances.cpp).

#include <complex>
#include <type_traits>
#include <utility>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/fixed_rank.hpp>
#include <stiefelx/manifold/fixed_rank_retraction.hpp>
#include <stiefelx/manifold/generalized_stiefel.hpp>
#include <stiefelx/manifold/generalized_stiefel_retraction.hpp>
#include <stiefelx/manifold/grassmann.hpp>
#include <stiefelx/manifold/grassmann_geodesic.hpp>
#include <stiefelx/manifold/manifold.hpp>
#include <stiefelx/manifold/oblique.hpp>
#include <stiefelx/manifold/orthogonal.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/product.hpp>
#include <stiefelx/manifold/scaled_stiefel.hpp>
#include <stiefelx/manifold/special_orthogonal.hpp>
#include <stiefelx/manifold/sphere.hpp>
#include <stiefelx/manifold/unitary.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class S>
using owner = archetype::matrix<S>;

template <class S>
struct room {
  owner<S>& x;
  owner<S> const& v;
  owner<S>& y;
  owner<real_of_t<S>>& s;
  owner<int>& status;
};

// What every manifold has.
template <class S, class M>
void basics(archetype::context& ctx, M const& m, room<S> at) {
  static_assert(ManifoldOn<M, archetype::context, owner<S>>);
  random_stream stream{1, 0};
  random_point(ctx, m, stream, at.x);
  random_tangent(ctx, m, stream, at.x, at.y);
  project(ctx, m, at.x, at.v, at.y.middleCols(0, at.y.cols()));
  project(ctx, m, at.x.middleCols(0, at.x.cols()), at.y, at.y);
  riemannian_gradient(ctx, m, at.x, at.v, at.y);
  inner(ctx, m, at.x, at.v, at.v, at.s);
  norm(ctx, m, at.x, at.v, at.s);
  retract(ctx, m, at.x, at.v, at.x);
  transport(ctx, m, at.x, at.x, at.v, at.y);
  nearest_point(ctx, m, at.v, at.y, at.status);
  nearest_point(ctx, m, at.v, at.y);
  static_cast<void>(dimension(m));

  gradient_or_project(ctx, m, at.x, at.v, at.y);
  transport_or_project(ctx, m, at.x, at.x, at.v, at.y);
  transport_along_or_project(ctx, m, at.x, at.v, at.x, at.v, at.y);
  retract_and_transport(ctx, m, at.x, at.v, at.v, at.y, at.y);
  norm_or_inner(ctx, m, at.x, at.v, at.s);
  distance_or_chord(ctx, m, at.x, at.v, at.s, at.status);
  random_tangent_or_project(ctx, m, stream, at.x, at.y);
}

template <class S, class M>
void hessian(archetype::context& ctx, M const& m, room<S> at) {
  riemannian_hessian(ctx, m, at.x, at.v, at.v, at.v, at.y);
}

template <class S, class M>
void geodesics(archetype::context& ctx, M const& m, room<S> at) {
  exp(ctx, m, at.x, at.v, at.y);
  log(ctx, m, at.x, at.v, at.y, at.status);
  log(ctx, m, at.x, at.v, at.y);
  distance(ctx, m, at.x, at.v, at.s, at.status);
  static_cast<void>(injectivity_radius(m));
}

template <class S, class M>
void parallel(archetype::context& ctx, M const& m, room<S> at) {
  transport_along(ctx, m, at.x, at.v, at.x, at.v, at.y);
}

template <class S>
void of_any_scalar(archetype::context& ctx, room<S> at) {
  index_t const n = at.x.rows(), p = at.x.cols();
  auto const everything = [&](auto const& m) {
    basics(ctx, m, at);
    hessian(ctx, m, at);
    geodesics(ctx, m, at);
    parallel(ctx, m, at);
  };
  everything(euclidean{n, p});
  everything(sphere{n, p});
  everything(oblique{n, p});
  everything(grassmann{n, p});
  everything(power<sphere>{{n, 1}, p});
  weingarten(ctx, sphere{n, p}, at.x, at.v, at.v, at.y);
  weingarten(ctx, oblique{n, p}, at.x, at.v, at.v, at.y);
  inverse_retract(ctx, sphere{n, p}, at.x, at.v, at.y, at.status);
  inverse_retract(ctx, oblique{n, p}, at.x, at.v, at.y);
  inverse_retract(ctx, grassmann{n, p}, at.x, at.v, at.y, polar_retraction{}, at.status);
  retract(ctx, grassmann{n, p}, at.x, at.v, at.y, polar_retraction{});
  retract(ctx, power<grassmann>{{n, 1}, p}, at.x, at.v, at.y, polar_retraction{});

  scaled_stiefel const scaled{n, p, 2};
  basics(ctx, scaled, at);
  hessian(ctx, scaled, at);
  geodesics(ctx, scaled, at);
  inverse_retract(ctx, scaled, at.x, at.v, at.y, polar_retraction{}, at.status);

  auto const b = zeros<S>(ctx, n, n);
  generalized_stiefel const plain{n, p, by_matrix(b)};
  basics(ctx, plain, at);
  hessian(ctx, plain, at);
  generalized_stiefel const solved{n, p, by_matrix(b), by_matrix(b)};
  basics(ctx, solved, at);
  hessian(ctx, solved, at);
  retract(ctx, solved, at.x, at.v, at.y, polar_retraction{});

  fixed_rank const low{n - 3, 3, p};
  basics(ctx, low, at);
  retract(ctx, low, at.x, at.v, at.y, at.status);

  product_of const both{sphere{n, p}, oblique{n, p}};
  random_stream stream{1, 0};
  auto end = std::tie(at.y, at.y);
  auto const point = std::tie(at.x, at.x);
  auto const step = std::tie(at.v, at.v);
  random_point(ctx, both, stream, end);
  random_tangent(ctx, both, stream, point, end);
  project(ctx, both, point, step, end);
  riemannian_gradient(ctx, both, point, step, end);
  inner(ctx, both, point, step, step, at.s);
  norm(ctx, both, point, step, at.s);
  retract(ctx, both, point, step, end);
  exp(ctx, both, point, step, end);
  log(ctx, both, point, step, end, at.status);
  distance(ctx, both, point, step, at.s);
  transport(ctx, both, point, point, step, end);
}

template <class M, class S>
void of_a_group(archetype::context& ctx, room<S> at) {
  M const m{at.x.rows()};
  basics(ctx, m, at);
  hessian(ctx, m, at);
  geodesics(ctx, m, at);
  parallel(ctx, m, at);
  retract(ctx, m, at.x, at.v, at.y, cayley_retraction{});
  inverse_retract(ctx, m, at.x, at.v, at.y, polar_retraction{}, at.status);
}

void components(archetype::context& ctx, room<double> at) {
  determinant_sign(ctx, at.x, at.s);
  move_to_component(ctx, orthogonal{at.x.rows()}, -1, at.x);
}

template void of_any_scalar(archetype::context&, room<float>);
template void of_any_scalar(archetype::context&, room<std::complex<double>>);
template void of_a_group<orthogonal>(archetype::context&, room<double>);
template void of_a_group<special_orthogonal>(archetype::context&, room<float>);
template void of_a_group<unitary>(archetype::context&, room<std::complex<double>>);

}  // namespace stiefelx
