// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <stiefelx/core/context.hpp>

namespace stiefelx {

/// \brief A state that does not fit the optimizer it is loaded into, or a file that holds none.
/// \ingroup optim
///
/// The text names what was found and what was expected:
/// `load: the state is of adamw, expected riemannian_adam`.
struct state_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// \brief One array of an optimizer's state, in the memory of the host.
/// \ingroup optim
struct state_array {
  std::string name;              ///< as for_each_array() calls it
  std::string scalar;            ///< float32, float64, complex64, complex128 or int32
  index_t rows = 0;              ///< rows
  index_t cols = 0;              ///< columns
  std::vector<std::byte> bytes;  ///< the entries, column by column, in the machine's byte order

  /// Whether two arrays agree to the bit.
  /// \param[in] other  the second
  /// \returns true when they do
  bool operator==(state_array const& other) const = default;
};

/// \brief Everything that an optimizer remembers, as plain data.
/// \ingroup optim
///
/// It holds no options: a loaded optimizer keeps its own learning rate and decays.
struct optimizer_state {
  std::string optimizer;            ///< the optimizer's `name`
  std::vector<state_array> arrays;  ///< in the order of for_each_array()

  /// Whether two states agree to the bit.
  /// \param[in] other  the second
  /// \returns true when they do
  bool operator==(optimizer_state const& other) const = default;
};

namespace detail {

template <class S>
inline constexpr char const* scalar_name = nullptr;
template <>
inline constexpr char const* scalar_name<float> = "float32";
template <>
inline constexpr char const* scalar_name<double> = "float64";
template <>
inline constexpr char const* scalar_name<std::complex<float>> = "complex64";
template <>
inline constexpr char const* scalar_name<std::complex<double>> = "complex128";
template <>
inline constexpr char const* scalar_name<int> = "int32";

static_assert(sizeof(int) == 4 && std::numeric_limits<float>::is_iec559 &&
              std::numeric_limits<double>::is_iec559);

inline std::string shape_text(std::string const& scalar, index_t rows, index_t cols) {
  return scalar + " " + std::to_string(rows) + "x" + std::to_string(cols);
}

[[noreturn]] STIEFELX_COLD inline void throw_state(std::string const& what,
                                                   std::string const& found,
                                                   std::string const& expected) {
  throw state_error(what + " " + found + ", expected " + expected);
}

// Throws unless a saved array is the one that an optimizer offers under this name.
template <class A>
void expect_array(state_array const& saved, std::size_t place, std::string const& name,
                  A const& array) {
  using S = scalar_t<A>;
  if (saved.name != name)
    throw_state("load: array " + std::to_string(place) + " of the state is", saved.name, name);
  std::string const found = shape_text(saved.scalar, saved.rows, saved.cols);
  std::string const expected = shape_text(scalar_name<S>, array.rows(), array.cols());
  if (found != expected) throw_state("load: " + name + " is", found, expected);
  std::size_t const bytes =
      static_cast<std::size_t>(array.rows()) * static_cast<std::size_t>(array.cols()) * sizeof(S);
  if (saved.bytes.size() != bytes)
    throw_state("load: " + name + " has", std::to_string(saved.bytes.size()) + " bytes",
                std::to_string(bytes));
}

}  // namespace detail

/// \brief Takes every array of an optimizer's state to the memory of the host.
/// \ingroup optim
///
/// An optimizer has a `name` and `for_each_array(visit)`, which calls `visit(name, matrix&)` for
/// each array; the library's have, groups and a user's own may.
///
/// \param[in] ctx  where the state lives; waits, once an array
/// \param[in] opt  the optimizer; nothing in it changes
/// \returns the state
/// \par Cost
/// One copy of the state in the memory of the host.
template <class Ctx, class Opt>
optimizer_state save(Ctx& ctx, Opt& opt) {
  optimizer_state state{opt.name, {}};
  opt.for_each_array([&](char const* name, auto& array) {
    using S = scalar_t<decltype(array)>;
    static_assert(detail::scalar_name<S> != nullptr, "save: this scalar has no name in a state");
    state_array saved{name, detail::scalar_name<S>, array.rows(), array.cols(), {}};
    saved.bytes.resize(static_cast<std::size_t>(array.rows() * array.cols()) * sizeof(S));
    download(ctx, array, reinterpret_cast<S*>(saved.bytes.data()));
    state.arrays.push_back(std::move(saved));
  });
  return state;
}

/// \brief Puts a saved state into an optimizer of the same kind, bit by bit.
/// \ingroup optim
///
/// Everything is checked before anything is written, so a state that does not fit leaves the
/// optimizer as it is. Options are not part of a state.
///
/// \param[in]     ctx    where the optimizer's state lives
/// \param[in]     state  what save() returned
/// \param[in,out] opt    an optimizer of the same name, made for parameters of the same shapes
/// \throws state_error  if the state is of another optimizer, or an array has another name, scalar
///                      or shape; the text names both
template <class Ctx, class Opt>
void load(Ctx& ctx, optimizer_state const& state, Opt& opt) {
  if (state.optimizer != opt.name)
    detail::throw_state("load: the state is of", state.optimizer, opt.name);
  std::size_t count = 0;
  opt.for_each_array([&](char const*, auto&) { ++count; });
  if (state.arrays.size() != count)
    detail::throw_state("load: the state has", std::to_string(state.arrays.size()) + " arrays",
                        std::to_string(count));
  std::size_t place = 0;
  opt.for_each_array([&](char const* name, auto& array) {
    detail::expect_array(state.arrays[place], place, name, array);
    ++place;
  });
  place = 0;
  opt.for_each_array([&](char const*, auto& array) {
    using S = scalar_t<decltype(array)>;
    upload(ctx, reinterpret_cast<S const*>(state.arrays[place].bytes.data()), array);
    ++place;
  });
}

}  // namespace stiefelx
