// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The program around a file of cases: record FILE LANES runs them, each team with so many lanes at
// least, and writes events, one a line. The linker's --wrap puts these functions between the
// library and the fake.
#include <cxxabi.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <memory>

#include <cuda_runtime_api.h>

#include <fake_cuda/state.hpp>
#include <stiefelx/cuda/lane.hpp>

#include "recording.hpp"
#include "serial_oracle.hpp"

namespace {

std::FILE* file = nullptr;
std::map<std::uintptr_t, std::vector<unsigned char>> known;  // what the interpreter has, as well

std::uintptr_t address(void const* p) { return reinterpret_cast<std::uintptr_t>(p); }
unsigned char* pointer(std::uintptr_t a) { return reinterpret_cast<unsigned char*>(a); }

void print_hex(unsigned char const* p, std::size_t n) {
  for (std::size_t k = 0; k < n; ++k) std::fprintf(file, "%02x", p[k]);
}

void store(std::uintptr_t at, std::size_t bytes) {
  std::fprintf(file, "store %zu ", at);
  print_hex(pointer(at), bytes);
  std::fputc('\n', file);
}

// The allocations that came and went.
void follow_allocations() {
  auto const& now = fake_cuda::self().device;
  for (auto it = known.begin(); it != known.end();) {
    auto const found = now.find(it->first);
    if (found != now.end() && found->second.bytes == it->second.size()) {
      ++it;
    } else {
      std::fprintf(file, "release %zu\n", it->first);
      it = known.erase(it);
    }
  }
  for (auto const& [at, block] : now) {
    if (known.count(at) != 0) continue;
    std::fprintf(file, "allocate %zu %zu\n", at, block.bytes);
    known[at].assign(block.bytes, 0xff);
  }
}

// Bytes that something else than a kernel has changed: cuBLAS, mostly.
void follow_changes() {
  follow_allocations();
  for (auto& [at, bytes] : known) {
    unsigned char const* const now = pointer(at);
    for (std::size_t k = 0; k < bytes.size();) {
      if (now[k] == bytes[k]) {
        ++k;
        continue;
      }
      // Whole pieces of eight bytes: no number is taken apart.
      std::size_t const first = k / 8 * 8;
      while (k < bytes.size() && (k % 8 != 0 || now[k] != bytes[k])) ++k;
      store(at + first, k - first);
    }
    std::memcpy(bytes.data(), now, bytes.size());
  }
}

void forget_changes() {
  for (auto& [at, bytes] : known) std::memcpy(bytes.data(), pointer(at), bytes.size());
}

// After a copy or a clearing of rows: what lies in them now, though it be what was there before.
void wrote(void* to, std::size_t pitch, void const* from, std::size_t from_pitch, std::size_t width,
           std::size_t height) {
  if (!fake_cuda::on_device(to)) return;
  fake_cuda::device_access const open;
  follow_allocations();
  bool const inside = from != nullptr && fake_cuda::on_device(from);
  for (std::size_t k = 0; k < height; ++k) {
    std::uintptr_t const at = address(to) + k * pitch;
    if (inside)
      std::fprintf(file, "copy %zu %zu %zu\n", at, address(from) + k * from_pitch, width);
    else
      store(at, width);
  }
  forget_changes();
}

void print_matrix(char const* event, std::string const& name, recording::bytes_view const& a) {
  fake_cuda::device_access const open;
  std::fprintf(file, "%s %s %c %ld %ld %ld %zu ", event, name.c_str(), a.letter,
               static_cast<long>(a.rows), static_cast<long>(a.cols), static_cast<long>(a.stride),
               address(a.first));
  auto const* const first = static_cast<unsigned char const*>(a.first);
  for (recording::index_t j = 0; j < a.cols; ++j)
    print_hex(first + static_cast<std::size_t>(j * a.stride) * a.entry,
              static_cast<std::size_t>(a.rows) * a.entry);
  std::fputc('\n', file);
}

}  // namespace

void recording::begin(std::string const& name) { std::fprintf(file, "case %s\n", name.c_str()); }

void recording::given(std::string const& name, bytes_view a) {
  fake_cuda::device_access const open;
  follow_changes();
  print_matrix("given", name, a);
}

void recording::found(std::string const& name, bytes_view a) {
  fake_cuda::device_access const open;
  follow_changes();
  print_matrix("found", name, a);
}

// Not what lies in memory now, so changes are not followed.
void recording::expected(std::string const& name, bytes_view a, double bound) {
  char head[64];
  std::snprintf(head, sizeof head, "expected %a", bound);
  print_matrix(head, name, a);
}

using stiefelx::cuda::launch_shape;
using stiefelx::cuda::stream_ref;

extern "C" {

// launch_kernel(stream_ref, launch_shape, void (*)(void const*), void const*, size_t, char const*)
#define LAUNCH \
  _ZN8stiefelx4cuda6detail13launch_kernelENS0_10stream_refENS0_12launch_shapeEPFvPKvES5_mPKc
#define JOINED(a, b) a##b
#define NAMED(a, b) JOINED(a, b)

void NAMED(__real_, LAUNCH)(stream_ref, launch_shape, void (*)(void const*), void const*,
                            std::size_t, char const*);

void NAMED(__wrap_, LAUNCH)(stream_ref stream, launch_shape shape, void (*body)(void const*),
                            void const* kernel, std::size_t bytes, char const* name) {
  fake_cuda::device_access const open;
  follow_changes();
  int status = 0;
  std::unique_ptr<char, void (*)(void*)> const plain(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
  std::fprintf(file, "launch %u %u %u %zu ", shape.blocks_x, shape.blocks_y, shape.threads,
               shape.shared_bytes);
  print_hex(static_cast<unsigned char const*>(kernel), bytes);
  std::string const readable = status == 0 ? plain.get() : name;
  std::fprintf(file, " %s\n", readable.c_str());
  NAMED(__real_, LAUNCH)(stream, shape, body, kernel, bytes, name);
  forget_changes();
}

cudaError_t __real_cudaMemcpyAsync(void*, void const*, std::size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t __wrap_cudaMemcpyAsync(void* to, void const* from, std::size_t bytes,
                                   cudaMemcpyKind kind, cudaStream_t stream) {
  cudaError_t const status = __real_cudaMemcpyAsync(to, from, bytes, kind, stream);
  wrote(to, 0, from, 0, bytes, 1);
  return status;
}

cudaError_t __real_cudaMemcpy2DAsync(void*, std::size_t, void const*, std::size_t, std::size_t,
                                     std::size_t, cudaMemcpyKind, cudaStream_t);
cudaError_t __wrap_cudaMemcpy2DAsync(void* to, std::size_t pitch, void const* from,
                                     std::size_t from_pitch, std::size_t width, std::size_t height,
                                     cudaMemcpyKind kind, cudaStream_t stream) {
  cudaError_t const status =
      __real_cudaMemcpy2DAsync(to, pitch, from, from_pitch, width, height, kind, stream);
  wrote(to, pitch, from, from_pitch, width, height);
  return status;
}

cudaError_t __real_cudaMemsetAsync(void*, int, std::size_t, cudaStream_t);
cudaError_t __wrap_cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  cudaError_t const status = __real_cudaMemsetAsync(to, value, bytes, stream);
  wrote(to, 0, nullptr, 0, bytes, 1);
  return status;
}

cudaError_t __real_cudaMemset2DAsync(void*, std::size_t, int, std::size_t, std::size_t,
                                     cudaStream_t);
cudaError_t __wrap_cudaMemset2DAsync(void* to, std::size_t pitch, int value, std::size_t width,
                                     std::size_t height, cudaStream_t stream) {
  cudaError_t const status = __real_cudaMemset2DAsync(to, pitch, value, width, height, stream);
  wrote(to, pitch, nullptr, 0, width, height);
  return status;
}

}  // extern "C"

int main(int argc, char** argv) {
  if (argc != 3 || (file = std::fopen(argv[1], "w")) == nullptr) {
    std::fprintf(stderr, "usage: record FILE LANES\n");
    return 2;
  }
  recording::least_lanes = static_cast<unsigned>(std::atoi(argv[2]));
  try {
    run_cases();
  } catch (std::exception const& e) {
    std::fprintf(stderr, "record: %s\n", e.what());
    return 1;
  }
  return std::fclose(file) == 0 ? 0 : 1;
}
