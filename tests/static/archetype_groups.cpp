// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Groups, lists, sparse columns, schedules and saved states with the archetype backend; nvcc compiles
// this file as well, without Eigen.

#include <complex>
#include <istream>
#include <ostream>
#include <tuple>
#include <utility>
#include <vector>

#include <stiefelx/manifold/euclidean.hpp>
#include <stiefelx/manifold/power.hpp>
#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/group.hpp>
#include <stiefelx/optim/optimizer_list.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/schedule.hpp>
#include <stiefelx/optim/sparse_columns.hpp>
#include <stiefelx/optim/state.hpp>
#include <stiefelx/optim/state_stream.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

#if defined(EIGEN_WORLD_VERSION)
#error "an algorithm includes Eigen"
#endif

namespace stiefelx {

template <class S, class T>
void groups(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& g,
            archetype::matrix<T>& y, archetype::matrix<T> const& h,
            archetype::matrix<int>& status) {
  optimizer_group group(group_options{.largest_norm = 1},
                        riemannian_adam(ctx, stiefel{x.rows(), x.cols()}, x),
                        riemannian_momentum(ctx, euclidean{y.rows(), y.cols()}, y));
  group.step(ctx, std::tie(x, y), std::tie(g, h), status);
  group.step(ctx, std::tuple(x.middleCols(0, x.cols()), y.middleRows(0, y.rows())),
             std::tuple(g.adjoint().adjoint(), h.middleRows(0, h.rows())));
  group.set_relative_rates({1, 0.1});
  group.set_learning_rate(warm_up{10, linear_schedule{1, 100}}(3));
  group.set_learning_rate(step_schedule{1, 10}(3) + constant_schedule{1}(3));
  copy(ctx, group.template optimizer<0>().first_moment(), x);
  load(ctx, save(ctx, group), group);

  std::vector<decltype(riemannian_adam(ctx, euclidean{y.rows(), y.cols()}, y))> each;
  each.push_back(riemannian_adam(ctx, euclidean{y.rows(), y.cols()}, y));
  optimizer_list list(std::move(each), {.all_or_nothing = false});
  list.step(ctx, std::vector{&y}, std::vector{&h}, status);
  list.set_learning_rate(1e-3);
  load(ctx, save(ctx, list), list);
}

template void groups(archetype::context&, archetype::matrix<float>&,
                     archetype::matrix<float> const&, archetype::matrix<double>&,
                     archetype::matrix<double> const&, archetype::matrix<int>&);
template void groups(archetype::context&, archetype::matrix<std::complex<double>>&,
                     archetype::matrix<std::complex<double>> const&, archetype::matrix<float>&,
                     archetype::matrix<float> const&, archetype::matrix<int>&);

template <class S>
void sparse_items(archetype::context& ctx, archetype::matrix<S>& x, archetype::matrix<S> const& g,
                  archetype::matrix<int> const& indices, archetype::matrix<int>& status) {
  sparse_columns points(ctx, x, {.items = 8, .largest = 4}, [&](auto const& part, index_t count) {
    return riemannian_momentum(ctx, power<stiefel>{{4, 2}, count}, part);
  });
  expect_indices(ctx, indices, 8);
  points.step_items(ctx, x, indices, g);
  points.step_items(ctx, x.middleCols(0, x.cols()), indices.adjoint().adjoint(),
                    g.middleCols(0, g.cols()), status);
  points.step(ctx, x, g, status);
  points.set_learning_rate(1e-3);
  copy(ctx, points.optimizer().velocity(), x);
  load(ctx, save(ctx, points), points);
}

template void sparse_items(archetype::context&, archetype::matrix<float>&,
                           archetype::matrix<float> const&, archetype::matrix<int> const&,
                           archetype::matrix<int>&);
template void sparse_items(archetype::context&, archetype::matrix<std::complex<double>>&,
                           archetype::matrix<std::complex<double>> const&,
                           archetype::matrix<int> const&, archetype::matrix<int>&);

void plain_tables(archetype::context& ctx, archetype::matrix<double>& x,
                  archetype::matrix<double> const& g, archetype::matrix<int> const& indices,
                  std::iostream& stream) {
  sparse_columns table(ctx, x, {.items = 8, .largest = 4},
                       [&](auto const& part, index_t) { return adamw(ctx, part); });
  table.step_items(ctx, x, indices, g);
  write(stream, save(ctx, table));
  load(ctx, read(stream), table);
}

}  // namespace stiefelx
