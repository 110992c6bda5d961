// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What the files of the fake share: allocations, streams and their order, captured work, and the
// frame of a call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <initializer_list>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <fake_cuda/fake.hpp>

namespace fake_cuda {

/// Rows of bytes: a matrix in memory. `height` runs of `width` bytes, `pitch` bytes apart.
struct region {
  std::uintptr_t begin = 0;
  std::size_t pitch = 0, width = 0, height = 0;

  bool empty() const { return width == 0 || height == 0; }
  std::uintptr_t end() const { return empty() ? begin : begin + (height - 1) * pitch + width; }
  auto operator<=>(region const&) const = default;
};

bool overlap(region const& a, region const& b);

/// One allocation; the pages before and behind `reservation`'s middle stay inaccessible.
struct block {
  std::size_t bytes = 0;
  unsigned char* reservation = nullptr;
  std::size_t reserved = 0;
  int device = 0;
};

/// An access that a stream has queued and that others may not have waited for.
struct use {
  region where;
  bool writes = false;
};

/// The host's end of a copy: bytes that arrive in it when the stream is waited for, or that must
/// still be there then.
struct delivery {
  region host;
  std::vector<unsigned char> bytes;
  bool is_source = false;
};

/// What a stream does with the work that it is given.
enum class capture_state { none, active, invalidated };

/// A call that a capture has kept; running it, on the stream it is given, checks its arguments.
using captured_call = std::function<void(CUstream_st*)>;

}  // namespace fake_cuda

struct CUgraph_st {
  bool alive = true;
  std::vector<fake_cuda::captured_call> calls;
};

struct CUgraphExec_st : CUgraph_st {
  std::map<int, long> launched;  ///< of each stream: operations up to the last launch
};

struct CUstream_st {
  int id = 0;
  int device = 0;
  bool alive = true;
  long clock = 0;            ///< how many operations were queued
  long asked = 0;            ///< of these, those that cudaStreamQuery has answered about
  std::map<int, long> seen;  ///< of each other stream: operations that ours come after
  std::deque<std::pair<long, fake_cuda::delivery>> pending;
  std::map<std::pair<fake_cuda::region, bool>, long> uses;  ///< (where, writes) -> clock
  fake_cuda::capture_state capture = fake_cuda::capture_state::none;
  int mode = 0;               ///< of a capture: cudaStreamCaptureMode
  std::thread::id capturing;  ///< the thread that began it
  std::vector<fake_cuda::captured_call> captured;
};

struct CUevent_st {
  int device = 0;
  bool alive = true;
  bool recorded = false;
  std::map<int, long> seen;
};

namespace fake_cuda {

/// A call that is to fail.
struct planned_failure {
  long calls = 0;  ///< calls up to it
  int status = 0;
  std::string failed = "";  ///< the symbol, once it has
};

struct state {
  std::recursive_mutex lock;
  std::map<std::uintptr_t, block> device;
  std::map<std::uintptr_t, block> freed;      ///< addresses that are not given out again
  std::deque<std::uintptr_t> freed_in_order;  ///< the oldest first
  std::map<std::uintptr_t, std::size_t> pinned;
  std::size_t bytes = 0, peak = 0;
  int open = 0;
  bool touched = false;             ///< device memory was open since its margins were looked at
  std::deque<CUstream_st> streams;  ///< never shrinks: a destroyed one is recognised
  /// Those that live, or whose work nobody has waited for: what every call looks through.
  std::vector<CUstream_st*> busy_streams;
  std::deque<CUevent_st> events;
  std::deque<CUgraph_st> graphs;
  std::deque<CUgraphExec_st> executables;
  bool replays = false;           ///< captured calls run: nobody makes them now
  std::map<int, long> host_seen;  ///< of each stream: operations that the host has waited for
  std::map<std::string, long> calls;
  std::map<std::string, planned_failure> failures;
  /// What cudaFuncSetAttribute allowed a kernel on a device.
  std::map<std::pair<void const*, int>, std::size_t> shared_memory;
  int dirty = 0;  ///< how many dirty_scratch live
  machine here;
  blas_request last;
  long live_handles = 0;  ///< of cuBLAS
};

state& self();

/// The device of the calling thread.
int current_device();

/// The allocation that p lies in, or the end of the map.
std::map<std::uintptr_t, block>::const_iterator find(void const* p);
bool on_device(void const* p);
bool is_pinned(void const* p);

/// device_access to the allocations of a few regions, which costs less where there are many. Other
/// threads wait while one lives.
class region_access {
 public:
  explicit region_access(std::initializer_list<region> where);
  ~region_access();
  region_access(region_access const&) = delete;
  region_access& operator=(region_access const&) = delete;

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  std::vector<block> opened_;
};

/// Stops unless the region lies in one allocation; "cudaFree'd" memory is told from the host's.
void expect_on_device(std::string const& what, region const& r);
void expect_on_host(std::string const& what, region const& r);
/// Stops where somebody has written beside an allocation.
void expect_margins(char const* symbol);

/// Stops unless the stream exists.
void expect_stream(char const* symbol, CUstream_st* stream);
/// Adds what one has seen to what the other has.
void merge(std::map<int, long>& into, std::map<int, long> const& from);
/// Queues an operation: stops where another stream's work on the same memory is not waited for, and
/// where the memory is another device's.
void queue(char const* symbol, CUstream_st* stream, std::vector<use> const& uses);
/// Takes destroyed streams whose work was waited for, or is of no memory any more, out of
/// busy_streams.
void forget_idle_streams();
/// The host has waited for operations: copies arrive.
void host_waits(std::map<int, long> const& seen);
/// Runs an operation, or keeps it where its stream is being captured.
/// \returns a status of the runtime
int perform(CUstream_st* stream, captured_call const& run);
/// The status, or 0, of a call that a capture of the calling thread forbids.
int unsafe_in_capture();
/// The status, or 0, of a call that waits for a stream; 0 stands for all of the current device.
int waits_in_capture(CUstream_st* stream);
/// Keeps a status for cudaGetLastError.
void remember(int status);

/// Counts a call. \returns the status that a test wants it to fail with, or 0
int count_call(std::string const& symbol, std::string const& kind);

/// The frame of a call: one at a time, counted, and refused where a test wants that.
class entry {
 public:
  enum class needs { nothing, device };
  entry(char const* symbol, needs what);
  /// The status that the call must return at once, or 0.
  int refused() const { return refused_; }
  /// Whether that is what a test asked for.
  bool injected() const { return injected_; }

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  int refused_ = 0;
  bool injected_ = false;
};

}  // namespace fake_cuda
