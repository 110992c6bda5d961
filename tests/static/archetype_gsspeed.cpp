// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The scheduled inverse square root, with the archetype backend.

#include <complex>

#include <stiefelx/orth/scheduled_inverse_sqrt.hpp>
#include <support/archetype/batch.hpp>
#include <support/archetype/verbs.hpp>

namespace stiefelx {

template <class S>
void roots(archetype::context& ctx, archetype::matrix<S> const& g, polar_schedule const& schedule,
           archetype::matrix<S>& z) {
  inverse_sqrt(ctx, g, schedule, z);
  inverse_sqrt(ctx, g.middleCols(0, g.cols()), schedule, z.middleRows(0, z.rows()));
}

template void roots(archetype::context&, archetype::matrix<float> const&, polar_schedule const&,
                    archetype::matrix<float>&);
template void roots(archetype::context&, archetype::matrix<double> const&, polar_schedule const&,
                    archetype::matrix<double>&);
template void roots(archetype::context&, archetype::matrix<std::complex<double>> const&,
                    polar_schedule const&, archetype::matrix<std::complex<double>>&);

}  // namespace stiefelx
