// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// cuBLAS: handles, and the checks that every call of a handle makes.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>

#include <fake_cuda/blas.hpp>

namespace fake_cuda {

namespace {

std::deque<cublasContext>& handles() {
  static auto* const only = new std::deque<cublasContext>;
  return *only;
}

// cublasHandle_t: "The cuBLAS library context must be initialized using cublasCreate() and the
// returned handle must be passed to all subsequent library function calls."
void expect_handle(char const* symbol, cublasHandle_t handle) {
  for (cublasContext const& h : handles()) {
    if (&h != handle) continue;
    // cublasDestroy is "usually the last call with a particular handle": here always.
    if (!h.alive) stop(std::string(symbol) + ": the handle was destroyed");
    return;
  }
  // "CUBLAS_STATUS_NOT_INITIALIZED: the library was not initialized".
  stop(std::string(symbol) + ": not a handle of cuBLAS");
}

// cuBLAS Context: "applications must ensure that the device associated with a given cuBLAS context
// is current (e.g. by calling cudaSetDevice()) before invoking cuBLAS functions with this context".
// So must its stream be that device's, although cublasSetStream does not say it.
void expect_device(std::string const& symbol, cublasHandle_t handle, cudaStream_t stream) {
  auto const name = [](int device) { return " of device " + std::to_string(device); };
  if (handle->device != current_device())
    stop(symbol + ": a handle" + name(handle->device) + ", but the current one is" +
         name(current_device()).substr(3));
  if (stream != nullptr && stream->device != handle->device)
    stop(symbol + ": a handle" + name(handle->device) + " and a stream" + name(stream->device));
}

std::uintptr_t address(void const* p) { return reinterpret_cast<std::uintptr_t>(p); }

region run_of(void const* p, std::size_t bytes) { return {address(p), bytes, bytes, 1}; }

}  // namespace

std::size_t size_of(entry_type type) {
  switch (type) {
    case entry_type::real32:
      return 4;
    case entry_type::real64:
      return 8;
    case entry_type::bfloat16:
    case entry_type::float16:
      break;
  }
  return 2;
}

double load(entry_type type, void const* array, std::int64_t i) {
  switch (type) {
    case entry_type::real32:
      return static_cast<double>(static_cast<float const*>(array)[i]);
    case entry_type::real64:
      return static_cast<double const*>(array)[i];
    case entry_type::bfloat16:
      return static_cast<double>(__bfloat162float(static_cast<__nv_bfloat16 const*>(array)[i]));
    case entry_type::float16:
      break;
  }
  return static_cast<double>(__half2float(static_cast<__half const*>(array)[i]));
}

void store(entry_type type, void* array, std::int64_t i, double value) {
  auto const single = static_cast<float>(value);
  switch (type) {
    case entry_type::real32:
      static_cast<float*>(array)[i] = single;
      return;
    case entry_type::real64:
      static_cast<double*>(array)[i] = value;
      return;
    case entry_type::bfloat16:
      static_cast<__nv_bfloat16*>(array)[i] = __float2bfloat16_rn(single);
      return;
    case entry_type::float16:
      break;
  }
  static_cast<__half*>(array)[i] = __float2half_rn(single);
}

region matrix_argument::where(std::int64_t item) const {
  std::size_t const entry = size_of(type);
  if (rows <= 0 || cols <= 0) return {address(first), 0, 0, 0};
  return {address(first) + static_cast<std::uintptr_t>(item * step) * entry,
          static_cast<std::size_t>(stride) * entry, static_cast<std::size_t>(rows) * entry,
          static_cast<std::size_t>(cols)};
}

blas_call::blas_call(char const* symbol, cublasHandle_t handle)
    : entry_(symbol, entry::needs::device), symbol_(symbol), handle_(handle) {
  expect_handle(symbol, handle);
  expect_device(symbol, handle, handle->stream);
}

bool blas_call::is_transposed(char const* name, cublasOperation_t op) const {
  // "if trans is not one of CUBLAS_OP_N, CUBLAS_OP_T and CUBLAS_OP_C".
  if (op != CUBLAS_OP_N && op != CUBLAS_OP_T && op != CUBLAS_OP_C)
    wrong(std::string(name) + " is " + std::to_string(static_cast<int>(op)) +
          ", expected CUBLAS_OP_N, CUBLAS_OP_T or CUBLAS_OP_C");
  return op != CUBLAS_OP_N;
}

bool blas_call::is_left(char const* name, cublasSideMode_t side) const {
  // "if side is not one of CUBLAS_SIDE_LEFT and CUBLAS_SIDE_RIGHT".
  if (side != CUBLAS_SIDE_LEFT && side != CUBLAS_SIDE_RIGHT)
    wrong(std::string(name) + " is " + std::to_string(static_cast<int>(side)) +
          ", expected CUBLAS_SIDE_LEFT or CUBLAS_SIDE_RIGHT");
  return side == CUBLAS_SIDE_LEFT;
}

void blas_call::expect_size(char const* name, std::int64_t n) const {
  // "CUBLAS_STATUS_INVALID_VALUE if m < 0 or n < 0".
  if (n < 0) wrong(std::string(name) + " is " + std::to_string(n));
}

scalar_argument blas_call::scalar(char const* name, entry_type type, void const* p) {
  // "CUBLAS_STATUS_INVALID_VALUE if alpha or beta are NULL".
  if (p == nullptr) wrong(std::string(name) + " is null");
  // "CUBLAS_POINTER_MODE_HOST: the scalars are passed by reference on the host"; DEVICE: "on the
  // device".
  bool const device = handle_->mode == CUBLAS_POINTER_MODE_DEVICE;
  if (on_device(p) != device)
    wrong(std::string(name) + " lies on the " + (device ? "host" : "device") +
          ", but the pointer mode says on the " + (device ? "device" : "host"));
  if (device) {
    expect_on_device(symbol_ + ": " + name, run_of(p, size_of(type)));
    uses_.push_back({run_of(p, size_of(type)), false});
    matrices_.push_back({name, uses_.back()});
  }
  // CUDA Graphs Support: in the host's mode "coefficient values are captured in the graph", in the
  // other "coefficient value is accessed using the device pointer at the time of graph execution".
  if (device) return {0, type, p};
  return {load(type, p, 0)};
}

// cublasGemmGroupedBatchedEx: its table of parameters says "host" of one kind and "device" of the
// other.
void blas_call::host_array(char const* name, void const* p, std::size_t bytes) const {
  expect_on_host(symbol_ + ": " + name, run_of(p, bytes));
}

void blas_call::device_array(char const* name, void const* p, std::size_t bytes) {
  expect_on_device(symbol_ + ": " + name, run_of(p, bytes));
  uses_.push_back({run_of(p, bytes), false});
}

void blas_call::add(matrix_argument const& a, bool writes) {
  std::string const name = symbol_ + ": " + a.name;
  // "lda >= max(1, m)" and the same of every leading dimension.
  if (a.stride < std::max<std::int64_t>(1, a.rows))
    stop(name + ": leading dimension " + std::to_string(a.stride) + ", expected at least " +
         std::to_string(std::max<std::int64_t>(1, a.rows)));
  if (a.rows == 0 || a.cols == 0) return;
  // Programming Guide, Size and Alignment Requirement: data is "naturally aligned (i.e., its
  // address is a multiple of that size)".
  if (address(a.first) % size_of(a.type) != 0) stop(name + ": not aligned to its entries");
  for (std::int64_t item = 0; item < a.batch; ++item) {
    // The table of parameters says "device" of every matrix.
    region const r = a.where(item);
    expect_on_device(name, r);
    uses_.push_back({r, writes});
    matrices_.push_back({a.name, uses_.back()});
  }
}

void blas_call::expect_apart() const {
  // The rule of BLAS itself, whose outputs share no memory with other arguments; cuBLAS writes of
  // batches: "C[i] matrices must not overlap".
  for (std::size_t i = 0; i < matrices_.size(); ++i) {
    named const& w = matrices_[i];
    for (std::size_t j = 0; w.where.writes && j < matrices_.size(); ++j) {
      named const& r = matrices_[j];
      if (i != j && overlap(w.where.where, r.where.where)) wrong(w.name + " overlaps " + r.name);
    }
  }
}

cublasStatus_t blas_call::start(std::function<void()> const& arithmetic) {
  state& s = self();
  cudaStream_t const stream = handle_->stream;
  // "If the cuBLAS library stream is not set, all kernels use the default NULL stream": refused
  // there.
  expect_stream(symbol_.c_str(), stream);
  // "cuBLAS functions [...] rely on workspace being intact between the invocations" of kernels: it
  // is written by each call, and nothing else may lie there. That "Too small value of
  // workspaceSizeInBytes may cause some routines to fail" names neither routine nor size below 16
  // KiB, so it is not modelled.
  region const w = run_of(handle_->workspace, handle_->workspace_bytes);
  if (!w.empty()) {
    expect_on_device(symbol_ + ": workspace", w);
    for (use const& u : uses_)
      if (overlap(u.where, w)) wrong("a matrix lies in the workspace");
    uses_.push_back({w, true});
  }
  s.last.math_mode = static_cast<int>(handle_->math);
  s.last.compute_type = -1;
  s.last.workspace = handle_->workspace_bytes;
  // cuBLAS: its routines "can be captured in CUDA Graph stream capture without restrictions in most
  // situations", but may "create memory nodes"; "use the cublasSetWorkspace() function" against
  // that.
  if (stream->capture != capture_state::none && handle_->default_workspace)
    wrong("a captured call needs a workspace of the caller's");
  int const status =
      perform(stream, [uses = uses_, symbol = symbol_, w, arithmetic](CUstream_st* on) {
        device_access const access;
        for (use const& u : uses) expect_on_device(symbol + ": memory of a captured call", u.where);
        // Its contents are cuBLAS's: whoever else keeps something there loses it.
        if (!w.empty())
          std::memset(reinterpret_cast<void*>(w.begin), 0xFF, std::min<std::size_t>(w.width, 256));
        queue(symbol.c_str(), on, uses);
        arithmetic();
      });
  // "CUBLAS_STATUS_EXECUTION_FAILED: The function failed to launch on the GPU": what an invalidated
  // capture makes of it is not said.
  return status == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace fake_cuda

using namespace fake_cuda;

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  entry const e("cublasCreate_v2", entry::needs::device);
  // "CUBLAS_STATUS_NOT_INITIALIZED: the CUDA Runtime initialization failed".
  if (!e.injected() && e.refused() != 0) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  // It "allocates hardware resources on the host and device", which a capture forbids as it does
  // cudaMalloc. CUBLAS_STATUS_ALLOC_FAILED: "usually caused by a cudaMalloc() failure".
  if (unsafe_in_capture() != cudaSuccess) return CUBLAS_STATUS_ALLOC_FAILED;
  *handle = &handles().emplace_back();
  // "The cuBLAS library context is tied to the current CUDA device."
  (*handle)->device = current_device();
  ++self().live_handles;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  entry const e("cublasDestroy_v2", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasDestroy", handle);
  // It "will implicitly call cudaDeviceSynchronize()", which costs a capture its graph; what
  // cublasDestroy then returns is not said. No copy arrives because of it. Of another device than
  // its own it would wait in vain.
  expect_device("cublasDestroy", handle, nullptr);
  (void)waits_in_capture(nullptr);
  handle->alive = false;
  --self().live_handles;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  entry const e("cublasSetStream_v2", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasSetStream", handle);
  expect_stream("cublasSetStream", stream);
  expect_device("cublasSetStream", handle, stream);
  handle->stream = stream;
  // It "unconditionally resets the cuBLAS library workspace back to the default workspace pool".
  handle->workspace = nullptr;
  handle->workspace_bytes = 0;
  handle->default_workspace = true;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t handle, void* workspace, std::size_t bytes) {
  entry const e("cublasSetWorkspace_v2", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasSetWorkspace", handle);
  expect_device("cublasSetWorkspace", handle, handle->stream);
  // "The workspace pointer has to be aligned to at least 256 bytes".
  if (address(workspace) % 256 != 0) stop("cublasSetWorkspace: not aligned to 256 bytes");
  // "Calling this function, including with workspaceSizeInBytes equal to 0, will prevent the cuBLAS
  // library from utilizing the default workspace." It is "a user-owned device buffer".
  if (bytes > 0) expect_on_device("cublasSetWorkspace: workspace", run_of(workspace, bytes));
  handle->workspace = workspace;
  handle->workspace_bytes = bytes;
  handle->default_workspace = false;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t mode) {
  entry const e("cublasSetPointerMode_v2", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasSetPointerMode", handle);
  // "CUBLAS_STATUS_INVALID_VALUE: pointerMode is not CUBLAS_POINTER_MODE_HOST or
  // CUBLAS_POINTER_MODE_DEVICE".
  if (mode != CUBLAS_POINTER_MODE_HOST && mode != CUBLAS_POINTER_MODE_DEVICE)
    stop("cublasSetPointerMode: pointerMode is " + std::to_string(static_cast<int>(mode)));
  handle->mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGetPointerMode_v2(cublasHandle_t handle, cublasPointerMode_t* mode) {
  entry const e("cublasGetPointerMode_v2", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasGetPointerMode", handle);
  *mode = handle->mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetMathMode(cublasHandle_t handle, cublasMath_t mode) {
  entry const e("cublasSetMathMode", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasSetMathMode", handle);
  // "CUBLAS_STATUS_INVALID_VALUE: An invalid value for mode was specified." The others that there
  // are (one is deprecated, two emulate) would be new numbers for a test to know of.
  int const base = mode & ~CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
  if (base != CUBLAS_DEFAULT_MATH && base != CUBLAS_PEDANTIC_MATH &&
      base != CUBLAS_TF32_TENSOR_OP_MATH)
    stop("cublasSetMathMode: mode is " + std::to_string(static_cast<int>(mode)));
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode) {
  entry const e("cublasSetAtomicsMode", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasSetAtomicsMode", handle);
  // CUBLAS_ATOMICS_ALLOWED "can generate results that are not strictly identical from one run to
  // the others", which the library promises not to.
  if (mode != CUBLAS_ATOMICS_NOT_ALLOWED)
    stop("cublasSetAtomicsMode: mode is " + std::to_string(static_cast<int>(mode)));
  handle->atomics = mode;
  return CUBLAS_STATUS_SUCCESS;
}

char const* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
}

char const* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an invalid value was used as an argument";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "the GPU program failed to execute";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "the requested functionality is not supported";
    default:
      return "an internal operation failed";
  }
}

}  // extern "C"
