// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Streams: what each has queued, what comes after what, and what the host has waited for. Work runs
// when it is queued; only what the host sees of it arrives later.

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include <cuda_runtime_api.h>
#include <fake_cuda/state.hpp>

namespace fake_cuda {

namespace {

// Operations of a stream whose order is still checked. It is not the strict side: an older access
// that nothing waits for is overlooked, for the sake of the time that the checks take.
constexpr long remembered = 4096;

unsigned char* row(region const& r, std::size_t i) {
  return reinterpret_cast<unsigned char*>(r.begin) + i * r.pitch;
}

void arrive(CUstream_st& stream, long clock) {
  std::erase_if(stream.uses, [&](auto const& u) { return u.second <= clock; });
  while (!stream.pending.empty() && stream.pending.front().first <= clock) {
    delivery const d = std::move(stream.pending.front().second);
    stream.pending.pop_front();
    for (std::size_t i = 0; i < d.host.height; ++i) {
      unsigned char const* const bytes = d.bytes.data() + i * d.host.width;
      // API synchronization behavior: "For all other transfers, the function should be fully
      // asynchronous": the source is read at any time until then, and the target written.
      if (d.is_source && std::memcmp(row(d.host, i), bytes, d.host.width) != 0)
        stop("the source of a copy was changed before the stream was waited for");
      if (!d.is_source) std::memcpy(row(d.host, i), bytes, d.host.width);
    }
  }
}

long clock_of(std::map<int, long> const& seen, int id) {
  auto const it = seen.find(id);
  return it == seen.end() ? 0 : it->second;
}

std::map<int, long> everything(CUstream_st const& stream) {
  std::map<int, long> seen = stream.seen;
  seen[stream.id] = stream.clock;
  return seen;
}

void expect_event(char const* symbol, cudaEvent_t event) {
  for (CUevent_st const& e : self().events) {
    if (&e != event) continue;
    // cudaEventDestroy: "Use of the handle after this call is undefined behavior."
    if (!e.alive) stop(std::string(symbol) + ": the event was destroyed");
    return;
  }
  // cudaErrorInvalidResourceHandle: "a resource handle passed to the API call was not valid".
  stop(std::string(symbol) + ": not an event");
}

// Programming Guide, Peer-to-Peer Memory Access: it "must be enabled between two devices by calling
// cudaDeviceEnablePeerAccess()", which nobody here calls. Copies between devices need no such call;
// they are refused too, since the library has none.
void expect_device(char const* symbol, CUstream_st const& stream, use const& u) {
  auto const it = find(reinterpret_cast<void const*>(u.where.begin));
  if (it == self().device.end() || it->second.device == stream.device) return;
  stop(std::string(symbol) + ": memory of device " + std::to_string(it->second.device) +
       " on a stream of device " + std::to_string(stream.device));
}

}  // namespace

void merge(std::map<int, long>& into, std::map<int, long> const& from) {
  for (auto const& [id, clock] : from) into[id] = std::max(into[id], clock);
}

void expect_stream(char const* symbol, CUstream_st* stream) {
  // Streams of the library are created with cudaStreamNonBlocking: "work running in the created
  // stream may run concurrently with work in stream 0 (the NULL stream)".
  if (stream == nullptr) stop(std::string(symbol) + ": on the default stream");
  for (CUstream_st const* s : self().busy_streams)
    if (s == stream && s->alive) return;
  // cudaStreamDestroy: "Use of the handle after this call is undefined behavior."
  for (CUstream_st const& s : self().streams)
    if (&s == stream) stop(std::string(symbol) + ": the stream was destroyed");
  // cudaErrorInvalidResourceHandle: "a resource handle passed to the API call was not valid".
  stop(std::string(symbol) + ": not a stream");
}

void forget_idle_streams() {
  std::erase_if(self().busy_streams,
                [](CUstream_st const* s) { return !s->alive && s->uses.empty(); });
}

// Programming Guide, Streams: commands of one "execute in order. Different streams, on the other
// hand, may execute their commands out of order with respect to one another or concurrently".
void queue(char const* symbol, CUstream_st* stream, std::vector<use> const& uses) {
  state& s = self();
  expect_stream(symbol, stream);
  for (use const& u : uses) expect_device(symbol, *stream, u);
  for (CUstream_st const* other : s.busy_streams) {
    if (other == stream || other->uses.empty()) continue;
    // What the host queues comes after all that it has waited for.
    long const seen = std::max(clock_of(stream->seen, other->id), clock_of(s.host_seen, other->id));
    for (auto const& [key, clock] : other->uses)
      for (use const& u : uses)
        if (clock > seen && (u.writes || key.second) && overlap(u.where, key.first))
          stop(std::string(symbol) + (u.writes ? " writes" : " reads") + " memory that another " +
               "stream " + (key.second ? "writes" : "reads") + ", and nothing waits for it");
  }
  ++stream->clock;
  for (use const& u : uses)
    if (!u.where.empty()) stream->uses[{u.where, u.writes}] = stream->clock;
  if (stream->clock % remembered == 0)
    std::erase_if(stream->uses,
                  [&](auto const& u) { return u.second <= stream->clock - remembered; });
}

// cudaStreamSynchronize: "Blocks until stream has completed all operations." Nothing says that one
// is done any sooner, so until then none is.
void host_waits(std::map<int, long> const& seen) {
  state& s = self();
  merge(s.host_seen, seen);
  for (CUstream_st* stream : s.busy_streams) arrive(*stream, clock_of(seen, stream->id));
  forget_idle_streams();
}

// cudaLaunchKernel copies "the region of memory from which the actual parameter will be copied",
// and says nothing of what the pointers in it are for: each counts as read, and as written where
// the first bytes behind it change. What a kernel reaches in other ways is not seen here.
launch_scope::launch_scope(CUstream_st* stream, char const* name, void const* kernel,
                           std::size_t bytes)
    : stream_(stream) {
  state& s = self();
  std::lock_guard const one(s.lock);
  expect_margins(name);
  std::vector<use> reads;
  for (std::size_t at = 0; at + sizeof(void*) <= bytes; at += sizeof(void*)) {
    void* word = nullptr;
    std::memcpy(&word, static_cast<unsigned char const*>(kernel) + at, sizeof word);
    auto const it = find(word);
    if (it == s.device.end()) continue;
    auto* const first = static_cast<unsigned char*>(word);
    std::size_t const left = it->first + it->second.bytes - reinterpret_cast<std::uintptr_t>(word);
    arguments_.push_back({first, {first, first + std::min<std::size_t>(left, 64)}});
    reads.push_back({{reinterpret_cast<std::uintptr_t>(first), 1, 1, 1}, false});
  }
  queue(name, stream, reads);
}

launch_scope::~launch_scope() {
  std::lock_guard const one(self().lock);
  for (argument const& a : arguments_) {
    if (std::memcmp(a.at, a.before.data(), a.before.size()) == 0) continue;
    region const changed{reinterpret_cast<std::uintptr_t>(a.at), a.before.size(), a.before.size(),
                         1};
    stream_->uses[{changed, true}] = stream_->clock;
  }
}

}  // namespace fake_cuda

using namespace fake_cuda;

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int flags) {
  entry const e("cudaStreamCreateWithFlags", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // Others than "cudaStreamNonBlocking" wait for "stream 0 (the NULL stream)" and it for them,
  // which would hide that an order is missing.
  if (flags != cudaStreamNonBlocking)
    stop("cudaStreamCreateWithFlags: a stream that waits for the default stream");
  state& s = self();
  CUstream_st& made = s.streams.emplace_back();
  made.id = static_cast<int>(s.streams.size());
  s.busy_streams.push_back(&made);
  // cudaSetDevice: "Any streams or events created from this host thread will be associated with
  // device."
  made.device = current_device();
  *stream = &made;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  entry const e("cudaStreamDestroy", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_stream("cudaStreamDestroy", stream);
  // "In case the device is still doing work in the stream [...] the function will return
  // immediately": what was not waited for never reaches the host here, nor any other stream. Of a
  // captured stream nothing is said: whoever destroys one has lost its graph.
  if (stream->capture != capture_state::none)
    stop("cudaStreamDestroy: the stream is being captured");
  stream->pending.clear();
  stream->alive = false;
  forget_idle_streams();
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  entry const e("cudaStreamSynchronize", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_stream("cudaStreamSynchronize", stream);
  if (int const status = waits_in_capture(stream)) return static_cast<cudaError_t>(status);
  host_waits(everything(*stream));
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  entry const e("cudaStreamQuery", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_stream("cudaStreamQuery", stream);
  if (int const status = waits_in_capture(stream)) return static_cast<cudaError_t>(status);
  // "Returns cudaSuccess if all operations in stream have completed, or cudaErrorNotReady if not":
  // at the first question they have not. "This result is not actually an error", so it is not kept
  // as one.
  auto const done = self().host_seen.find(stream->id);
  bool const waits = done == self().host_seen.end() || done->second < stream->clock;
  if (waits && std::exchange(stream->asked, stream->clock) != stream->clock)
    return cudaErrorNotReady;
  host_waits(everything(*stream));
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  entry const e("cudaDeviceSynchronize", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // "It is also invalid to query the execution status of or synchronize a broader handle which
  // encompasses an active stream capture, such as a device or context handle".
  if (int const status = waits_in_capture(nullptr)) return static_cast<cudaError_t>(status);
  // "Blocks until the device has completed all preceding requested tasks": this device, not the
  // others; and all of it, also what was queued on streams that have gone.
  for (CUstream_st const* stream : std::vector(self().busy_streams))
    if (stream->device == current_device()) host_waits(everything(*stream));
  return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  entry const e("cudaStreamWaitEvent", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_stream("cudaStreamWaitEvent", stream);
  expect_event("cudaStreamWaitEvent", event);
  // "Makes all future work submitted to stream wait for all work captured in event", which may "be
  // from a different device than stream". cudaEventRecord: before the first call "an event
  // represents an empty set of work": such a wait is for nothing, which nobody means.
  if (!event->recorded) stop("cudaStreamWaitEvent: nothing was recorded in the event");
  // cudaErrorStreamCaptureIsolation: "Only implicit in-stream ordering dependencies are allowed to
  // cross the boundary" of a capture.
  if (stream->capture != capture_state::none) stop("cudaStreamWaitEvent: the stream is captured");
  merge(stream->seen, event->seen);
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  entry const e("cudaEventCreateWithFlags", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // "Creates an event object for the current device with the specified flags."
  *event = &self().events.emplace_back();
  (*event)->device = current_device();
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  entry const e("cudaEventDestroy", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_event("cudaEventDestroy", event);
  event->alive = false;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  entry const e("cudaEventRecord", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_event("cudaEventRecord", event);
  expect_stream("cudaEventRecord", stream);
  // An event of a capture makes other streams part of it, which nobody here means.
  if (stream->capture != capture_state::none) stop("cudaEventRecord: the stream is being captured");
  // Programming Guide, Stream and Event Behavior: it "will fail if the input event and input stream
  // are associated to different devices"; the status is the one of a handle that does not fit.
  if (event->device != stream->device) {
    remember(cudaErrorInvalidResourceHandle);
    return cudaErrorInvalidResourceHandle;
  }
  // "Captures in event the contents of stream at the time of this call", and "will overwrite the
  // previously captured state".
  event->recorded = true;
  event->seen = everything(*stream);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  entry const e("cudaEventSynchronize", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_event("cudaEventSynchronize", event);
  // "Waits until the completion of all work currently captured in event", and of no other.
  host_waits(event->seen);
  return cudaSuccess;
}

}  // extern "C"
