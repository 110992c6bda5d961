// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the fake's cuBLAS files share: the handle, the frame of a call with the checks of its
// arguments, and entries as doubles.
#pragma once

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <fake_cuda/state.hpp>

struct cublasContext {
  bool alive = true;
  int device = 0;
  cudaStream_t stream = nullptr;
  cublasPointerMode_t mode = CUBLAS_POINTER_MODE_HOST;
  cublasMath_t math = CUBLAS_DEFAULT_MATH;
  cublasAtomicsMode_t atomics = CUBLAS_ATOMICS_NOT_ALLOWED;
  void* workspace = nullptr;
  std::size_t workspace_bytes = 0;
  bool default_workspace = true;
};

namespace fake_cuda {

/// The type of an entry.
enum class entry_type { real32, real64, bfloat16, float16 };
std::size_t size_of(entry_type type);
double load(entry_type type, void const* array, std::int64_t i);
void store(entry_type type, void* array, std::int64_t i, double value);

template <class S>
inline constexpr entry_type entry_type_of =
    sizeof(S) == 4 ? entry_type::real32 : entry_type::real64;

/// A matrix argument: column-major, `batch` of them `step` entries apart.
struct matrix_argument {
  char const* name;
  entry_type type;
  void const* first;
  std::int64_t rows, cols, stride;
  std::int64_t step = 0;
  std::int64_t batch = 1;

  double operator()(std::int64_t i, std::int64_t j, std::int64_t item = 0) const {
    return load(type, first, item * step + j * stride + i);
  }
  void set(std::int64_t i, std::int64_t j, double value, std::int64_t item = 0) const {
    store(type, const_cast<void*>(first), item * step + j * stride + i, value);
  }
  region where(std::int64_t item = 0) const;
};

/// A factor: a number, or an address on the device that is read when it is wanted.
struct scalar_argument {
  double number = 0;
  entry_type type = entry_type::real64;
  void const* device = nullptr;

  operator double() const { return device == nullptr ? number : load(type, device, 0); }
};

/// The frame of a call: checks of the handle and of arguments, then start(), then arithmetic.
/// Device memory is open while it lives.
class blas_call {
 public:
  blas_call(char const* symbol, cublasHandle_t handle);

  cublasStatus_t refused() const { return static_cast<cublasStatus_t>(entry_.refused()); }

  /// Stops unless op is one that real matrices have.
  bool is_transposed(char const* name, cublasOperation_t op) const;
  bool is_left(char const* name, cublasSideMode_t side) const;
  void expect_size(char const* name, std::int64_t n) const;

  /// A scalar where the pointer mode says that it lies.
  scalar_argument scalar(char const* name, entry_type type, void const* p);
  /// An array of a grouped call that must lie on one side.
  void host_array(char const* name, void const* p, std::size_t bytes) const;
  void device_array(char const* name, void const* p, std::size_t bytes);

  void reads(matrix_argument const& a) { add(a, false); }
  /// The same of a matrix that counts for nothing where a factor of it is zero.
  void reads(matrix_argument a, scalar_argument const& factor) {
    if (factor.device == nullptr && factor == 0) a.cols = 0;
    add(a, false);
  }
  void writes(matrix_argument const& a) { add(a, true); }
  /// Stops where an output overlaps an input.
  void expect_apart() const;

  /// Queues the call on the handle's stream: runs it, or keeps it where that is captured.
  /// \param[in] arithmetic  what the call computes; holds nothing of the caller's memory
  /// \returns the status of the call
  cublasStatus_t start(std::function<void()> const& arithmetic);

 private:
  void add(matrix_argument const& a, bool writes);
  [[noreturn]] void wrong(std::string const& what) const { stop(symbol_ + ": " + what); }

  entry entry_;
  std::string symbol_;
  cublasHandle_t handle_;
  device_access access_;
  std::vector<use> uses_;
  struct named {
    std::string name;
    use where;
  };
  std::vector<named> matrices_;
};

}  // namespace fake_cuda
