// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Team text of manifolds and optimizers: each launch is compared with the same text run by one
// lane.
#include <limits>
#include <utility>
#include <vector>

#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/manifold/grassmann_geodesic.hpp>
#include <stiefelx/manifold/orthogonal.hpp>
#include <stiefelx/manifold/stiefel_basis.hpp>
#include <stiefelx/manifold/stiefel_inverse_qr_body.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/expert_assignment.hpp>
#include <stiefelx/optim/item_columns_body.hpp>
#include <stiefelx/optim/riemannian_adam_stack.hpp>
#include <stiefelx/team/each_item.hpp>
#include <stiefelx/team/stiefel_cayley_item.hpp>
#include <stiefelx/team/stiefel_item.hpp>
#include <stiefelx/team/stiefel_polar_item.hpp>

#include <ptx/serial_oracle.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using recording::constant;
using recording::definite;
using recording::values;
using std::as_const;
using stiefelx::index_t;

constexpr index_t n = 21, p = 4, count = 3;

// A stack of the first columns of reflections.
template <class T>
cuda::matrix<T> points(cuda::context& ctx, index_t rows, index_t cols) {
  std::vector<T> x;
  for (index_t item = 0; item < count; ++item) {
    auto const v = recording::entries<double>(rows, static_cast<unsigned>(item));
    double square = 0;
    for (double const entry : v) square += entry * entry;
    for (index_t j = 0; j < cols; ++j)
      for (index_t i = 0; i < rows; ++i) {
        auto const at = [&v](index_t k) { return v[static_cast<std::size_t>(k)]; };
        x.push_back(static_cast<T>((i == j ? 1 : 0) - 2 * at(i) * at(j) / square));
      }
  }
  return recording::uploaded(ctx, x, rows);
}

template <class T, class Item>
void one_step(std::string const& name, Item const& item, index_t rows, index_t cols) {
  cuda::context ctx(recording::small());
  recording::begin(name + recording::type_name<T>());
  auto const x = points<T>(ctx, rows, cols);
  auto v = values<T>(ctx, rows, cols * count, 2);
  cuda::matrix<T> y(rows, cols * count);
  run_batch(ctx, count, stiefelx::each_item<Item>{item, count}, x, as_const(v), y);
}

template <class T>
void tangents() {
  one_step<T>("projection", stiefelx::stiefel_gradient_item<>{n, p, 0.5}, n, p);
  one_step<T>("qr retraction", stiefelx::stiefel_qr_item<>{n, p}, n, p);
  one_step<T>("cayley retraction", stiefelx::stiefel_cayley_item<>{n, p}, n, p);
  one_step<T>("polar retraction", stiefelx::stiefel_polar_item<>{n, p}, n, p);
}

template <class T>
void adam(bool amsgrad) {
  using Item = stiefelx::stiefel_adam_item<>;
  cuda::context ctx(recording::small());
  recording::begin("riemannian_adam" + recording::type_name<T>());
  auto x = points<T>(ctx, n, p);
  auto entries = recording::entries<T>(n * p * count, 3);
  entries.back() = std::numeric_limits<T>::infinity();  // the last point keeps its place
  auto const g = recording::uploaded(ctx, entries, n);
  auto first = values<T>(ctx, n, p * count, 4);
  auto second = constant<double>(ctx, 1, count, 0.5), largest = constant<double>(ctx, 1, count, 9);
  auto power1 = constant<double>(ctx, 1, count, 0.9),
       power2 = constant<double>(ctx, 1, count, 0.99);
  cuda::matrix<int> bits(1, count);
  stiefelx::stack_adam_step_body<Item> const body{
      Item{n, p, 0.9, 1e-8, 1e30}, count, {0.1, 0.9, 0.99}, {0.9, 0.99}, amsgrad};
  run_batch(ctx, count, body, g, x, first, second, largest, power1, power2, bits);
}

void coordinates() {
  cuda::context ctx(recording::small());
  recording::begin("coordinates");
  auto const a = values<double>(ctx, p, p, 5), b = values<double>(ctx, n - p, p, 6);
  cuda::matrix<double> c(p * (p - 1) / 2 + (n - p) * p, 1), back(p, p), below(n - p, p);
  run_batch(ctx, p, stiefelx::pack_coordinates_body{0.5}, a, b, c);
  run_batch(ctx, p, stiefelx::unpack_coordinates_body{0.5}, as_const(c), back, below);
  auto top = definite<double>(ctx, p, 1, 7);
  cuda::matrix<double> s(p, p), skew(p, p), lu = values<double>(ctx, p, p, 9), r(p, p);
  run_batch(ctx, 1, stiefelx::complement_phases_body{}, top, s);
  run_batch(ctx, 1, stiefelx::skew_of_lower_body{}, a, skew);
  auto const m = definite<double>(ctx, p, 1, 8);
  copy(ctx, m, lu);
  cuda::matrix<int> status(1, 1);
  run_batch(ctx, 1, stiefelx::inverse_qr_body{1e6}, m, lu, r, status);
  auto square = values<double>(ctx, p, p, 10);
  cuda::matrix<double> sign(1, 1), angles(1, p);
  run_batch(ctx, 1, stiefelx::determinant_sign_body{}, square, sign);
  auto cosines = recording::uploaded<double>(ctx, {0.9, 0.5, 0.25, 0.1}, 1);
  auto sines = recording::uploaded<double>(ctx, {0.99, 0.9, 0.8, 0.4}, 1);
  run_batch(ctx, 1, stiefelx::principal_angles_body{}, cosines, sines, angles);
}

// Items 4, 1, none and 4 again, of which the first gets the gradient of both.
void items() {
  cuda::context ctx(recording::small());
  recording::begin("items");
  index_t const all = 6, places = 4;
  auto indices = recording::uploaded<int>(ctx, {4, 1, -1, 4}, 1);
  cuda::matrix<int> next(1, places);
  auto first = constant<int>(ctx, 1, all, 0);
  run_batch(ctx, 1, stiefelx::link_items_body{places, all}, indices, next, first);
  auto whole = values<float>(ctx, n, 2 * all, 11), g = values<float>(ctx, n, 2 * places, 12);
  cuda::matrix<float> piece(n, 2 * places), sums(n, 2 * places);
  run_batch(ctx, places, stiefelx::gather_items_body{places, all, 2}, indices, whole, piece);
  run_batch(ctx, places, stiefelx::gather_gradients_body{places, all, 2}, indices, next, first, g,
            sums);
  run_batch(ctx, places, stiefelx::scatter_items_body{all, 2}, indices, first, piece, whole);
  auto const ids = recording::uploaded<int>(ctx, {2, 0, 1, -1, 3, 7}, 2);
  auto const weights = values<float>(ctx, 2, 3, 13);
  cuda::matrix<float> assignment(4, 3);
  for (auto const share : {stiefelx::token_share::gate, stiefelx::token_share::one})
    run_batch(ctx, 3, stiefelx::expert_assignment_body{share}, ids, weights, assignment);
}

}  // namespace

void run_cases() {
  tangents<double>();
  adam<double>(true);
  coordinates();
  items();
}
