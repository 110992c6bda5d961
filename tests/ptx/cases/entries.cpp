// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
// Kernels that go through entries: all in one run (Thrust's loop) or with gaps between columns, by
// packs of 16 bytes or one by one; and through square tiles.
#include <stiefelx/cuda/elementwise.hpp>

#include <ptx/recording.hpp>

namespace {

namespace cuda = stiefelx::cuda;
using stiefelx::index_t;

// Layout 0 has no gaps, and a last pack that is not full. Of 1 and 2 the columns start at multiples
// of 16 bytes and beside them; 3 is a single column beside them.
struct layout {
  int number;
  index_t rows, first, count, cols;

  template <class M>
  auto part(M& a) const {
    return a.middleRows(first, count).middleCols(0, cols);
  }
};
constexpr layout layouts[] = {
    {0, 37, 0, 37, 9}, {1, 44, 4, 36, 9}, {2, 44, 1, 36, 9}, {3, 44, 1, 36, 1}};

// b becomes verb(ctx, a, b) in every layout.
template <class T, class Verb>
void each_layout(std::string const& name, Verb const& verb) {
  for (layout const& l : layouts) {
    cuda::context ctx(recording::small());
    recording::begin(name + recording::type_name<T>());
    auto const a = recording::random<T>(ctx, "a", l.rows, 9, 1);
    auto b = recording::random<T>(ctx, "b", l.rows, 9, 2);
    auto part = l.part(b);
    verb(ctx, l.part(a), part);
    recording::found("b" + std::to_string(l.number), b);
  }
}

struct axpy_by_number {
  template <class A, class B>
  void operator()(cuda::context& ctx, A const& a, B& b) const {
    axpy(ctx, 1.5, a, b);
    scale(ctx, 0.25, b);
  }
};

// Number 1 of w is the condition or the factor.
template <class T>
struct with_number {
  T number;
  bool copies;

  template <class A, class B>
  void operator()(cuda::context& ctx, A const& a, B& b) const {
    auto const w = recording::uploaded<T>(ctx, {T(3), number}, 1);
    if (copies)
      copy_if(ctx, w.middleCols(1, 1), a, b);
    else
      axpy(ctx, w.middleCols(1, 1), a, b);
  }
};

struct filling {
  template <class A, class B>
  void operator()(cuda::context& ctx, A const&, B& b) const {
    fill(ctx, 0.75, b);
  }
};

struct identity {
  template <class A, class B>
  void operator()(cuda::context& ctx, A const&, B& b) const {
    set_identity(ctx, b);
  }
};

struct columns {
  template <class A, class B>
  void operator()(cuda::context& ctx, A const&, B& b) const {
    using T = stiefelx::scalar_t<B>;
    auto const w = recording::uploaded(
        ctx, std::vector<T>{T(2), T(-1), T(3), T(0.5), T(4), T(5), T(-6), T(7), T(8)}, 1);
    scale_columns(ctx, w.middleCols(0, b.cols()), b);
  }
};

// Element text with two outputs and numbers of two types.
struct step_element {
  STIEFELX_HD void operator()(double& moment, float& x, float const& g) const {
    moment = 0.5 * moment + static_cast<double>(g);
    x -= static_cast<float>(0.125 * moment);
  }
};

void step(layout const& l) {
  cuda::context ctx(recording::small());
  recording::begin("transform");
  auto const g = recording::random<float>(ctx, "g", l.rows, 9, 3);
  auto m = recording::random<double>(ctx, "m", l.rows, 9, 4);
  auto x = recording::random<float>(ctx, "x", l.rows, 9, 5);
  auto moment = l.part(m);
  auto point = l.part(x);
  transform(ctx, step_element{}, stiefelx::outputs(moment, point), stiefelx::inputs(l.part(g)));
  recording::found("m" + std::to_string(l.number), m);
  recording::found("x" + std::to_string(l.number), x);
}

template <class T>
void tiles(index_t n) {
  cuda::context ctx(recording::small());
  recording::begin("symmetrize" + recording::type_name<T>());
  auto s = recording::random<T>(ctx, "s", n, n, 5);
  symmetrize(ctx, s);
  recording::found("s", s);
}

// Memory that nothing has been written to is not read where nothing is copied into it.
template <class T>
void room() {
  cuda::context ctx(recording::small());
  recording::begin("copy_if_room" + recording::type_name<T>());
  auto const a = recording::random<T>(ctx, "a", 9, 4, 6);
  auto const choices = recording::uploaded<T>(ctx, {T(0), T(1)}, 1);
  cuda::matrix<T> b(9, 4);
  for (index_t i : {0, 1}) copy_if(ctx, choices.middleCols(i, 1), a, b);
  recording::found("b", b);
}

template <class T>
void all() {
  room<T>();
  each_layout<T>("axpy", axpy_by_number{});
  each_layout<T>("axpy_by_entry", with_number<T>{T(0.5), false});
  each_layout<T>("copy_if", with_number<T>{T(1), true});
  each_layout<T>("copy_if_not", with_number<T>{T(0), true});
  each_layout<T>("fill", filling{});
  each_layout<T>("set_identity", identity{});
  each_layout<T>("scale_columns", columns{});
  tiles<T>(41);
  tiles<T>(3);
}

void raised_bits() {
  cuda::context ctx(recording::small());
  recording::begin("raise");
  auto const bits = recording::uploaded<int>(ctx, {0, 4, 0, 1, 0, 0, 16, 4}, 1);
  auto status = recording::uploaded<int>(ctx, {2, 0, 0, 0, 0}, 1);
  raise(ctx, status.middleCols(0, 1), bits);
  raise(ctx, status.middleCols(1, 1), 8);
  raise(ctx, status.middleCols(4, 1), 4);
  recording::found("status", status);
}

void integers() {
  cuda::context ctx(recording::small());
  recording::begin("fill_int");
  cuda::matrix<int> a(7, 3);
  for (index_t first : {0, 1}) {
    auto rows = a.middleRows(first, 7 - first);
    fill(ctx, 5 - static_cast<double>(first), rows);
  }
  auto column = a.middleCols(0, 1).middleRows(1, 5);
  fill(ctx, 3, column);
  cuda::matrix<int> b(8, 3);
  auto packs = b.middleRows(0, 4);
  fill(ctx, 2, packs);
  fill(ctx, 1, b.middleRows(4, 4));
  // A status is one entry, so raise() has no gaps; its element text may have them.
  auto with_gaps = a.middleRows(1, 5);
  transform(ctx, cuda::detail::raise_element{8}, stiefelx::outputs(with_gaps), stiefelx::inputs());
  transform(ctx, cuda::detail::raise_element{8}, stiefelx::outputs(packs), stiefelx::inputs());
  recording::found("a", a);
  recording::found("b", b);
}

}  // namespace

void run_cases() {
  all<float>();
  all<double>();
  for (layout const& l : layouts) step(l);
  raised_bits();
  integers();
}
