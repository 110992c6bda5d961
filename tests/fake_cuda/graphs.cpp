// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Captures and graphs: what a captured stream is given is kept instead of run, and runs in its
// order each time the graph is launched.

#include <algorithm>
#include <string>
#include <utility>

#include <cuda_runtime_api.h>
#include <fake_cuda/state.hpp>

namespace fake_cuda {

namespace {

// cudaThreadExchangeStreamCaptureMode: "cudaStreamCaptureModeGlobal: This is the default mode."
thread_local int thread_mode = cudaStreamCaptureModeGlobal;

int invalidate(CUstream_st& stream, int status) {
  // cudaErrorStreamCaptureInvalidated: "The current capture sequence on the stream has been
  // invalidated due to a previous error."
  stream.capture = capture_state::invalidated;
  remember(status);
  return status;
}

template <class Graphs>
void expect_graph(char const* symbol, Graphs const& all, CUgraph_st const* graph) {
  for (auto const& g : all) {
    if (&g != graph) continue;
    // "Use of the handle after this call is undefined behavior."
    if (!g.alive) stop(std::string(symbol) + ": the graph was destroyed");
    return;
  }
  // A handle that nobody made is undefined, whatever the call would say of it.
  stop(std::string(symbol) + ": not a graph");
}

}  // namespace

int perform(CUstream_st* stream, captured_call const& run) {
  switch (stream->capture) {
    case capture_state::none:
      run(stream);
      return cudaSuccess;
    case capture_state::active:
      // "all operations pushed into the stream will not be executed, but will instead be captured
      // into a graph".
      stream->captured.push_back(run);
      return cudaSuccess;
    case capture_state::invalidated:
      break;
  }
  return invalidate(*stream, cudaErrorStreamCaptureInvalidated);
}

int unsafe_in_capture() {
  // cudaThreadExchangeStreamCaptureMode: "If the local thread has an ongoing capture sequence that
  // was not initiated with cudaStreamCaptureModeRelaxed [...], or if any other thread has a
  // concurrent capture sequence initiated with cudaStreamCaptureModeGlobal, this thread is
  // prohibited from potentially unsafe API calls." In the mode ThreadLocal "Concurrent capture
  // sequences in other threads are ignored", and in Relaxed the thread is "not prohibited".
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  int status = cudaSuccess;
  for (CUstream_st* stream : self().busy_streams) {
    if (stream->capture == capture_state::none) continue;
    bool const own = stream->capturing == std::this_thread::get_id();
    bool const forbids = own ? stream->mode != cudaStreamCaptureModeRelaxed
                             : stream->mode == cudaStreamCaptureModeGlobal &&
                                   thread_mode == cudaStreamCaptureModeGlobal;
    if (forbids) status = invalidate(*stream, cudaErrorStreamCaptureUnsupported);
  }
  return status;
}

int waits_in_capture(CUstream_st* stream) {
  // Programming Guide, Prohibited and Unhandled Operations: "It is invalid to synchronize or query
  // the execution status of a stream which is being captured", since it "does not represent items
  // scheduled for execution".
  int status = cudaSuccess;
  for (CUstream_st* one : self().busy_streams)
    if ((stream == nullptr ? one->device == current_device() : one == stream) &&
        one->capture != capture_state::none)
      status = invalidate(*one, cudaErrorStreamCaptureUnsupported);
  return status;
}

}  // namespace fake_cuda

using namespace fake_cuda;

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  entry const e("cudaStreamBeginCapture", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_stream("cudaStreamBeginCapture", stream);
  // "it may only be initiated if the stream is not already in capture mode". The status is not
  // told; it is the one that says "a resource required by the API call is not in a valid state".
  if (stream->capture != capture_state::none) {
    remember(cudaErrorIllegalState);
    return cudaErrorIllegalState;
  }
  stream->capture = capture_state::active;
  stream->mode = mode;
  stream->capturing = std::this_thread::get_id();
  stream->captured.clear();
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  entry const e("cudaStreamEndCapture", entry::needs::device);
  *graph = nullptr;
  if (!e.injected() && e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_stream("cudaStreamEndCapture", stream);
  // "Capture must have been initiated on stream via a call to cudaStreamBeginCapture."
  if (stream->capture == capture_state::none) {
    remember(cudaErrorIllegalState);
    return cudaErrorIllegalState;
  }
  // "this call must be from the same thread as cudaStreamBeginCapture", unless it is relaxed.
  if (stream->mode != cudaStreamCaptureModeRelaxed &&
      stream->capturing != std::this_thread::get_id()) {
    remember(cudaErrorStreamCaptureWrongThread);
    return cudaErrorStreamCaptureWrongThread;
  }
  bool const whole = std::exchange(stream->capture, capture_state::none) == capture_state::active;
  std::vector<captured_call> calls = std::exchange(stream->captured, {});
  // A failure that a test asks for: nothing is said of the stream after one, and a stream that
  // stayed captured could not be used again.
  if (e.injected()) return static_cast<cudaError_t>(e.refused());
  // "If capture was invalidated, due to a violation of the rules of stream capture, then a NULL
  // graph will be returned."
  if (!whole) {
    remember(cudaErrorStreamCaptureInvalidated);
    return cudaErrorStreamCaptureInvalidated;
  }
  CUgraph_st& made = self().graphs.emplace_back();
  made.calls = std::move(calls);
  *graph = &made;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  entry const e("cudaStreamIsCapturing", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_stream("cudaStreamIsCapturing", stream);
  // An invalidated "capture sequence must be terminated with cudaStreamEndCapture on the stream
  // where it was initiated in order to continue using stream."
  *status = stream->capture == capture_state::none     ? cudaStreamCaptureStatusNone
            : stream->capture == capture_state::active ? cudaStreamCaptureStatusActive
                                                       : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  entry const e("cudaThreadExchangeStreamCaptureMode", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // "Sets the calling thread's stream capture interaction mode to the value contained in *mode, and
  // overwrites *mode with the previous mode for the thread."
  *mode = static_cast<cudaStreamCaptureMode>(std::exchange(thread_mode, static_cast<int>(*mode)));
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph,
                                 unsigned long long flags) {
  entry const e("cudaGraphInstantiate", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_graph("cudaGraphInstantiate", self().graphs, graph);
  // The "Valid flags" are of allocations, of launches from the device and of priorities: none here.
  if (flags != 0) stop("cudaGraphInstantiate: flags are " + std::to_string(flags));
  // "Instantiates graph as an executable graph": a copy, which goes on when the graph is destroyed.
  CUgraphExec_st& own = self().executables.emplace_back();
  own.calls = graph->calls;
  *made = &own;
  return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  entry const e("cudaGraphLaunch", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  expect_graph("cudaGraphLaunch", self().executables, graph);
  expect_stream("cudaGraphLaunch", stream);
  // A launch into a captured stream makes a node of the other graph, which nobody here means.
  if (stream->capture != capture_state::none) stop("cudaGraphLaunch: its stream is being captured");
  // "Executes graphExec in stream", which need not be the one it was captured from. "Each launch is
  // ordered behind both any previous work in stream and any previous launches of graphExec."
  merge(stream->seen, graph->launched);
  struct replay {
    replay() { self().replays = true; }
    ~replay() { self().replays = false; }
  } const now;
  for (captured_call const& run : graph->calls) run(stream);
  graph->launched = {{stream->id, stream->clock}};
  return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  entry const e("cudaGraphExecDestroy", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // "Destroys the executable graph specified by graphExec."
  expect_graph("cudaGraphExecDestroy", self().executables, graph);
  graph->alive = false;
  graph->calls.clear();
  return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  entry const e("cudaGraphDestroy", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // "Destroys the graph specified by graph, as well as all of its nodes."
  expect_graph("cudaGraphDestroy", self().graphs, graph);
  graph->alive = false;
  graph->calls.clear();
  return cudaSuccess;
}

}  // extern "C"
