// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <tuple>

namespace stiefelx {

/// Matrices that the verb transform() writes, made by outputs().
/// \ingroup core
template <class... Y>
struct output_list {
  std::tuple<Y&&...> matrices;  ///< lvalues and views, as they were passed
};

/// Matrices that the verb transform() reads, made by inputs().
/// \ingroup core
template <class... X>
struct input_list {
  std::tuple<X const&...> matrices;  ///< as they were passed
};

/// \brief Names the outputs of transform().
/// \ingroup core
/// \param[in,out] y  matrices of one shape; the functor gets references to their entries
/// \returns the list
template <class... Y>
output_list<Y...> outputs(Y&&... y) {
  return {std::tuple<Y&&...>(static_cast<Y&&>(y)...)};
}

/// \brief Names the inputs of transform().
/// \ingroup core
/// \param[in] x  matrices of the outputs' shape, or 1 x 1 and then broadcast
/// \returns the list
template <class... X>
input_list<X...> inputs(X const&... x) {
  return {std::tuple<X const&...>(x...)};
}

}  // namespace stiefelx
