// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Copies and fills. What goes to the host arrives there when its stream is waited for.

#include <algorithm>
#include <cstring>
#include <string>

#include <cuda_runtime_api.h>
#include <fake_cuda/state.hpp>

namespace fake_cuda {

namespace {

region rows(void const* p, std::size_t pitch, std::size_t width, std::size_t height) {
  return {reinterpret_cast<std::uintptr_t>(p), height > 1 ? pitch : width, width, height};
}

unsigned char* row(region const& r, std::size_t i) {
  return reinterpret_cast<unsigned char*>(r.begin) + i * r.pitch;
}

// What a copy must be, when it is called and when a graph runs it.
void expect_copy(char const* symbol, region const& to, region const& from, cudaMemcpyKind kind) {
  bool const to_host = kind == cudaMemcpyDeviceToHost;
  bool const from_host = kind == cudaMemcpyHostToDevice;
  // "Passing cudaMemcpyDefault is recommended, in which case the type of transfer is inferred from
  // the pointer values": then no kind could be wrong, so it is refused here, as are copies on the
  // host.
  if (!to_host && !from_host && kind != cudaMemcpyDeviceToDevice)
    stop(std::string(symbol) + ": kind " + std::to_string(static_cast<int>(kind)) +
         " says nothing of where both ends lie");
  // cudaMemcpyAsync: pointers "that do not match the direction of the copy" result in "undefined
  // behavior".
  std::string const name = symbol;
  to_host ? expect_on_host(name + ": target", to) : expect_on_device(name + ": target", to);
  from_host ? expect_on_host(name + ": source", from) : expect_on_device(name + ": source", from);
  // "The memory areas may not overlap."
  if (overlap(to, from)) stop(name + ": target and source overlap");
}

void run_copy(char const* symbol, region const& to, region const& from, cudaMemcpyKind kind,
              cudaStream_t stream) {
  bool const to_host = kind == cudaMemcpyDeviceToHost;
  bool const from_host = kind == cudaMemcpyHostToDevice;
  expect_copy(symbol, to, from, kind);
  std::vector<use> uses;
  if (!to_host) uses.push_back({to, true});
  if (!from_host) uses.push_back({from, false});
  queue(symbol, stream, uses);
  if (to.empty()) return;

  region_access const access{to, from};
  delivery d;
  d.host = to_host ? to : from;
  d.is_source = from_host;
  for (std::size_t i = 0; i < to.height; ++i) {
    if (kind != cudaMemcpyDeviceToDevice)
      d.bytes.insert(d.bytes.end(), row(from, i), row(from, i) + from.width);
    if (!to_host) std::memcpy(row(to, i), row(from, i), to.width);
  }
  // API synchronization behavior: "If pageable memory must first be staged to pinned memory, the
  // driver may synchronize with the stream and stage the copy into pinned memory": such a source is
  // free when the call returns, and a pinned one when the stream was waited for, as is one that
  // need not be staged. A graph promises nothing of the kind for any. A copy into it that is queued
  // behind the first one may overwrite it.
  std::erase_if(stream->pending, [&](auto const& p) {
    return to_host && p.second.is_source && overlap(p.second.host, to);
  });
  bool const late = is_pinned(reinterpret_cast<void const*>(from.begin)) || self().replays ||
                    self().here.reads_in_place;
  if (to_host || (from_host && late)) stream->pending.emplace_back(stream->clock, std::move(d));
  // "The call may return before the copy is complete": until then the host sees nothing of use.
  for (std::size_t i = 0; to_host && i < to.height; ++i) std::memset(row(to, i), 0xFF, to.width);
}

cudaError_t copy(char const* symbol, region const& to, region const& from, cudaMemcpyKind kind,
                 cudaStream_t stream) {
  expect_copy(symbol, to, from, kind);
  expect_stream(symbol, stream);
  return static_cast<cudaError_t>(
      perform(stream, [=](CUstream_st* on) { run_copy(symbol, to, from, kind, on); }));
}

cudaError_t set(char const* symbol, region const& to, int value, cudaStream_t stream) {
  // cudaMemsetAsync: "Initializes or sets device memory to a value".
  expect_on_device(std::string(symbol) + ": target", to);
  expect_stream(symbol, stream);
  return static_cast<cudaError_t>(perform(stream, [=](CUstream_st* on) {
    expect_on_device(std::string(symbol) + ": target", to);
    queue(symbol, on, {{to, true}});
    region_access const access{to};
    for (std::size_t i = 0; i < to.height && to.width > 0; ++i)
      std::memset(row(to, i), value, to.width);
  }));
}

// "cudaMemcpy2DAsync() returns an error if dpitch or spitch is greater than the maximum allowed",
// which is cudaDevAttrMaxPitch, "Maximum pitch in bytes allowed by memory copies": 2^31 - 1 on
// devices so far. The status is the one of "pitch-related parameters [...] not within the
// acceptable range".
cudaError_t refused_pitch(std::size_t to, std::size_t from) {
  if (std::max(to, from) <= static_cast<std::size_t>(self().here.largest_pitch)) return cudaSuccess;
  remember(cudaErrorInvalidPitchValue);
  return cudaErrorInvalidPitchValue;
}

void expect_pitch(char const* symbol, char const* which, std::size_t pitch, std::size_t width) {
  // "width must not exceed either dpitch or spitch." The pitch of a fill is "Unused if height is
  // 1", and looked at all the same: it is wrong for every other height.
  if (pitch < width)
    stop(std::string(symbol) + ": " + which + " " + std::to_string(pitch) + " < width " +
         std::to_string(width));
}

}  // namespace

}  // namespace fake_cuda

using namespace fake_cuda;

extern "C" {

cudaError_t cudaMemcpyAsync(void* to, void const* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  entry const e("cudaMemcpyAsync", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  return copy("cudaMemcpyAsync", rows(to, bytes, bytes, 1), rows(from, bytes, bytes, 1), kind,
              stream);
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, void const* from,
                              std::size_t from_pitch, std::size_t width, std::size_t height,
                              cudaMemcpyKind kind, cudaStream_t stream) {
  entry const e("cudaMemcpy2DAsync", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_pitch("cudaMemcpy2DAsync", "dpitch", to_pitch, width);
  expect_pitch("cudaMemcpy2DAsync", "spitch", from_pitch, width);
  if (cudaError_t const status = refused_pitch(to_pitch, from_pitch); status != cudaSuccess)
    return status;
  return copy("cudaMemcpy2DAsync", rows(to, to_pitch, width, height),
              rows(from, from_pitch, width, height), kind, stream);
}

cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  entry const e("cudaMemsetAsync", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  return set("cudaMemsetAsync", rows(to, bytes, bytes, 1), value, stream);
}

cudaError_t cudaMemset2DAsync(void* to, std::size_t pitch, int value, std::size_t width,
                              std::size_t height, cudaStream_t stream) {
  entry const e("cudaMemset2DAsync", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_pitch("cudaMemset2DAsync", "pitch", pitch, width);
  return set("cudaMemset2DAsync", rows(to, pitch, width, height), value, stream);
}

}  // extern "C"
