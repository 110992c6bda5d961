// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include <cuda_runtime_api.h>

#include <stiefelx/core/host_device.hpp>
#include <stiefelx/cuda/errors.hpp>

/// \file
/// \brief The CUDA runtime: every call to it, checked.
/// \ingroup cuda

namespace stiefelx::cuda {

namespace detail {

// Here and below the runtime's own error is forgotten: it would be blamed on the next call.
[[noreturn]] STIEFELX_COLD inline void throw_cuda_error(cudaError_t status, char const* call) {
  (void)cudaGetLastError();
  throw cuda_error(failure_text(status, call, cudaGetErrorString(status)));
}
inline bool succeeds(cudaError_t status) noexcept {
  if (status != cudaSuccess) (void)cudaGetLastError();
  return status == cudaSuccess;
}
inline void forget_last_error() noexcept { (void)cudaGetLastError(); }

}  // namespace detail

/// \brief Throws unless a call to the runtime succeeded.
/// \ingroup cuda
/// \param[in] status  what it returned
/// \param[in] call    its name, for the text
/// \throws cuda_error  with the call's name and the runtime's text
inline void check(cudaError_t status, char const* call) {
  if (status != cudaSuccess) detail::throw_cuda_error(status, call);
}

namespace detail {

inline int attribute(cudaDeviceAttr name, int device) {
  int found = 0;
  check(cudaDeviceGetAttribute(&found, name, device), "cudaDeviceGetAttribute");
  return found;
}

}  // namespace detail

/// \brief The device that the calling thread uses.
/// \ingroup cuda
/// \returns its number
inline int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

/// \brief Makes a device the one that the calling thread uses.
/// \ingroup cuda
/// \param[in] device  its number
inline void use_device(int device) { check(cudaSetDevice(device), "cudaSetDevice"); }

/// \brief The compute capability of a device.
/// \ingroup cuda
/// \param[in] device  its number
/// \returns 10 major + minor, as in the names of architectures: 90 for sm_90
inline int compute_capability(int device) {
  return 10 * detail::attribute(cudaDevAttrComputeCapabilityMajor, device) +
         detail::attribute(cudaDevAttrComputeCapabilityMinor, device);
}

/// \brief The number of multiprocessors of a device: what a grid is sized by.
/// \ingroup cuda
/// \param[in] device  its number
/// \returns at least 1
inline int multiprocessor_count(int device) {
  return detail::attribute(cudaDevAttrMultiProcessorCount, device);
}

/// \brief Throws one sentence that says what is missing unless a device can be used.
/// \ingroup cuda
///
/// Without it a machine with no driver, with an old one or with no visible device shows itself by
/// whatever fails first.
/// \param[in] device  number of the device
/// \throws cuda_error  saying what is missing and what to do
inline void require_device(int device) {
  int count = 0;
  cudaError_t const status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && device >= 0 && device < count) return;
  (void)cudaGetLastError();
  if (status == cudaErrorInsufficientDriver) {
    int driver = 0;
    int runtime = 0;
    check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    throw cuda_error(detail::missing_driver_text(driver, runtime));
  }
  if (status == cudaErrorNoDevice)
    throw cuda_error(
        "cuda::context: a driver is installed but shows no device; look at CUDA_VISIBLE_DEVICES, "
        "or use host::context");
  check(status, "cudaGetDeviceCount");
  throw cuda_error("cuda::context: there is no device " + std::to_string(device) +
                   "; the devices are numbered from 0 to " + std::to_string(count - 1));
}

/// \brief Throws one sentence when a program holds no code for the device it runs on.
/// \ingroup cuda
/// \param[in] status    of a launch, or of a question about a kernel; any other failure is left to
///                      check()
/// \param[in] device    the device it was for
/// \param[in] function  what has noticed it, for the text
/// \throws cuda_error  naming the device's architecture and how to build for it
inline void expect_kernel_image(cudaError_t status, int device,
                                char const* function = "cuda::launch") {
  bool const is_missing =
      status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction;
  if (!is_missing && status != cudaErrorUnsupportedPtxVersion) return;
  (void)cudaGetLastError();
  int const capability = compute_capability(device);
  if (is_missing) throw cuda_error(detail::missing_code_text(function, device, capability));
  int driver = 0;
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  throw cuda_error(detail::untranslated_code_text(function, device, capability, driver));
}

/// \brief Throws one sentence unless a program holds code for a device; nothing is launched.
/// \ingroup cuda
/// \param[in] kernel  address of an entry that is compiled for what the program's kernels are, or
///                    null where there is none: then their first launch tells
/// \param[in] device  the current device
/// \throws cuda_error  naming the device's architecture and how to build for it
inline void require_code(void const* kernel, int device) {
  if (kernel == nullptr) return;
  cudaFuncAttributes found{};
  cudaError_t const status = cudaFuncGetAttributes(&found, kernel);
  expect_kernel_image(status, device, "cuda::context");
  check(status, "cudaFuncGetAttributes");
}

/// \brief Throws unless a launch was accepted.
/// \ingroup cuda
/// \param[in] status  what the launch returned
/// \param[in] kernel  the name of its type, for the text
/// \throws cuda_error  naming it
inline void check_launch(cudaError_t status, char const* kernel) {
  if (status == cudaSuccess) return;
  expect_kernel_image(status, current_device());
  check(status, ("launch of kernel " + detail::written_name(kernel)).c_str());
}

/// \brief Lets a kernel use more than 48 KiB of dynamic shared memory.
/// \ingroup cuda
/// \param[in] kernel  address of its entry
/// \param[in] bytes   what a block of it may ask for
inline void allow_shared_memory(void const* kernel, std::size_t bytes) {
  cudaError_t const status = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  expect_kernel_image(status, current_device());
  check(status, "cudaFuncSetAttribute");
}

/// \brief A queue of device work, borrowed: what functions take.
/// \ingroup cuda
struct stream_ref {
  cudaStream_t handle;  ///< as the runtime names it
};

namespace detail {

// Queues a kernel by the address of its entry. The status is the launch's own: an error that another
// part of the program left unread is not blamed on it.
inline void queue_launch(void const* entry, unsigned blocks_x, unsigned blocks_y, unsigned threads,
                         std::size_t shared_bytes, void** arguments, stream_ref queue,
                         char const* name) {
  check_launch(cudaLaunchKernel(entry, dim3(blocks_x, blocks_y), dim3(threads), arguments,
                                shared_bytes, queue.handle),
               name);
}

}  // namespace detail

/// \brief Waits until the work queued so far is done.
/// \ingroup cuda
/// \param[in] queue  whose work
inline void synchronize(stream_ref queue) {
  check(cudaStreamSynchronize(queue.handle), "cudaStreamSynchronize");
}

/// \brief Waits as synchronize() does and drops errors: for destructors.
/// \ingroup cuda
/// \param[in] queue  whose work
inline void finish(stream_ref queue) noexcept {
  (void)detail::succeeds(cudaStreamSynchronize(queue.handle));
}

/// \brief Owns a queue of device work that never waits for the default stream.
/// \ingroup cuda
class stream {
 public:
  /// A new queue on the current device.
  stream() {
    check(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  /// Takes over a queue; the source is left without one.
  /// \param[in] other  owner until now
  stream(stream&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  stream& operator=(stream&&) = delete;
  ~stream() {
    if (handle_ != nullptr) (void)detail::succeeds(cudaStreamDestroy(handle_));
  }

  /// \returns the queue, borrowed
  operator stream_ref() const { return {handle_}; }

 private:
  cudaStream_t handle_ = nullptr;
};

/// \brief Whether work is being recorded instead of run.
/// \ingroup cuda
/// \param[in] queue  where it is queued
/// \returns true from begin_capture() until a recorded_work or abandon_capture() ends it
inline bool is_capturing(stream_ref queue) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(queue.handle, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

/// \brief Records the work queued from now on instead of running it.
/// \ingroup cuda
///
/// Until it is ended the calling thread must neither allocate device memory nor wait; other
/// threads may.
/// \param[in] queue  whose work; not being recorded already
inline void begin_capture(stream_ref queue) {
  check(cudaStreamBeginCapture(queue.handle, cudaStreamCaptureModeThreadLocal),
        "cudaStreamBeginCapture");
}

/// \brief Ends a recording and drops it and all errors: for destructors.
/// \ingroup cuda
/// \param[in] queue  as given to begin_capture()
inline void abandon_capture(stream_ref queue) noexcept {
  cudaGraph_t recorded = nullptr;
  if (detail::succeeds(cudaStreamEndCapture(queue.handle, &recorded)))
    (void)detail::succeeds(cudaGraphDestroy(recorded));
}

/// \brief Owns recorded work that can be queued as a whole.
/// \ingroup cuda
class recorded_work {
 public:
  /// \brief Ends a recording; it has ended also when this throws.
  /// \param[in] queue  as given to begin_capture()
  /// \throws cuda_error  when something that a recording does not allow was done, or when the
  ///                     device takes no more recordings
  explicit recorded_work(stream_ref queue) {
    cudaGraph_t recorded = nullptr;
    check(cudaStreamEndCapture(queue.handle, &recorded), "cudaStreamEndCapture");
    cudaError_t const status = cudaGraphInstantiate(&handle_, recorded, 0);
    // What can be queued is a copy.
    (void)detail::succeeds(cudaGraphDestroy(recorded));
    check(status, "cudaGraphInstantiate");
  }
  /// Takes over the recording; the source is left without one.
  /// \param[in] other  owner until now
  recorded_work(recorded_work&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  recorded_work& operator=(recorded_work&&) = delete;
  ~recorded_work() {
    if (handle_ != nullptr) (void)detail::succeeds(cudaGraphExecDestroy(handle_));
  }

  /// \brief Queues the work once more.
  /// \param[in] queue  where
  void run(stream_ref queue) const {
    check(cudaGraphLaunch(handle_, queue.handle), "cudaGraphLaunch");
  }

 private:
  cudaGraphExec_t handle_ = nullptr;
};

/// \brief Device memory, uninitialised.
/// \ingroup cuda
/// \param[in] bytes  its size; 0 gives no memory
/// \returns its address, aligned to 256 bytes, or null
inline void* allocate(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* first = nullptr;
  check(cudaMalloc(&first, bytes), "cudaMalloc");
  return first;
}

/// \brief Gives device memory back; waits for the device.
/// \ingroup cuda
///
/// While the calling thread records, that makes the recording useless: it may name the memory.
/// \param[in] first  what allocate() returned
inline void release(void* first) noexcept {
  if (first == nullptr) return;
  cudaError_t const status = cudaFree(first);
  if (detail::succeeds(status) ||
      (status != cudaErrorStreamCaptureUnsupported && status != cudaErrorStreamCaptureInvalidated))
    return;
  // The recording is lost by now, and only the thread's mode still keeps the memory.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  (void)cudaThreadExchangeStreamCaptureMode(&mode);
  (void)detail::succeeds(cudaFree(first));
  (void)cudaThreadExchangeStreamCaptureMode(&mode);
}

namespace detail {

#if defined(__CUDACC__)
inline void scratch_taken(stream_ref, void*, std::size_t) {}
#else
// Tells whoever runs device code on the host of memory that is handed out with any contents, so
// that what reads it before it is written can be found. Defined where kernels are executed.
void scratch_taken(stream_ref queue, void* first, std::size_t bytes);
#endif

}  // namespace detail

/// Which way a copy goes.
/// \ingroup cuda
enum class direction {
  to_device,  ///< from the caller's memory
  to_host,    ///< to the caller's memory, which holds the entries after synchronize()
  on_device,  ///< within the device
};

namespace detail {

constexpr cudaMemcpyKind copy_kind(direction way) {
  if (way == direction::to_device) return cudaMemcpyHostToDevice;
  return way == direction::to_host ? cudaMemcpyDeviceToHost : cudaMemcpyDeviceToDevice;
}

// Whether a copy to the device may read its source at any time until it is done, although that is not
// page-locked: a device that can read such memory where it lies need not stage it before the call returns.
inline bool is_read_in_place(void const* from, int device) {
  if (attribute(cudaDevAttrPageableMemoryAccess, device) == 0) return false;
  cudaPointerAttributes memory{};
  check(cudaPointerGetAttributes(&memory, from), "cudaPointerGetAttributes");
  return memory.type == cudaMemoryTypeUnregistered;
}

}  // namespace detail

/// \brief Queues a copy of runs of bytes that lie at a constant distance.
/// \ingroup cuda
/// \param[out] to           first byte of the target
/// \param[in]  to_pitch     bytes from one run of it to the next
/// \param[in]  from         first byte of the source; must not overlap the target
/// \param[in]  from_pitch   bytes from one run of it to the next
/// \param[in]  width_bytes  bytes of a run, at most each pitch where there are several
/// \param[in]  height       number of runs; a call each where a device takes no such pitch
/// \param[in]  way          where the two lie
/// \param[in]  queue        where it is queued
inline void copy_2d(void* to, std::size_t to_pitch, void const* from, std::size_t from_pitch,
                    std::size_t width_bytes, std::size_t height, direction way, stream_ref queue) {
  if (width_bytes == 0 || height == 0) return;
  if (height == 1 || (to_pitch == width_bytes && from_pitch == width_bytes))
    return check(
        cudaMemcpyAsync(to, from, width_bytes * height, detail::copy_kind(way), queue.handle),
        "cudaMemcpyAsync");
  auto const largest = detail::attribute(cudaDevAttrMaxPitch, current_device());
  if (std::max(to_pitch, from_pitch) <= static_cast<std::size_t>(largest))
    return check(cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width_bytes, height,
                                   detail::copy_kind(way), queue.handle),
                 "cudaMemcpy2DAsync");
  for (std::size_t i = 0; i < height; ++i)
    copy_2d(static_cast<char*>(to) + i * to_pitch, 0,
            static_cast<char const*>(from) + i * from_pitch, 0, width_bytes, 1, way, queue);
}

/// \brief Queues zeros into runs of bytes of device memory that lie at a constant distance.
/// \ingroup cuda
/// \param[out] to           first byte
/// \param[in]  pitch        bytes from one run to the next
/// \param[in]  width_bytes  bytes of a run, at most the pitch where there are several
/// \param[in]  height       number of runs
/// \param[in]  queue        where it is queued
inline void clear_2d(void* to, std::size_t pitch, std::size_t width_bytes, std::size_t height,
                     stream_ref queue) {
  if (width_bytes == 0 || height == 0) return;
  if (height == 1 || pitch == width_bytes)
    return check(cudaMemsetAsync(to, 0, width_bytes * height, queue.handle), "cudaMemsetAsync");
  check(cudaMemset2DAsync(to, pitch, 0, width_bytes, height, queue.handle), "cudaMemset2DAsync");
}

}  // namespace stiefelx::cuda
