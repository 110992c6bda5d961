// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//   kernel_bugs BUG
//
// Mistakes in kernels, in copies of the library's own, and in how they are launched: what tier B must
// catch. The same text is run first as it should be.

#include <algorithm>
#include <cstddef>
#include <vector>

#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/buffer.hpp>
#include <stiefelx/cuda/elementwise.hpp>
#include <stiefelx/cuda/kernels/entries.hpp>
#include <stiefelx/cuda/transfer.hpp>

#include "bug_table.hpp"

namespace {

namespace cuda = stiefelx::cuda;
using must_fail::expect_number;
using stiefelx::index_t;
using stiefelx::matrix_ref;

double number(index_t i, index_t j) { return static_cast<double>(3 * i + 7 * j + 1); }

cuda::context small_context() { return cuda::context({.blas_workspace = 4096}); }

// On the device: entry (i, j) is number(i, j).
cuda::matrix<double> numbered(cuda::context& ctx, index_t rows, index_t cols) {
  std::vector<double> entries;
  for (index_t j = 0; j < cols; ++j)
    for (index_t i = 0; i < rows; ++i) entries.push_back(number(i, j));
  cuda::matrix<double> made(rows, cols);
  upload(ctx, entries.data(), made);
  return made;
}

// expected(i, j) of every entry.
template <class A, class Expected>
void expect_entries(cuda::context& ctx, A const& a, Expected const& expected) {
  std::vector<double> found(static_cast<std::size_t>(a.rows() * a.cols()));
  download(ctx, a, found.data());
  for (index_t j = 0; j < a.cols(); ++j)
    for (index_t i = 0; i < a.rows(); ++i)
      expect_number(found[static_cast<std::size_t>(i + j * a.rows())], expected(i, j));
}

enum class mistake {
  none,
  guard,      // lanes beyond the last row are let in
  index,      // a place in a matrix has 32 bits
  tail,       // the grid ends with the last full block
  blocks,     // as many blocks along y as there are columns
  barrier,    // a tile is read before it is written
  leftovers,  // the result is read although its factor is zero
};

// convert_entries of cuda/copy_kernels.hpp; with a factor, to = from + beta to.
template <class From>
struct convert {
  mistake wrong;
  matrix_ref<From const> from;
  matrix_ref<double> to;
  index_t step;
  double beta = 0;

  void operator()() const {
    index_t const i = static_cast<index_t>(cuda::block_x()) * cuda::block_threads() +
                      static_cast<index_t>(cuda::thread_rank());
    if (wrong == mistake::guard ? i > to.rows : i >= to.rows) return;
    for (index_t j = cuda::block_y(); j < to.cols; j += step) {
      index_t place = i + j * from.stride;
      if (wrong == mistake::index)
        place = static_cast<unsigned>(i) +
                static_cast<unsigned>(j) * static_cast<unsigned>(from.stride);
      double sum = static_cast<double>(from.data[place]);
      if (beta != 0 || wrong == mistake::leftovers) sum += beta * to(i, j);
      to(i, j) = sum;
    }
  }
};

template <class From>
void queue_convert(cuda::stream_ref queue, mistake wrong, matrix_ref<From const> from,
                   matrix_ref<double> to) {
  constexpr index_t threads = 64;
  index_t const step = wrong == mistake::blocks ? to.cols : std::min<index_t>(to.cols, 65535);
  index_t const partial = wrong == mistake::tail ? 0 : threads - 1;
  cuda::launch(queue,
               {static_cast<unsigned>((to.rows + partial) / threads), static_cast<unsigned>(step),
                unsigned{threads}, 0},
               convert<From>{wrong, from, to, step});
}

// The numbers are zero where the mistake leaves something out: fresh memory must not be.
void converted(mistake wrong) {
  auto ctx = small_context();
  index_t const rows = 100, cols = 3;
  auto const expected = [](index_t i, index_t j) { return i < 64 ? number(i, j) : 0.0; };
  auto from = numbered(ctx, rows + 1, cols);
  fill(ctx, 0, from.middleRows(64, rows + 1 - 64));
  cuda::matrix<double> to(rows, cols);
  auto const& source = from;
  queue_convert<double>(ctx.queue, wrong, ref(source.middleRows(0, rows)), ref(to));
  expect_entries(ctx, to, expected);
}

template <mistake Which>
void conversion(bool wrong) {
  converted(wrong ? Which : mistake::none);
}

void too_many_blocks_along_y(bool wrong) {
  auto ctx = small_context();
  auto const from = numbered(ctx, 1, 65536);
  cuda::matrix<double> to(1, 65536);
  queue_convert<double>(ctx.queue, wrong ? mistake::blocks : mistake::none, ref(from), ref(to));
  expect_entries(ctx, to, number);
}

// Four columns so far apart that the last one begins beyond 2^32 entries.
void index_beyond_32_bits(bool wrong) {
  auto ctx = small_context();
  using narrow = stiefelx::bfloat16;
  index_t const stride = index_t{3} << 29;
  cuda::buffer<narrow> const memory(static_cast<std::size_t>(3 * stride + 2));
  cuda::matrix_view<narrow> far(memory.data(), 2, 4, stride);
  auto const near = numbered(ctx, 2, 4);
  copy(ctx, near, far);
  cuda::matrix<double> to(2, 4);
  auto const& source = far;
  queue_convert<narrow>(ctx.queue, wrong ? mistake::index : mistake::none,
                        {source.data(), 2, 4, stride}, ref(to));
  expect_entries(ctx, to, number);
}

// transpose_tiles of cuda/copy_kernels.hpp.
struct transpose {
  static constexpr unsigned width = 32, threads = 256, pitch = width + 1;

  mistake wrong;
  matrix_ref<double const> from;
  matrix_ref<double> to;

  void operator()() const {
    auto const down = static_cast<unsigned>((from.rows + (width - 1)) / width);
    index_t const row = static_cast<index_t>(cuda::block_x() % down) * width;
    index_t const col = static_cast<index_t>(cuda::block_x() / down) * width;
    auto* const tile = static_cast<double*>(cuda::shared_memory());
    unsigned const along = cuda::thread_rank() % width, across = cuda::thread_rank() / width;
    for (unsigned k = across; k < width; k += threads / width)
      if (row + along < from.rows && col + k < from.cols)
        tile[along + k * pitch] = from(row + along, col + k);
    if (wrong != mistake::barrier) cuda::block_barrier();
    for (unsigned k = across; k < width; k += threads / width)
      if (row + k < from.rows && col + along < from.cols)
        to(col + along, row + k) = tile[k + along * pitch];
  }
};

void queue_transpose_of(cuda::stream_ref queue, mistake wrong, matrix_ref<double const> from,
                        matrix_ref<double> to) {
  auto const tiles = static_cast<unsigned>((from.rows + 31) / 32 * ((from.cols + 31) / 32));
  cuda::launch(queue,
               {tiles, 1, transpose::threads, sizeof(double) * transpose::pitch * transpose::width},
               transpose{wrong, from, to});
}

void missing_barrier_of_a_tile(bool wrong) {
  auto ctx = small_context();
  auto const from = numbered(ctx, 40, 33);
  cuda::matrix<double> to(33, 40);
  queue_transpose_of(ctx.queue, wrong ? mistake::barrier : mistake::none, ref(from), ref(to));
  expect_entries(ctx, to, [](index_t i, index_t j) { return number(j, i); });
}

// A kernel whose blocks read what other blocks write may not work in place.
void transposed_in_place(bool wrong) {
  auto ctx = small_context();
  auto from = numbered(ctx, 40, 40);
  auto const& source = from;
  cuda::matrix<double> other(40, 40);
  auto& to = wrong ? from : other;
  queue_transpose_of(ctx.queue, mistake::none, ref(source), ref(to));
  expect_entries(ctx, to, [](index_t i, index_t j) { return number(j, i); });
}

struct twice {
  cuda::entry_operand<double> x;

  template <int V>
  void operator()(index_t i, index_t j, cuda::pack_size<V>) const {
    auto pack = x.load<V>(i, j);
    for (int k = 0; k < V; ++k) pack.entry[k] *= 2;
    x.store<V>(i, j, pack);
  }
};

// Packs of 16 bytes, chosen where has_aligned_columns() says so; the mistake does not ask.
void misaligned_vector(bool wrong) {
  auto ctx = small_context();
  constexpr int v = cuda::pack_entries<double>;
  auto whole = numbered(ctx, 64 + 1, 2);
  auto odd = whole.middleRows(1, 64);
  bool const aligned = wrong || cuda::has_aligned_columns(ref(odd));
  cuda::queue_entrywise<v>(ctx.queue, aligned, 64, 2, twice{{odd.data(), odd.stride(), false}});
  expect_entries(ctx, odd, [](index_t i, index_t j) { return 2 * number(i + 1, j); });
}

// A view of scratch that is gone: the next scratch has the same memory.
void view_of_released_scratch(bool wrong) {
  auto ctx = small_context();
  auto const x = numbered(ctx, 8, 3);
  auto kept = clone(ctx, x);
  auto view = kept.middleCols(0, 3);
  if (wrong) {
    auto const gone = std::move(kept);
  }
  auto next = scratch<double>(ctx, 8, 3);
  fill(ctx, 5, next);
  expect_entries(ctx, view, number);
}

void kernel_on_another_stream(bool wrong) {
  auto ctx = small_context();
  cuda::stream const other;
  auto const x = numbered(ctx, 8, 3);
  cuda::matrix<double> y(8, 3);
  queue_convert<double>(wrong ? static_cast<cuda::stream_ref>(other) : ctx.queue, mistake::none,
                        ref(x), ref(y));
  cuda::synchronize(other);
  expect_entries(ctx, y, number);
}

#if defined(FAKE_CUDA_ASAN)
constexpr child::end beside = child::end::exit_code;
constexpr char const* beside_says = "use-after-poison";
#else
constexpr child::end beside = child::end::stopped;
constexpr char const* beside_says = "memory beside an allocation of 2400 bytes was written";
#endif

must_fail::bug const bugs[] = {
    {"kernel_out_of_bounds_by_one", conversion<mistake::guard>, beside, beside_says},
    {"tail_without_a_block", conversion<mistake::tail>, child::end::thrown, "wrong numbers"},
    {"factor_zero_reads_the_output", conversion<mistake::leftovers>, child::end::thrown,
     "wrong numbers"},
    {"too_many_blocks_along_y", too_many_blocks_along_y, child::end::stopped,
     "65536 blocks along y, expected at most 65535"},
    {"index_beyond_32_bits", index_beyond_32_bits, child::end::thrown, "wrong numbers"},
    {"missing_barrier_of_a_tile", missing_barrier_of_a_tile, child::end::thrown, "wrong numbers"},
    {"transposed_in_place", transposed_in_place, child::end::thrown, "wrong numbers"},
    {"misaligned_vector", misaligned_vector, child::end::exit_code, "misaligned address",
     must_fail::guarded::by_sanitizers},
    {"view_of_released_scratch", view_of_released_scratch, child::end::thrown, "wrong numbers"},
    {"kernel_on_another_stream", kernel_on_another_stream, child::end::stopped,
     "reads memory that another stream writes"},
};

}  // namespace

int main(int count, char** arguments) { return must_fail::run_named(bugs, count, arguments); }
