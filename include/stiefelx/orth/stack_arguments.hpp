// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <string>
#include <type_traits>

#include <stiefelx/core/context.hpp>
#include <stiefelx/core/stack.hpp>
#include <stiefelx/team/statuses.hpp>

/// \file
/// \brief What every function of a stack of tall matrices asks of its arguments.
/// \ingroup orth

namespace stiefelx::detail {

// The columns of each matrix of a stack of tall ones.
template <class A>
index_t expect_tall_stack(char const* function, char const* argument, stack s, A const& a) {
  index_t const p = columns_of_each(function, argument, s, a);
  if (a.rows() < p)
    throw_shape(function, argument, a.rows(), a.cols(),
                "at least as many rows as the " + std::to_string(p) + " columns of each matrix");
  return p;
}

// One status a matrix, or none.
template <class Status>
void expect_statuses(char const* function, stack s, Status const& status) {
  if constexpr (!std::is_same_v<std::remove_cvref_t<Status>, no_status>)
    expect_shape(function, "status", status, 1, s.count);
}

// The arguments of a factorization a = q r of every matrix of a stack; its columns.
template <class Ctx, class A, class Q, class R, class Status>
index_t expect_stack_qr(Ctx& ctx, char const* function, stack s, A const& a, Q const& q, R const& r,
                        Status const& status) {
  index_t const p = expect_tall_stack(function, "a", s, a);
  expect_shape(function, "q", q, a.rows(), a.cols());
  expect_shape(function, "r", r, p, a.cols());
  expect_statuses(function, s, status);
  expect_same_or_distinct(ctx, function, "q", q, "a", a);
  expect_distinct(ctx, function, "r", r, "a", a);
  expect_distinct(ctx, function, "r", r, "q", q);
  return p;
}

// status |= bits, matrix by matrix; `columns` of bits belong to one.
template <class Ctx, class Status, class Bits>
void raise_each(Ctx& ctx, stack s, Status&& status, Bits& bits, index_t columns = 1) {
  if constexpr (!std::is_same_v<std::remove_cvref_t<Status>, no_status>)
    run_batch(ctx, s.count, collect_statuses_body{columns}, bits, status);
}

}  // namespace stiefelx::detail
