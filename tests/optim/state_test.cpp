// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// States of optimizers as plain data: the same bits after saving and loading, in memory and through
// a stream; states that do not fit and streams that are damaged.

#include <complex>
#include <cstdint>
#include <limits>
#include <sstream>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include <boost/test/unit_test.hpp>

#include <stiefelx/manifold/stiefel.hpp>
#include <stiefelx/manifold/stiefel_retraction.hpp>
#include <stiefelx/manifold/stiefel_transport.hpp>
#include <stiefelx/optim/adamw.hpp>
#include <stiefelx/optim/riemannian_adam.hpp>
#include <stiefelx/optim/riemannian_momentum.hpp>
#include <stiefelx/optim/state.hpp>
#include <stiefelx/optim/state_stream.hpp>
#include <support/backends.hpp>
#include <support/data.hpp>
#include <support/near.hpp>

namespace {

using namespace support;
using stiefelx::load;
using stiefelx::optimizer_state;
using stiefelx::save;
using stiefelx::state_error;
using stiefelx::stiefel;

/// The text of the state_error that f throws.
template <class F>
std::string complaint(F const& f) {
  try {
    f();
  } catch (state_error const& error) {
    return error.what();
  }
  return "nothing was thrown";
}

template <class S>
matrix_x<S> gradient(index_t n, index_t p, int t) {
  return random_matrix<S>(n, p, static_cast<std::uint64_t>(100 + t));
}

/// Each scalar's kind once, and both backends.
using few_cases =
    std::tuple<test_case<host_backend, float>, test_case<host_backend, std::complex<double>>,
               test_case<archetype_backend, double>>;

/// Runs f with a maker of each optimizer that takes the case's scalar.
template <class Case, class F>
void for_each_optimizer(F const& f) {
  BOOST_TEST_CONTEXT("momentum")
  f([](auto& ctx, auto const& x) { return stiefelx::riemannian_momentum(ctx, stiefel{6, 2}, x); });
  BOOST_TEST_CONTEXT("adam")
  f([](auto& ctx, auto const& x) { return stiefelx::riemannian_adam(ctx, stiefel{6, 2}, x); });
  if constexpr (std::is_floating_point_v<typename Case::scalar>) BOOST_TEST_CONTEXT("adamw")
  f([](auto& ctx, auto const& x) { return stiefelx::adamw(ctx, x); });
}

/// An optimizer of a user, as far as a state goes.
template <class Ctx>
struct own_optimizer {
  static constexpr char const* name = "own";
  stiefelx::matrix_t<Ctx, int> counts;
  stiefelx::matrix_t<Ctx, std::complex<float>> phases;
  stiefelx::matrix_t<Ctx, double> none;

  template <class Visit>
  void for_each_array(Visit&& visit) {
    visit("counts", counts);
    visit("phases", phases);
    visit("none", none);
  }
};

/// A state whose bytes are written down in the test of the format.
optimizer_state small_state() {
  std::vector<std::byte> bytes;
  for (int b : {0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0})
    bytes.push_back(static_cast<std::byte>(b));  // 1 and -2 in float32
  return {"adam", {{"v", "float32", 1, 2, bytes}, {"w", "float64", 3, 0, {}}}};
}

std::string written(optimizer_state const& state) {
  std::ostringstream out;
  write(out, state);
  return out.str();
}

optimizer_state read_from(std::string const& bytes) {
  std::istringstream in(bytes);
  return stiefelx::read(in);
}

template <class T>
std::string little(T n) {
  std::string s;
  for (std::size_t i = 0; i < sizeof(T); ++i) s += static_cast<char>((n >> (8 * i)) & 255);
  return s;
}

/// The bytes with their CRC-32 behind them, by long division bit after bit.
std::string with_checksum(std::string bytes) {
  std::uint32_t rest = 0xFFFFFFFFU;
  for (char c : bytes)
    for (int bit = 0; bit < 8; ++bit) {
      bool const odd = ((rest ^ (static_cast<unsigned char>(c) >> bit)) & 1) != 0;
      rest = (rest >> 1) ^ (odd ? 0xEDB88320U : 0U);
    }
  return bytes + little(~rest);
}

std::string named(std::string const& s) { return little(static_cast<std::uint32_t>(s.size())) + s; }

std::string header(std::uint32_t version = 1, std::uint32_t arrays = 1) {
  return "STIEFOPT" + little(version) + named("adam") + little(arrays);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(state)

// --- in memory -----------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE_TEMPLATE(a_loaded_state_goes_on_with_the_same_bits, Case, few_cases) {
  using S = typename Case::scalar;
  for_each_optimizer<Case>([&](auto const& make) {
    place<Case> p;
    auto x = p.up(orthonormal_frame<S>(6, 2, 1));
    auto opt = make(p.ctx, x);
    for (int t = 0; t < 3; ++t) opt.step(p.ctx, x, p.up(gradient<S>(6, 2, t)));
    optimizer_state const saved = save(p.ctx, opt);
    BOOST_TEST(saved.optimizer == opt.name);
    BOOST_TEST(!saved.arrays.empty());

    place<Case> other;
    auto y = other.up(p.down(x));
    auto loaded = make(other.ctx, y);
    BOOST_TEST((save(other.ctx, loaded) != saved));
    load(other.ctx, read_from(written(saved)), loaded);
    BOOST_TEST((save(other.ctx, loaded) == saved));
    for (int t = 3; t < 6; ++t) {
      opt.step(p.ctx, x, p.up(gradient<S>(6, 2, t)));
      loaded.step(other.ctx, y, other.up(gradient<S>(6, 2, t)));
    }
    BOOST_TEST(same(p.down(x), other.down(y)));
    BOOST_TEST((save(other.ctx, loaded) == save(p.ctx, opt)));
  });
}

BOOST_AUTO_TEST_CASE_TEMPLATE(every_scalar_and_an_empty_array_come_back, Case, double_cases) {
  using phase = std::complex<float>;
  place<Case> p;
  matrix_x<int> counts(1, 3);
  counts << -1, std::numeric_limits<int>::max(), std::numeric_limits<int>::min();
  matrix_x<phase> phases(2, 1);
  phases << phase(std::numeric_limits<float>::quiet_NaN(), -0.0F),
      phase(std::numeric_limits<float>::infinity(), std::numeric_limits<float>::denorm_min());
  using own = own_optimizer<typename Case::context>;
  own opt{p.up(counts), p.up(phases), p.up(matrix_x<double>(0, 4))};
  optimizer_state const saved = save(p.ctx, opt);
  BOOST_TEST(saved.arrays[0].scalar == "int32");
  BOOST_TEST(saved.arrays[1].scalar == "complex64");
  BOOST_TEST(saved.arrays[2].bytes.empty());
  own loaded{p.up(matrix_x<int>::Zero(1, 3)), p.up(matrix_x<phase>::Zero(2, 1)),
             p.up(matrix_x<double>(0, 4))};
  load(p.ctx, read_from(written(saved)), loaded);
  BOOST_TEST((save(p.ctx, loaded) == saved));
  BOOST_TEST(same(p.down(loaded.counts), counts));
}

BOOST_AUTO_TEST_CASE_TEMPLATE(a_state_that_does_not_fit_changes_nothing, Case, double_cases) {
  place<Case> p;
  auto x = p.up(orthonormal_frame<double>(6, 2, 1));
  auto wide = p.up(random_matrix<double>(2, 6, 1));
  auto narrow = p.up(random_matrix<float>(6, 2, 1));
  stiefelx::riemannian_adam opt(p.ctx, stiefel{6, 2}, x);
  opt.step(p.ctx, x, p.up(gradient<double>(6, 2, 0)));
  stiefelx::riemannian_momentum momentum(p.ctx, stiefel{6, 2}, x);
  stiefelx::adamw plain(p.ctx, x), other_shape(p.ctx, wide);
  stiefelx::adamw other_scalar(p.ctx, narrow);
  plain.step(p.ctx, x, p.up(gradient<double>(6, 2, 1)));

  optimizer_state const before = save(p.ctx, opt), plain_before = save(p.ctx, plain);
  auto const refused = [&](optimizer_state const& state, auto& target) {
    return complaint([&] { load(p.ctx, state, target); });
  };
  BOOST_TEST(refused(save(p.ctx, momentum), opt) ==
             "load: the state is of riemannian_momentum, expected riemannian_adam");
  BOOST_TEST(refused(plain_before, opt) == "load: the state is of adamw, expected riemannian_adam");
  BOOST_TEST(refused(save(p.ctx, other_shape), plain) ==
             "load: first_moment is float64 2x6, expected float64 6x2");
  BOOST_TEST(refused(save(p.ctx, other_scalar), plain) ==
             "load: first_moment is float32 6x2, expected float64 6x2");
  // What is wrong comes last, so that whatever was written before it would show.
  optimizer_state state = save(p.ctx, opt);
  for (auto& byte : state.arrays[0].bytes) byte = std::byte{1};
  state.arrays[3].name = "power3";
  BOOST_TEST(refused(state, opt) == "load: array 3 of the state is power3, expected power2");
  state.arrays[3].name = "power2";
  state.arrays[3].bytes.pop_back();
  BOOST_TEST(refused(state, opt) == "load: power2 has 7 bytes, expected 8");
  state.arrays.pop_back();
  BOOST_TEST(refused(state, opt) == "load: the state has 3 arrays, expected 4");
  state.arrays.resize(5);
  BOOST_TEST(refused(state, opt) == "load: the state has 5 arrays, expected 4");
  BOOST_TEST((save(p.ctx, opt) == before));
  BOOST_TEST((save(p.ctx, plain) == plain_before));
}

// --- streams -------------------------------------------------------------------------------------

BOOST_AUTO_TEST_CASE(the_bytes_are_those_of_the_page) {
  std::string const floats("\0\0\x80\x3F\0\0\0\xC0", 8);
  std::string const expected =
      with_checksum(header(1, 2) + named("v") + named("float32") + little(std::uint64_t{1}) +
                    little(std::uint64_t{2}) + floats + named("w") + named("float64") +
                    little(std::uint64_t{3}) + little(std::uint64_t{0}));
  BOOST_TEST((written(small_state()) == expected));
  BOOST_TEST((read_from(expected) == small_state()));
  // The checksum's own published check value.
  BOOST_TEST((with_checksum("123456789") == "123456789" + little(std::uint32_t{0xCBF43926U})));
}

BOOST_AUTO_TEST_CASE(states_follow_each_other_in_a_stream) {
  std::stringstream stream;
  optimizer_state second = small_state();
  second.optimizer = "other";
  // Larger than what the reader takes at once.
  second.arrays[0].cols = 600000;
  second.arrays[0].bytes.resize(2400000, std::byte{7});
  stream << "before";
  write(stream, small_state());
  write(stream, second);
  stream << "after";
  stream.ignore(6);
  BOOST_TEST((stiefelx::read(stream) == small_state()));
  BOOST_TEST((stiefelx::read(stream) == second));
  std::string rest;
  stream >> rest;
  BOOST_TEST(rest == "after");
}

BOOST_AUTO_TEST_CASE(a_cut_or_changed_stream_is_refused) {
  std::string const good = written(small_state());
  for (std::size_t length = 0; length < good.size(); ++length)
    BOOST_TEST_CONTEXT("length " << length)
  BOOST_CHECK_THROW(read_from(good.substr(0, length)), state_error);
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      BOOST_TEST_CONTEXT("byte " << at) BOOST_CHECK_THROW(read_from(bad), state_error);
    }
}

BOOST_AUTO_TEST_CASE(a_header_can_not_ask_for_memory) {
  auto const refused = [](std::string const& bytes) {
    return complaint([&] { read_from(with_checksum(bytes)); });
  };
  auto const array = [](std::string const& scalar, std::uint64_t rows, std::uint64_t cols) {
    return header() + named("v") + named(scalar) + little(rows) + little(cols);
  };
  std::uint64_t const huge = std::uint64_t{1} << 40, most = ~std::uint64_t{0};
  BOOST_TEST(refused("a picture of a cat") ==
             "read: the stream holds something else, expected the state of an optimizer");
  BOOST_TEST(refused(header(2)) == "read: the version is 2, expected 1");
  BOOST_TEST(
      refused(array("float16", 1, 1)) ==
      "read: the scalar of v is float16, expected float32, float64, complex64, complex128 or "
      "int32");
  BOOST_TEST(refused(array("float64", huge, huge)) ==
             "read: v is 1099511627776x1099511627776, expected a size that memory can hold");
  BOOST_TEST(refused(array("float64", most, 0)) ==
             "read: v is 18446744073709551615x0, expected a size that memory can hold");
  // A size that could be, in a stream that is shorter; 4 bytes are the checksum's.
  BOOST_TEST(refused(array("int32", huge, 4)) ==
             "read: the stream ends after 4 bytes, expected 1048576 more");
  BOOST_TEST(refused("STIEFOPT" + little(1U) + little(5000U)) ==
             "read: a name has 5000 bytes, expected at most 4096");
  BOOST_TEST(refused(header(1, ~0U)).find("read: ") == 0U);
}

BOOST_AUTO_TEST_CASE(write_refuses_what_read_would) {
  std::ostringstream out;
  auto const refused = [&](optimizer_state const& state) {
    return complaint([&] { write(out, state); });
  };
  optimizer_state state = small_state();
  state.arrays[1].rows = -1;
  BOOST_TEST(refused(state).find("expected a size that memory can hold") != std::string::npos);
  state = small_state();
  state.arrays[0].bytes.pop_back();
  BOOST_TEST(refused(state) == "write: v has 7 bytes, expected 8");
  state = small_state();
  state.arrays[0].scalar = "text";
  BOOST_TEST(refused(state).find("write: the scalar of v is text, expected") == 0U);
  state = small_state();
  state.optimizer = std::string(4097, 'a');
  BOOST_TEST(refused(state) == "write: a name has 4097 bytes, expected at most 4096");
  BOOST_TEST(out.str().empty());
  out.setstate(std::ios::badbit);
  BOOST_TEST(refused(small_state()) ==
             "write: the stream is not good, expected a stream that takes all bytes");
}

BOOST_AUTO_TEST_SUITE_END()
