// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A CUDA runtime and a cuBLAS on the host, linked in place of NVIDIA's, so that the library's own
// device call sites are executed where there is no GPU. NVIDIA's headers stay as they are. This
// header is what tests and executors see; it includes nothing of CUDA.
#pragma once

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

struct CUstream_st;

namespace fake_cuda {

/// A call that CUDA does not allow. No caller is meant to catch it but a test.
struct fault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Prints "fake_cuda: what" and throws fault. Where no exception can pass, the program ends there.
[[noreturn]] void stop(std::string const& what);

/// While one lives, device memory can be read and written. At any other time the host that touches
/// it gets SIGSEGV, as with real device memory.
struct device_access {
  device_access();
  ~device_access();
  device_access(device_access const&) = delete;
  device_access& operator=(device_access const&) = delete;
};

/// The run of one kernel: device_access, a check of the stream, and the order of streams. Words of
/// the kernel's arguments that point into device memory are what it reads; those whose memory has
/// changed after it are what it wrote.
class launch_scope {
 public:
  launch_scope(CUstream_st* stream, char const* name, void const* kernel, std::size_t bytes);
  ~launch_scope();
  launch_scope(launch_scope const&) = delete;
  launch_scope& operator=(launch_scope const&) = delete;

 private:
  struct argument {
    unsigned char* at;
    std::vector<unsigned char> before;
  };
  device_access access_;
  CUstream_st* stream_;
  std::vector<argument> arguments_;
};

/// Queues a kernel: counted, refused where a test wants that, kept where its stream is captured, or
/// run at once. `kernel` stays where it is for as long as `run` does.
/// \returns a status of the runtime
int launch(CUstream_st* stream, std::string const& name, void const* kernel, std::size_t bytes,
           std::function<void()> const& run);

/// Bytes of dynamic shared memory that a kernel may have, by the address of its entry: 48 KiB until
/// cudaFuncSetAttribute says more.
std::size_t shared_memory_of(void const* entry);

/// How often a symbol has been called, e.g. calls("cublasSgemm_v2"); all of them for "".
long calls(char const* symbol);

/// Device memory that is held at the moment.
std::size_t live_bytes();
long live_allocations();

/// Bytes that were held at most since the last call of reset_peak().
std::size_t peak_bytes();
void reset_peak();

/// The machine that the runtime reports.
struct machine {
  int driver_version = 13000;      ///< 0: there is no driver
  int runtime_version = 13000;     ///< of a newer major version: every call fails
  int devices = 1;                 ///< visible devices
  bool image = true;               ///< false: no kernel was compiled for the device
  int multiprocessors = 3;         ///< few, so that grid-stride loops go round
  int largest_pitch = 0x7FFFFFFF;  ///< bytes; a test need not hold 2 GiB to exceed a smaller one
  bool reads_in_place = false;  ///< whether copies read pageable memory where it lies, at any time
};

/// While one lives, the machine is another one.
class pretend {
 public:
  explicit pretend(machine const& m);
  ~pretend();
  pretend(pretend const&) = delete;
  pretend& operator=(pretend const&) = delete;

 private:
  machine before_;
};

/// While one lives, the n-th call of a symbol from now on returns a status and does nothing; n = 1
/// is the next one. The symbol "launch" is every kernel, and "" every call but those that
/// give something back or ask for an error.
class failure {
 public:
  failure(char const* symbol, long n, int status);
  ~failure();
  failure(failure const&) = delete;
  failure& operator=(failure const&) = delete;

  /// The symbol that has failed, or "" so far.
  std::string failed() const;

 private:
  std::string symbol_;
};

inline constexpr int out_of_memory = 2;  ///< cudaErrorMemoryAllocation

/// While one lives, scratch that an arena hands out keeps what it holds, as on a device. At any
/// other time it is filled with NaN.
struct dirty_scratch {
  dirty_scratch();
  ~dirty_scratch();
  dirty_scratch(dirty_scratch const&) = delete;
  dirty_scratch& operator=(dirty_scratch const&) = delete;
};

/// The mode that the last call of cuBLAS's product was asked for: what a test checks of a mode whose
/// numbers it cannot see.
struct blas_request {
  int math_mode = 0;          ///< cublasMath_t
  int compute_type = -1;      ///< cublasComputeType_t, -1 for calls that have none
  std::size_t workspace = 0;  ///< bytes of the caller's workspace, 0 for cuBLAS's own
};
blas_request last_product();

}  // namespace fake_cuda
