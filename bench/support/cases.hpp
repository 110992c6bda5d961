// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "bench/support/suite.hpp"

/// \file
/// \brief Every case: its name, its shapes, and the work that it cannot avoid.
///
/// Ours and the peers take both from here, so a row of one divides by a row of the other. Counts
/// keep the terms that grow with n, with T or with d; work on p x p and k x k matrices is left out,
/// because it depends on the method. Sizes in bytes are those of what a caller hands over and gets
/// back, each array once.

namespace bench {

/// Rows and columns of a tall matrix, n >= p.
struct tall {
  std::ptrdiff_t n;
  std::ptrdiff_t p;
};

/// A case over n x p matrices.
struct tall_case {
  char const* name;
  std::vector<tall> shapes;
  double (*flops)(double n, double p);
  double (*entries)(double n, double p);  ///< read or written
};

namespace cases {

/// Shapes of products and retractions.
inline std::vector<tall> const every_shape{{64, 16}, {512, 64}, {4096, 64}, {4096, 512}};
/// Those where work on p x p matrices does not dominate.
inline std::vector<tall> const narrow_shapes{{64, 16}, {512, 64}, {4096, 64}};
/// Shapes of the factorizations.
inline std::vector<tall> const factor_shapes{{512, 64}, {4096, 64}};

/// C = A B with A n x p, B p x p. A and B are read, C is written.
inline tall_case const gemm{"gemm", every_shape, [](double n, double p) { return 2 * n * p * p; },
                            [](double n, double p) { return 2 * n * p + p * p; }};

/// C = A B^T with A and B n x p for a small p. A and B are read, C is written.
inline tall_case const low_rank_product{"low_rank_product",
                                        {{1024, 8}, {2048, 8}},
                                        [](double n, double p) { return 2 * n * n * p; },
                                        [](double n, double p) { return n * n + 2 * n * p; }};

/// G = A^T A with A n x p: half of a product, because G is symmetric.
inline tall_case const gram{"gram", every_shape, [](double n, double p) { return n * p * p; },
                            [](double n, double p) { return n * p + p * p; }};

/// Y = qf(X + V): the Gram matrix n p^2 and the triangular solve n p^2. X, V read, Y written.
inline tall_case const retract_qr{"retract_qr", every_shape,
                                  [](double n, double p) { return 2 * n * p * p; },
                                  [](double n, double p) { return 3 * n * p; }};

/// Y = (X + V) ((X + V)^T (X + V))^(-1/2): the Gram matrix n p^2, one product 2 n p^2.
inline tall_case const retract_polar{"retract_polar", every_shape,
                                     [](double n, double p) { return 3 * n * p * p; },
                                     [](double n, double p) { return 3 * n * p; }};

/// Y = (I - W/2)^-1 (I + W/2) X with W of rank 2p: X^T V 2 n p^2, V^T V n p^2, and X and V each
/// times a p x p matrix 4 n p^2.
inline tall_case const retract_cayley{"retract_cayley", narrow_shapes,
                                      [](double n, double p) { return 7 * n * p * p; },
                                      [](double n, double p) { return 3 * n * p; }};

/// A = Q R by reflectors: LAPACK's own count, 2 n p^2 - 2/3 p^3 for R and as much for Q.
inline tall_case const householder_qr{
    "householder_qr", factor_shapes,
    [](double n, double p) { return 4 * n * p * p - 4 * p * p * p / 3; },
    [](double n, double p) { return 2 * n * p + p * p; }};

/// A = Q R through the Gram matrix, one pass: n p^2 for it and n p^2 for the triangular solve.
inline tall_case const cholesky_qr{"cholesky_qr", factor_shapes,
                                   [](double n, double p) { return 2 * n * p * p; },
                                   [](double n, double p) { return 2 * n * p + p * p; }};

/// A step from the Euclidean gradient g: two products to project it, two to project the moment at
/// the new point, 2 n p^2 each, and the retraction. X, g, m read, X, m written.
inline tall_case const riemannian_adam{"riemannian_adam",
                                       {{4096, 64}},
                                       [](double n, double p) { return 10 * n * p * p; },
                                       [](double n, double p) { return 5 * n * p; }};

/// The same step for b small matrices, one after the other in memory, each with moments of its own.
struct batched_riemannian_adam {
  static constexpr std::ptrdiff_t count = 10000;
  static constexpr tall each{16, 8};
  static constexpr char const* name = "riemannian_adam";
  static constexpr char const* shape = "b=10000,n=16,p=8";
  static work cost(double scalar_bytes) {
    double const b = count, n = each.n, p = each.p;
    return {10 * b * n * p * p, 5 * b * n * p * scalar_bytes};
  }
};

/// Y_i = qf(X_i + V_i) for b small matrices, one after the other in memory: for each the Gram matrix
/// n p^2 and the triangular solve n p^2. X, V read, Y written.
struct batched_retract_qr {
  static constexpr std::ptrdiff_t count = 10000;
  static constexpr char const* name = "batched_retract_qr";
  static std::string shape(tall each) {
    return "b=" + std::to_string(count) + ",n=" + std::to_string(each.n) +
           ",p=" + std::to_string(each.p);
  }
  static work cost(tall each, double scalar_bytes) {
    double const b = count, n = static_cast<double>(each.n), p = static_cast<double>(each.p);
    return {2 * b * n * p * p, 3 * b * n * p * scalar_bytes};
  }
};

/// Shapes of the matrices of a stack.
inline std::vector<tall> const small_shapes{{8, 3}, {16, 8}, {32, 16}, {64, 32}};

/// \brief A = Q R of T matrices of k columns of d entries, [T, k, d] in memory.
///
/// k (k+1)/2 inner products and as many updates; columns read and orthonormal ones written.
struct gram_schmidt {
  static constexpr std::ptrdiff_t tokens = 4096;
  static constexpr char const* name = "gram_schmidt";
  static constexpr char const* in_place_name = "gram_schmidt_in_place";

  std::ptrdiff_t k, d;

  std::string shape() const {
    return "T=" + std::to_string(tokens) + ",k=" + std::to_string(k) + ",d=" + std::to_string(d);
  }
  work cost(double scalar_bytes) const {
    double const t = tokens, columns = static_cast<double>(k), entries = static_cast<double>(d);
    return {2 * columns * (columns + 1) * t * entries, 2 * columns * t * entries * scalar_bytes};
  }
};

/// Columns and entries of the Gram-Schmidt cases.
inline std::vector<gram_schmidt> const columns_of_tokens{{2, 1024}, {4, 1024}, {8, 1024},
                                                         {2, 4096}, {4, 4096}, {8, 4096}};

/// The k outputs of d entries that each of T tokens has are made orthonormal and added up with
/// weights: k (k+1)/2 inner products, as many updates, k terms of the sum. Outputs read,
/// orthogonalized ones, which a backward pass needs, and sums written.
struct expert_gram_schmidt {
  static constexpr std::ptrdiff_t tokens = 4096, experts = 4, width = 1024;
  static constexpr char const* name = "expert_gram_schmidt";
  static constexpr char const* shape = "T=4096,k=4,d=1024";
  static work cost(double scalar_bytes) {
    double const t = tokens, k = experts, d = width;
    return {2 * k * (k + 2) * t * d, (2 * k + 1) * t * d * scalar_bytes};
  }
};

/// \brief A layer y += W x + a sum over the chosen experts, or parts of it.
///
/// Frozen product and its product for dx: 2 T d^2 each. Adapters: T k r (d + d) multiply-adds
/// forward and twice that backward. Router: T d E multiply-adds forward and twice that backward.
/// With orthogonalization also C = B^T B, symmetric, (E r)^2 d.
struct moe_lora_layer {
  std::ptrdiff_t width, rank;

  static constexpr std::ptrdiff_t tokens = 2048, experts = 8, chosen = 2;
  static constexpr char const* part_forward = "moe_lora_part_forward";
  static constexpr char const* part_both = "moe_lora_part_forward_backward";
  static constexpr char const* base_forward = "moe_lora_base_forward";
  static constexpr char const* base_both = "moe_lora_base_forward_backward";
  static constexpr char const* forward = "moe_lora_forward";
  static constexpr char const* both = "moe_lora_forward_backward";
  static constexpr char const* orthogonal_both = "omoe_forward_backward";

  std::string shape() const {
    return "T=" + std::to_string(tokens) + ",d=" + std::to_string(width) +
           ",E=" + std::to_string(experts) + ",k=" + std::to_string(chosen) +
           ",r=" + std::to_string(rank);
  }

  /// Adapters alone. Read: x, A, B, forward y, backward dy, dx; written: y, dx, both gradients, which
  /// are read too.
  work part(bool backward, double scalar_bytes) const {
    double const t = tokens, d = static_cast<double>(width), r = static_cast<double>(rank);
    double const flops = 4 * t * chosen * r * d, experts_size = 2 * experts * r * d;
    if (!backward) return {flops, (3 * t * d + experts_size) * scalar_bytes};
    return {3 * flops, (6 * t * d + 3 * experts_size) * scalar_bytes};
  }
  /// The frozen product alone. Read: x, W, backward dy; written: y, backward dx.
  work base(bool backward, double scalar_bytes) const {
    double const t = tokens, d = static_cast<double>(width), passes = backward ? 2 : 1;
    return {passes * 2 * t * d * d, (passes * 2 * t * d + d * d) * scalar_bytes};
  }
  /// All of it. Read: x, W, A, B, router, backward dy; written: y, backward dx and the gradients of A,
  /// B and the router.
  work whole(bool backward, bool orthogonal, double scalar_bytes) const {
    double const t = tokens, d = static_cast<double>(width), r = static_cast<double>(rank);
    double const passes = backward ? 2 : 1, all = experts * r, router = experts * d;
    double const flops = base(backward, 1).flops + part(backward, 1).flops +
                         (backward ? 6 : 2) * t * router + (orthogonal ? all * all * d : 0);
    double const entries = passes * (2 * t * d + 2 * all * d + router) + d * d;
    return {flops, entries * scalar_bytes};
  }
};

/// Widths and ranks of the layers.
inline std::vector<moe_lora_layer> const moe_lora_layers{{1024, 16}, {1024, 8}, {2048, 16}};

}  // namespace cases

/// The name of a scalar type in a row.
template <class Scalar>
constexpr char const* scalar_name = std::is_same_v<Scalar, float> ? "float" : "double";

/// \brief Adds a case over tall matrices for float and double.
/// \param[in,out] to              the program's cases
/// \param[in]     what            name, shapes and work
/// \param[in]     implementation  who does it
/// \param[in]     make            `make.operator()<Scalar>(shape)` gives a timed_call
template <class Make>
void add_tall(suite& to, tall_case const& what, std::string const& implementation,
              Make const& make) {
  auto const add_scalar = [&]<class Scalar>(Scalar) {
    for (tall const shape : what.shapes) {
      auto const n = static_cast<double>(shape.n), p = static_cast<double>(shape.p);
      to.add({what.name, "n=" + std::to_string(shape.n) + ",p=" + std::to_string(shape.p),
              scalar_name<Scalar>, implementation},
             {what.flops(n, p), what.entries(n, p) * sizeof(Scalar)},
             [make, shape] { return make.template operator()<Scalar>(shape); });
    }
  };
  add_scalar(float{});
  add_scalar(double{});
}

/// \brief Adds a Gram-Schmidt case for float, and for double where arrays stay below 300 MB.
/// \param[in,out] to              the program's cases
/// \param[in]     name            gram_schmidt::name or gram_schmidt::in_place_name
/// \param[in]     implementation  who does it
/// \param[in]     make            `make.operator()<Scalar>(columns)` gives a timed_call
template <class Make>
void add_columns_of_tokens(suite& to, char const* name, std::string const& implementation,
                           Make const& make) {
  auto const add_scalar = [&]<class Scalar>(Scalar) {
    for (cases::gram_schmidt const columns : cases::columns_of_tokens) {
      work const cost = columns.cost(sizeof(Scalar));
      if (sizeof(Scalar) > sizeof(float) && cost.bytes > 6e8) continue;
      to.add({name, columns.shape(), scalar_name<Scalar>, implementation}, cost,
             [make, columns] { return make.template operator()<Scalar>(columns); });
    }
  };
  add_scalar(float{});
  add_scalar(double{});
}

/// \brief Adds the case over stacks of small matrices for float and double.
/// \param[in,out] to              the program's cases
/// \param[in]     implementation  who does it
/// \param[in]     make            `make.operator()<Scalar>(shape)` gives a timed_call
template <class Make>
void add_stacks(suite& to, std::string const& implementation, Make const& make) {
  using what = cases::batched_retract_qr;
  auto const add_scalar = [&]<class Scalar>(Scalar) {
    for (tall const each : cases::small_shapes)
      to.add({what::name, what::shape(each), scalar_name<Scalar>, implementation},
             what::cost(each, sizeof(Scalar)),
             [make, each] { return make.template operator()<Scalar>(each); });
  };
  add_scalar(float{});
  add_scalar(double{});
}

}  // namespace bench
