// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <array>
#include <cmath>
#include <complex>
#include <cstdint>
#include <numbers>
#include <type_traits>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/core/matrix.hpp>
#include <stiefelx/core/matrix_ref.hpp>

namespace stiefelx {

/// \brief A stream of random numbers that is a function of its position.
/// \ingroup core
///
/// Philox4x32 with ten rounds (see \cite salmon2011 ): word i of a stream depends on (seed, offset, i)
/// alone. So an array gets the same words on one thread or many, on either side, and a run can go on
/// from two saved integers. Numbers made of the words may differ in their last bits between a host and
/// a device, which round logarithms, cosines and fused products in ways of their own. Each function
/// that draws advances `offset` by one.
struct random_stream {
  std::uint64_t seed = 0;    ///< names the stream
  std::uint64_t offset = 0;  ///< number of draws so far
};

/// \brief Four random words at a position.
/// \ingroup core
/// \param[in] key      the seed
/// \param[in] high     upper half of the counter
/// \param[in] low      lower half of the counter
/// \returns four independent uniform 32-bit words
STIEFELX_HD inline std::array<std::uint32_t, 4> philox(std::uint64_t key, std::uint64_t high,
                                                       std::uint64_t low) {
  // Multipliers and Weyl increments are those of the paper's table 2.
  constexpr std::uint64_t m0 = 0xD2511F53U, m1 = 0xCD9E8D57U;
  auto k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  std::array<std::uint32_t, 4> c{
      static_cast<std::uint32_t>(low), static_cast<std::uint32_t>(low >> 32),
      static_cast<std::uint32_t>(high), static_cast<std::uint32_t>(high >> 32)};
  for (int round = 0; round < 10; ++round) {
    std::uint64_t const p0 = m0 * c[0], p1 = m1 * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9U;
    k1 += 0xBB67AE85U;
  }
  return c;
}

/// \brief A uniform double in (0, 1), never 0 and never 1, from two words.
/// \ingroup core
/// \param[in] a  a random word
/// \param[in] b  another
/// \returns an odd multiple of 2^-53
STIEFELX_HD inline double uniform_open(std::uint32_t a, std::uint32_t b) {
  std::uint64_t const bits = ((static_cast<std::uint64_t>(a) << 32) | b) >> 12;
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

namespace detail {

struct fill_normal_body {
  random_stream stream;
  double deviation;

  index_t scratch_size() const { return 0; }

  template <class Team, class S>
  STIEFELX_HD void operator()(Team const& team, index_t j, double*, matrix_ref<S> a) const {
    for (index_t i = team.rank(); i < a.rows; i += team.size()) {
      auto const w = philox(stream.seed, stream.offset,
                            static_cast<std::uint64_t>(i) +
                                static_cast<std::uint64_t>(j) * static_cast<std::uint64_t>(a.rows));
      // Box and Muller: one pair of uniforms gives two independent normals.
      double const radius = deviation * std::sqrt(-2 * std::log(uniform_open(w[0], w[1])));
      double const angle = 2 * std::numbers::pi * uniform_open(w[2], w[3]);
      using Real = real_of_t<S>;
      if constexpr (std::is_floating_point_v<S>)
        a(i, j) = static_cast<Real>(radius * std::cos(angle));
      else
        a(i, j) = S(static_cast<Real>(radius * std::cos(angle)),
                    static_cast<Real>(radius * std::sin(angle)));
    }
  }
};

struct fill_uniform_body {
  random_stream stream;
  double low, high;

  index_t scratch_size() const { return 0; }

  template <class Team, class S>
  STIEFELX_HD void operator()(Team const& team, index_t j, double*, matrix_ref<S> a) const {
    for (index_t i = team.rank(); i < a.rows; i += team.size()) {
      auto const w = philox(stream.seed, stream.offset,
                            static_cast<std::uint64_t>(i) +
                                static_cast<std::uint64_t>(j) * static_cast<std::uint64_t>(a.rows));
      a(i, j) = static_cast<S>(low + (high - low) * uniform_open(w[0], w[1]));
    }
  }
};

}  // namespace detail

/// \brief Fills a matrix with independent normal numbers.
/// \ingroup core
///
/// Complex entries have independent normal real and imaginary parts of that deviation each.
/// \param[in]     ctx        where to run
/// \param[in,out] stream     advanced by one draw
/// \param[in]     deviation  standard deviation, at least 0
/// \param[out]    a          any shape
template <class Ctx, class A>
  requires OutputMatrix<A>
void fill_normal(Ctx& ctx, random_stream& stream, double deviation, A&& a) {
  run_batch(ctx, a.cols(), detail::fill_normal_body{stream, deviation}, a);
  ++stream.offset;
}

/// \brief Fills a real matrix with independent uniform numbers.
/// \ingroup core
/// \param[in]     ctx     where to run
/// \param[in,out] stream  advanced by one draw
/// \param[in]     low     lower end
/// \param[in]     high    upper end
/// \param[out]    a       any shape
template <class Ctx, class A>
  requires OutputMatrix<A> && RealMatrix<A>
void fill_uniform(Ctx& ctx, random_stream& stream, double low, double high, A&& a) {
  run_batch(ctx, a.cols(), detail::fill_uniform_body{stream, low, high}, a);
  ++stream.offset;
}

}  // namespace stiefelx
