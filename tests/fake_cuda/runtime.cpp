// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The machine, errors, and the frame of a call; what is left at exit is an error.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

#include <cuda_runtime_api.h>
#include <fake_cuda/state.hpp>

namespace fake_cuda {

namespace {

thread_local int last_error = 0;
// Programming Guide, Device Selection: "If no call to cudaSetDevice() is made, the current device
// is device 0."
thread_local int current = 0;

// No documentation asks a program to give everything back; what is left is a leak of the library's.
// It lives from before main to after every object that a test could hold.
struct leak_check {
  ~leak_check() {
    state const& s = self();
    long streams = 0, events = 0, graphs = 0;
    for (CUstream_st const& one : s.streams) streams += one.alive ? 1 : 0;
    for (CUevent_st const& one : s.events) events += one.alive ? 1 : 0;
    for (CUgraph_st const& one : s.graphs) graphs += one.alive ? 1 : 0;
    for (CUgraphExec_st const& one : s.executables) graphs += one.alive ? 1 : 0;
    long const left = static_cast<long>(s.device.size() + s.pinned.size()) + streams + events +
                      graphs + s.live_handles;
    if (left == 0) return;
    std::fprintf(stderr,
                 "fake_cuda: left at exit: %zu allocations of %zu bytes, %zu of pinned memory, %ld "
                 "streams, %ld events, %ld graphs, %ld handles of cuBLAS\n",
                 s.device.size(), s.bytes, s.pinned.size(), streams, events, graphs,
                 s.live_handles);
    std::fflush(nullptr);
    std::_Exit(1);
  }
} const at_exit;

bool has_driver(machine const& m) {
  // cudaErrorInsufficientDriver: "the installed NVIDIA CUDA driver is older than the CUDA runtime
  // library". CUDA Compatibility Guide: minor versions of one major version go together.
  return m.driver_version != 0 && m.driver_version / 1000 >= m.runtime_version / 1000;
}

int missing() {
  machine const& m = self().here;
  if (!has_driver(m)) return cudaErrorInsufficientDriver;
  return m.devices == 0 ? cudaErrorNoDevice : cudaSuccess;
}

// Programming Guide, Features and Technical Specifications, column 9.0. An attribute that the
// library does not ask for has no value here.
int attribute(cudaDeviceAttr name) {
  switch (name) {
    case cudaDevAttrMaxThreadsPerBlock:
      return 1024;
    case cudaDevAttrMaxBlockDimX:
      return 1024;
    case cudaDevAttrMaxGridDimX:
      return 2147483647;
    case cudaDevAttrMaxGridDimY:
      return 65535;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      return 48 * 1024;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      return 227 * 1024;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      return 228 * 1024;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      return 2048;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      return 32;
    case cudaDevAttrWarpSize:
      return 32;
    case cudaDevAttrMaxPitch:
      return self().here.largest_pitch;
    case cudaDevAttrPageableMemoryAccess:
      return self().here.reads_in_place ? 1 : 0;
    case cudaDevAttrMultiProcessorCount:
      return self().here.multiprocessors;
    case cudaDevAttrComputeCapabilityMajor:
      return 9;
    case cudaDevAttrComputeCapabilityMinor:
      return 0;
    default:
      stop("cudaDeviceGetAttribute: attribute " + std::to_string(static_cast<int>(name)) +
           " is not known here");
  }
}

struct text {
  cudaError_t status;
  char const* name;
  char const* what;
};

constexpr text texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorInvalidPitchValue, "cudaErrorInvalidPitchValue", "invalid pitch argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorInvalidDeviceFunction, "cudaErrorInvalidDeviceFunction", "invalid device function"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorUnsupportedPtxVersion, "cudaErrorUnsupportedPtxVersion",
     "the provided PTX was compiled with an unsupported toolchain."},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in the present state"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureWrongThread, "cudaErrorStreamCaptureWrongThread",
     "attempt to terminate a thread-local capture sequence from another thread"},
};

// cudaGetErrorString: "If the error code is not recognized, "unrecognized error code" is returned."
text find_text(cudaError_t status) {
  for (text const& t : texts)
    if (t.status == status) return t;
  return {status, "unrecognized error code", "unrecognized error code"};
}

}  // namespace

void stop(std::string const& what) {
  std::fprintf(stderr, "fake_cuda: %s\n", what.c_str());
  std::fflush(stderr);
  throw fault("fake_cuda: " + what);
}

state& self() {
  // Calls can come before and after any other static object lives.
  static state* const only = new state;
  return *only;
}

int current_device() { return current; }

// cudaGetLastError: "the last error that has been produced by any of the runtime calls". A failure
// that "leaves the process in an inconsistent state" for good is a test's, and passes here after
// one call.
void remember(int status) {
  if (status != 0) last_error = status;
}

entry::entry(char const* symbol, needs what) : lock_(self().lock) {
  std::string_view const name(symbol);
  // cuBLAS's functions return their status and keep none: its own failures are no "runtime calls".
  // What only looks, and what gives something back, is no part of "every call".
  bool const counted =
      what == needs::device && name.find("Free") == name.npos && name.find("Destroy") == name.npos;
  refused_ = count_call(symbol, counted ? "" : symbol);
  injected_ = refused_ != 0;
  if (!injected_ && what == needs::device) refused_ = missing();
  if (name.starts_with("cuda")) remember(refused_);
  if (what == needs::device && refused_ == 0) expect_margins(symbol);
}

int count_call(std::string const& symbol, std::string const& kind) {
  state& s = self();
  ++s.calls[symbol];
  int status = 0;
  for (std::string const* key : {&symbol, &kind}) {
    auto const it = s.failures.find(*key);
    if (it == s.failures.end() || (key == &kind && kind == symbol)) continue;
    if (--it->second.calls != 0) continue;
    it->second.failed = symbol;
    status = it->second.status;
  }
  return status;
}

int launch(CUstream_st* stream, std::string const& name, void const* kernel, std::size_t bytes,
           std::function<void()> const& run) {
  int status = 0;
  {
    std::lock_guard const one(self().lock);
    status = count_call("launch", "");
    ++self().calls[name];
    if (status == 0) status = missing();
    // "no kernel image available that is suitable for the device": for each launch.
    if (status == 0 && !self().here.image) status = cudaErrorNoKernelImageForDevice;
    if (status == 0) {
      expect_stream(name.c_str(), stream);
      // Programming Guide, Stream and Event Behavior: "A kernel launch will fail if it is issued to
      // a stream that is not associated to the current device"; the status is that of a wrong
      // handle.
      if (stream->device != current) status = cudaErrorInvalidResourceHandle;
    }
    remember(status);
    if (status != 0) return status;
  }
  std::vector<void const*> named;
  for (std::size_t at = 0; at + sizeof(void*) <= bytes; at += sizeof(void*)) {
    void const* word = nullptr;
    std::memcpy(&word, static_cast<unsigned char const*>(kernel) + at, sizeof word);
    if (on_device(word)) named.push_back(word);
  }
  // cudaLaunchKernel: the arguments "will be copied", so a captured launch has its own, and what
  // they point to may be gone by then.
  return perform(stream, [=](CUstream_st* on) {
    for (void const* p : named)
      if (!on_device(p)) stop("kernel " + name + ": memory that it was captured with was freed");
    launch_scope const scope(on, name.c_str(), kernel, bytes);
    run();
  });
}

// Programming Guide: "Kernels relying on shared memory allocations over 48 KB per block [...]
// require an explicit opt-in". Attributes "may vary based on the device that is currently being
// used": each has its own here.
std::size_t shared_memory_of(void const* entry) {
  std::lock_guard const one(self().lock);
  auto const it = self().shared_memory.find({entry, current});
  return it == self().shared_memory.end() ? std::size_t{48} * 1024 : it->second;
}

long calls(char const* symbol) {
  state& s = self();
  std::lock_guard const one(s.lock);
  if (*symbol != '\0') {
    auto const it = s.calls.find(symbol);
    return it == s.calls.end() ? 0 : it->second;
  }
  long sum = 0;
  for (auto const& [name, count] : s.calls) sum += count;
  return sum;
}

pretend::pretend(machine const& m) : before_(self().here) { self().here = m; }
pretend::~pretend() { self().here = before_; }

failure::failure(char const* symbol, long n, int status) : symbol_(symbol) {
  self().failures[symbol_] = {n, status};
}
std::string failure::failed() const { return self().failures[symbol_].failed; }
failure::~failure() { self().failures.erase(symbol_); }

blas_request last_product() { return self().last; }

}  // namespace fake_cuda

using namespace fake_cuda;

extern "C" {

cudaError_t cudaGetLastError() {
  entry const e("cudaGetLastError", entry::needs::nothing);
  // "Returns the last error [...] in the host thread and resets it to cudaSuccess."
  return static_cast<cudaError_t>(std::exchange(last_error, 0));
}

cudaError_t cudaPeekAtLastError() {
  entry const e("cudaPeekAtLastError", entry::needs::nothing);
  // "This call does not reset the error to cudaSuccess like cudaGetLastError()."
  return static_cast<cudaError_t>(last_error);
}

char const* cudaGetErrorName(cudaError_t status) { return find_text(status).name; }
char const* cudaGetErrorString(cudaError_t status) { return find_text(status).what; }

cudaError_t cudaDriverGetVersion(int* version) {
  entry const e("cudaDriverGetVersion", entry::needs::nothing);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // "If no driver is installed, then 0 is returned as the driver version."
  *version = self().here.driver_version;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  entry const e("cudaRuntimeGetVersion", entry::needs::nothing);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // "As of CUDA 12.0, this function no longer initializes CUDA": it needs no driver.
  *version = self().here.runtime_version;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  // What it leaves there when it fails is not said: nothing that could be used.
  *count = 0;
  entry const e("cudaGetDeviceCount", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  *count = self().here.devices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  entry const e("cudaSetDevice", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // "Valid device id's are 0 to (cudaGetDeviceCount() - 1)."
  if (device < 0 || device >= self().here.devices) {
    remember(cudaErrorInvalidDevice);
    return cudaErrorInvalidDevice;
  }
  // "Sets device as the current device for the calling host thread."
  current = device;
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  entry const e("cudaGetDevice", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  *device = current;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr name, int device) {
  entry const e("cudaDeviceGetAttribute", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // cudaErrorInvalidDevice: "the device ordinal supplied by the user does not correspond to a valid
  // CUDA device".
  if (device < 0 || device >= self().here.devices) {
    remember(cudaErrorInvalidDevice);
    return cudaErrorInvalidDevice;
  }
  *value = attribute(name);
  return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, void const* memory) {
  entry const e("cudaPointerGetAttributes", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // "forward passing host pointer will return cudaMemoryTypeUnregistered in
  // cudaPointerAttributes::type and call will return cudaSuccess", and "device is the device
  // against which ptr was allocated".
  *attributes = {};
  auto const it = find(memory);
  attributes->device = it == self().device.end() ? current : it->second.device;
  attributes->type = on_device(memory)   ? cudaMemoryTypeDevice
                     : is_pinned(memory) ? cudaMemoryTypeHost
                                         : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void const* function) {
  entry const e("cudaFuncGetAttributes", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // Of a function that does not exist it says "assumed to be a cudaKernel_t and used as is".
  if (function == nullptr) stop("cudaFuncGetAttributes: no kernel");
  // "This can occur when a user specifies code generation options [...] that do not include the
  // corresponding device configuration."
  if (!self().here.image) {
    remember(cudaErrorNoKernelImageForDevice);
    return cudaErrorNoKernelImageForDevice;
  }
  *attributes = {};
  attributes->maxThreadsPerBlock = 1024;
  attributes->binaryVersion = 90;
  attributes->ptxVersion = 90;
  attributes->maxDynamicSharedSizeBytes = static_cast<int>(shared_memory_of(function));
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(void const* function, cudaFuncAttribute name, int value) {
  entry const e("cudaFuncSetAttribute", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  if (function == nullptr) stop("cudaFuncSetAttribute: no kernel");
  // Others are hints or of clusters, which nobody here means.
  if (name != cudaFuncAttributeMaxDynamicSharedMemorySize)
    stop("cudaFuncSetAttribute: attribute " + std::to_string(static_cast<int>(name)) +
         " is not known here");
  // "if the value is incorrect, then cudaErrorInvalidValue is returned", and "The sum of this value
  // and the function attribute sharedSizeBytes cannot exceed the device attribute
  // cudaDevAttrMaxSharedMemoryPerBlockOptin."
  if (value < 0 || value > attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin)) {
    remember(cudaErrorInvalidValue);
    return cudaErrorInvalidValue;
  }
  self().shared_memory[{function, current}] = static_cast<std::size_t>(value);
  return cudaSuccess;
}

}  // extern "C"
