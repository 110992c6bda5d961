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

void expect_handle(char const* symbol, cublasHandle_t handle) {
  for (cublasContext const& h : handles()) {
    if (&h != handle) continue;
    if (!h.alive) stop(std::string(symbol) + ": the handle was destroyed");
    return;
  }
  // "CUBLAS_STATUS_NOT_INITIALIZED: the library was not initialized".
  stop(std::string(symbol) + ": not a handle of cuBLAS");
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
}

bool blas_call::is_transposed(char const* name, cublasOperation_t op) const {
  if (op != CUBLAS_OP_N && op != CUBLAS_OP_T && op != CUBLAS_OP_C)
    wrong(std::string(name) + " is " + std::to_string(static_cast<int>(op)) +
          ", expected CUBLAS_OP_N, CUBLAS_OP_T or CUBLAS_OP_C");
  return op != CUBLAS_OP_N;
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
  // A captured call too: in the host's mode "coefficient values are captured in the graph", in the
  // other they "are accessed using device pointers at the time of graph execution".
  if (device) return {0, type, p};
  return {load(type, p, 0)};
}

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
  // CUDA C++ Programming Guide: aligned is an address that is "a multiple of that size".
  if (address(a.first) % size_of(a.type) != 0) stop(name + ": not aligned to its entries");
  for (std::int64_t item = 0; item < a.batch; ++item) {
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
  expect_stream(symbol_.c_str(), stream);
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
  // situations", but may "create memory nodes"; "use the cublasSetWorkspace() function" against that.
  if (stream->capture != capture_state::none && handle_->default_workspace)
    wrong("a captured call needs a workspace of the caller's");
  int const status = perform(stream, [uses = uses_, symbol = symbol_, stream, w, arithmetic] {
    device_access const access;
    for (use const& u : uses) expect_on_device(symbol + ": memory of a captured call", u.where);
    // Its contents are cuBLAS's: whoever else keeps something there loses it.
    if (!w.empty())
      std::memset(reinterpret_cast<void*>(w.begin), 0xFF, std::min<std::size_t>(w.width, 256));
    queue(symbol.c_str(), stream, uses);
    arithmetic();
  });
  // "CUBLAS_STATUS_EXECUTION_FAILED: the function failed to launch on the GPU".
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
  *handle = &handles().emplace_back();
  ++self().live_handles;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  entry const e("cublasDestroy_v2", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasDestroy", handle);
  handle->alive = false;
  --self().live_handles;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  entry const e("cublasSetStream_v2", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasSetStream", handle);
  expect_stream("cublasSetStream", stream);
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
  // "The workspace pointer has to be aligned to at least 256 bytes".
  if (address(workspace) % 256 != 0) stop("cublasSetWorkspace: not aligned to 256 bytes");
  // "Calling this function, including with workspaceSizeInBytes equal to 0, will prevent the cuBLAS
  // library from utilizing the default workspace."
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
  handle->math = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasSetAtomicsMode(cublasHandle_t handle, cublasAtomicsMode_t mode) {
  entry const e("cublasSetAtomicsMode", entry::needs::device);
  if (e.refused() != 0) return static_cast<cublasStatus_t>(e.refused());
  expect_handle("cublasSetAtomicsMode", handle);
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
