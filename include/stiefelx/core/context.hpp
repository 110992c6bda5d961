// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <utility>

#include <stiefelx/core/alias.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>
#include <stiefelx/core/shape.hpp>
#include <stiefelx/core/status.hpp>
#include <stiefelx/core/transform.hpp>

/// \file
/// \brief Contexts and the table of verbs.
/// \ingroup core
///
/// A verb is a free function in the namespace of its context: `verb(ctx, inputs..., outputs...)`.
/// Algorithms call verbs unqualified, and the context's type chooses where they run. No verb
/// returns a number: results are 1 x 1 matrices where the data live, and only value() and
/// download() wait. A coefficient c is a number or a real 1 x 1 matrix.
///
/// The routed verbs take tokens as columns: ids is k x T, the experts of each token's k slots,
/// negative for an empty slot, which gives zero and adds nothing; expert e owns the columns
/// e r .. e r + r - 1 of the d x (E r) matrix a, or as many rows of the (E r) x d matrix b; slot i
/// owns the rows i r .. i r + r - 1 of the (k r) x T matrix h.
///
/// A factor of multiply, multiply_add and product may have two bytes an entry (core/narrow.hpp) where
/// everything else is float; copy converts, rounding once.
///
/// | verb | meaning |
/// | --- | --- |
/// | `copy(ctx, a, b)` | b = a, converting between real types or between complex types |
/// | `fill(ctx, c, b)`, `set_identity(ctx, b)` | b = c; ones on the diagonal |
/// | `clone(ctx, a)`, `widen(ctx, a)` | scratch copy of a; in the wide scalar |
/// | `scratch<S>(ctx, rows, cols)` | uninitialised scratch |
/// | `zeros<S>(ctx, rows, cols)`, `zeros_like(ctx, a)` | an owning zero matrix |
/// | `dense(ctx, a)` | a plain view of an input |
/// | `memory(ctx, a)` | the bytes that a covers, for overlap() |
/// | `scale(ctx, c, b)`, `axpy(ctx, c, a, b)` | b = c b; b += c a |
/// | `product(ctx, a, b)` | scratch = a b |
/// | `multiply(ctx, a, b, c)`, `multiply_add(ctx, s, a, b, c)` | c = a b; c += s a b |
/// | `gram(ctx, y)` | scratch = y^H y, Hermitian to the bit |
/// | `routed_multiply(ctx, ids, a, x, h)` | slot i of token t: h = A_e^T x_t, e = ids(i, t) |
/// | `routed_multiply_add(ctx, s, ids, a, h, y)` | y_t += s sum over its slots of A_e h |
/// | `routed_combine(ctx, s, ids, a, h, y)` | the same, from zero: y is not read |
/// | `routed_outer_add(ctx, s, ids, x, h, a)` | A_e += s sum over its slots of x_t h^T |
/// | `routed_adjoint_outer_add(ctx, s, ids, h, x, b)` | B_e += s sum over its slots of h x_t^T |
/// | `dense_expert_columns(ctx)` | E r up to which tokens are multiplied with every expert instead |
/// | `symmetrize(ctx, s)` | s = (s + s^H) / 2 |
/// | `cholesky(ctx, g, status)` | g = upper factor with positive diagonal, rest zero |
/// | `solve_right(ctx, r, y)` | y = y r^-1, r upper triangular |
/// | `solve(ctx, a, b, status)` | b = a^-1 b by LU; a is overwritten |
/// | `inner(ctx, a, b, s)`, `norm(ctx, a, s)` | s = Re tr(a^H b); Frobenius norm |
/// | `scale_columns(ctx, w, h)`, `column_inner(ctx, a, b, w)` | by column |
/// | `sum_columns(ctx, a, w)` | sum of the columns |
/// | `all_finite(ctx, a, s)`, `copy_if(ctx, s, a, b)` | s = 1 or 0; b = a when s is not 0 |
/// | `transform(ctx, f, outputs(...), inputs(...))` | element text; a 1 x 1 input is broadcast |
/// | `run_batch(ctx, count, body, a, ...)` | team text, one team an item |
/// | `raise(ctx, status, bits)` | status \|= bits |
/// | `upload(ctx, data, b)` | b = entries of the caller's memory, column by column |
/// | `download(ctx, a, data)` | the way back; waits |
/// | `value(ctx, s)` | reads a 1 x 1 matrix; waits |

namespace stiefelx {

/// \brief What algorithms ask of a context: scratch and owners of every scalar they need.
/// \ingroup core
template <class Ctx>
concept Context = requires(Ctx& ctx, index_t n) {
  scratch<double>(ctx, n, n);
  zeros<double>(ctx, n, n);
  zeros<int>(ctx, n, n);
};

/// Owning matrix of a's scalar and static shape, in the memory of a context.
/// \ingroup core
template <class Ctx, class X>
using owning_t = decltype(zeros_like(std::declval<Ctx&>(), std::declval<X const&>()));

/// Owning matrix of scalar S in the memory of a context.
/// \ingroup core
template <class Ctx, class S>
using matrix_t = decltype(zeros<S>(std::declval<Ctx&>(), index_t(), index_t()));

/// \brief A scratch copy of a status that starts at zero, so that a body can always write one.
/// \ingroup core
/// \param[in] ctx    where to run
/// \param[in] items  number of items, one column each
/// \returns 1 x items, all zero
template <class Ctx>
auto clear_status(Ctx& ctx, index_t items) {
  auto bits = scratch<int>(ctx, 1, items);
  fill(ctx, 0, bits);
  return bits;
}

}  // namespace stiefelx
