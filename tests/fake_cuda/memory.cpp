// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Device memory: address space that nobody may touch but through device_access, with inaccessible
// pages on both sides of each allocation.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string>

#include <cuda_runtime_api.h>
#include <fake_cuda/sanitizer.hpp>
#include <fake_cuda/state.hpp>
#include <stiefelx/cuda/runtime.hpp>

namespace fake_cuda {

namespace {

// Programming Guide, Device Memory Accesses: what the allocation routines return "is always aligned
// to at least 256 bytes"; here it is aligned to no more than that.
constexpr std::size_t alignment = 256;
constexpr std::size_t page = 4096;
// Nothing says when an address is given out again, so here none is until this many others were
// freed.
constexpr std::size_t most_freed = 2048;

std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

void poison([[maybe_unused]] block const& b, [[maybe_unused]] unsigned char const* from,
            [[maybe_unused]] bool on) {
#if defined(FAKE_CUDA_ASAN)
  unsigned char const* const first = b.reservation + page;
  unsigned char const* const last = b.reservation + b.reserved - page;
  if (on) {
    __asan_poison_memory_region(first, static_cast<std::size_t>(from - first));
    __asan_poison_memory_region(from + b.bytes, static_cast<std::size_t>(last - from) - b.bytes);
  } else {
    __asan_unpoison_memory_region(first, static_cast<std::size_t>(last - first));
  }
#endif
}

void protect(block const& b, int protection) {
  if (::mprotect(b.reservation + page, b.reserved - 2 * page, protection) != 0)
    stop("mprotect failed");
}

// cudaMalloc: "The memory is not cleared." Pages of 0xFF bytes that cost nothing until they are
// written: NaN in every floating-point type, so what reads memory that nobody wrote shows in the
// result.
void fill_with_ones(unsigned char* at, std::size_t bytes) {
  static constexpr std::size_t piece = std::size_t{4} << 20;
  static int const file = [] {
    int const f = ::memfd_create("fake_cuda", 0);
    std::vector<unsigned char> const ones(piece, 0xFF);
    if (f < 0 || ::write(f, ones.data(), piece) != static_cast<ssize_t>(piece))
      stop("memfd_create failed");
    return f;
  }();
  for (std::size_t done = 0; done < bytes; done += piece) {
    void* const p = ::mmap(at + done, std::min(piece, bytes - done), PROT_NONE,
                           MAP_PRIVATE | MAP_FIXED, file, 0);
    if (p == MAP_FAILED) stop("mmap of device memory failed");
  }
}

#if !defined(FAKE_CUDA_ASAN)
// Under ASan the margins are poisoned, and every access to them is reported.
bool margins_are_whole(std::uintptr_t at, block const& b) {
  auto const untouched = [](unsigned char c) { return c == 0xFF; };
  auto const* const p = reinterpret_cast<unsigned char const*>(at);
  unsigned char const* const last = b.reservation + b.reserved - page;
  unsigned char const* const first = std::max<unsigned char const*>(b.reservation + page, p - 256);
  return std::all_of(first, p, untouched) && std::all_of(p + b.bytes, last, untouched);
}
#endif

std::string describe(region const& r) {
  std::string text = std::to_string(r.height) + " x " + std::to_string(r.width) + " bytes";
  if (r.height > 1) text += ", " + std::to_string(r.pitch) + " apart";
  return text;
}

bool inside_freed(std::uintptr_t p) {
  auto const& freed = self().freed;
  auto const it = freed.upper_bound(p);
  return it != freed.begin() && p < std::prev(it)->first + std::prev(it)->second.bytes;
}

bool inside_margin(std::uintptr_t p) {
  return std::any_of(self().device.begin(), self().device.end(), [&](auto const& d) {
    auto const first = reinterpret_cast<std::uintptr_t>(d.second.reservation);
    return p >= first && p < first + d.second.reserved;
  });
}

}  // namespace

// Programming Guide, Heterogeneous Programming: "both the host and the device maintain their own
// separate memory spaces in DRAM". That systems exist where the host reads the device's is no
// reason to allow it.
device_access::device_access() {
  state& s = self();
  std::lock_guard const one(s.lock);
  s.touched = true;
  if (s.open++ == 0)
    for (auto const& [p, b] : s.device) protect(b, PROT_READ | PROT_WRITE);
}

device_access::~device_access() {
  state& s = self();
  std::lock_guard const one(s.lock);
  if (--s.open == 0)
    for (auto const& [p, b] : s.device) protect(b, PROT_NONE);
}

region_access::region_access(std::initializer_list<region> where) : lock_(self().lock) {
  state& s = self();
  s.touched = true;
  if (s.open > 0) return;
  for (region const& r : where) {
    auto const it = find(reinterpret_cast<void const*>(r.begin));
    if (r.empty() || it == s.device.end()) continue;
    protect(it->second, PROT_READ | PROT_WRITE);
    opened_.push_back(it->second);
  }
}

region_access::~region_access() {
  for (block const& b : opened_) protect(b, PROT_NONE);
}

std::map<std::uintptr_t, block>::const_iterator find(void const* p) {
  auto const& device = self().device;
  auto const at = reinterpret_cast<std::uintptr_t>(p);
  auto it = device.upper_bound(at);
  if (it == device.begin()) return device.end();
  --it;
  return at < it->first + it->second.bytes ? it : device.end();
}

bool on_device(void const* p) { return find(p) != self().device.end(); }

bool is_pinned(void const* p) {
  auto const& pinned = self().pinned;
  auto const at = reinterpret_cast<std::uintptr_t>(p);
  auto const it = pinned.upper_bound(at);
  return it != pinned.begin() && at < std::prev(it)->first + std::prev(it)->second;
}

void expect_on_device(std::string const& what, region const& r) {
  if (r.empty()) return;
  // Rows that overlap are written in no order that is told, so nobody means them.
  if (r.height > 1 && r.pitch < r.width) stop(what + ": rows of " + describe(r) + " overlap");
  // cudaErrorIllegalAddress: "The device encountered a load or store instruction on an invalid
  // memory address." That of pinned or managed memory may be valid; the library has no such calls.
  auto const it = find(reinterpret_cast<void const*>(r.begin));
  if (it == self().device.end()) {
    if (inside_freed(r.begin)) stop(what + " was freed");
    if (inside_margin(r.begin)) stop(what + " leaves its allocation: it begins beside it");
    stop(what + " is a host pointer, expected device memory");
  }
  // The same of what lies behind the "Requested allocation size in bytes", also where a neighbour
  // is.
  std::size_t const left = it->first + it->second.bytes - r.begin;
  if (r.end() - r.begin > left)
    stop(what + " leaves its allocation: " + describe(r) + ", but " + std::to_string(left) +
         " bytes are left there");
}

void expect_on_host(std::string const& what, region const& r) {
  if (r.empty()) return;
  if (r.begin == 0) stop(what + " is null");
  if (r.height > 1 && r.pitch < r.width) stop(what + ": rows of " + describe(r) + " overlap");
  // cudaMemcpyAsync: pointers "that do not match the direction of the copy" are "undefined
  // behavior".
  for (std::uintptr_t const p : {r.begin, r.end() - 1}) {
    if (on_device(reinterpret_cast<void const*>(p)) || inside_freed(p))
      stop(what + " is a device pointer, expected host memory");
  }
}

// A device may or may not notice a write beside an allocation: cudaErrorIllegalAddress is only of
// "an invalid memory address". So this looks at the next call.
void expect_margins([[maybe_unused]] char const* symbol) {
#if !defined(FAKE_CUDA_ASAN)
  state& s = self();
  if (!s.touched) return;
  device_access const access;
  s.touched = false;
  for (auto const& [p, b] : s.device)
    if (!margins_are_whole(p, b))
      stop(std::string("memory beside an allocation of ") + std::to_string(b.bytes) +
           " bytes was written before this " + symbol);
#endif
}

bool overlap(region const& a, region const& b) {
  if (a.empty() || b.empty() || a.end() <= b.begin || b.end() <= a.begin) return false;
  if (a.pitch != b.pitch || a.height < 2 || b.height < 2) return true;
  // Rows of the same matrix: they meet where their places in the row do.
  region const& low = a.begin <= b.begin ? a : b;
  region const& high = a.begin <= b.begin ? b : a;
  std::size_t const shift = (high.begin - low.begin) % low.pitch;
  return shift < low.width || shift + high.width > low.pitch;
}

std::size_t live_bytes() { return self().bytes; }
long live_allocations() { return static_cast<long>(self().device.size()); }
std::size_t peak_bytes() { return self().peak; }
void reset_peak() { self().peak = self().bytes; }

dirty_scratch::dirty_scratch() { ++self().dirty; }
dirty_scratch::~dirty_scratch() { --self().dirty; }

}  // namespace fake_cuda

namespace stiefelx::cuda {

// The arena's page says of its blocks "uninitialised": here a NaN of every floating-point type, so
// that what reads them before they are written shows in the result.
void detail::scratch_taken(stream_ref queue, void* first, std::size_t bytes) {
  using namespace fake_cuda;
  if (self().dirty > 0) return;
  expect_stream("scratch", queue.handle);
  perform(queue.handle, [=](CUstream_st*) {
    region const whole{reinterpret_cast<std::uintptr_t>(first), bytes, bytes, 1};
    expect_on_device("scratch", whole);
    region_access const access{whole};
    std::memset(first, 0xFF, bytes);
  });
}

}  // namespace stiefelx::cuda

using namespace fake_cuda;

extern "C" {

cudaError_t cudaMalloc(void** p, std::size_t bytes) {
  entry const e("cudaMalloc", entry::needs::device);
  // "cudaMalloc() returns cudaErrorMemoryAllocation in case of failure."
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  // cudaThreadExchangeStreamCaptureMode: "a call to cudaMalloc, may be unsafe"; so are all four
  // here.
  if (int const status = unsafe_in_capture()) return static_cast<cudaError_t>(status);
  *p = nullptr;
  // Nothing is said of no bytes; they make no address, so whoever uses one is found.
  if (bytes == 0) return cudaSuccess;
  state& s = self();
  // cudaSetDevice: "Any device memory subsequently allocated from this host thread [...] will be
  // physically resident on device."
  block b{bytes, nullptr, round_up(round_up(bytes, alignment), page) + 2 * page, current_device()};
  void* const r =
      ::mmap(nullptr, b.reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (r == MAP_FAILED) return cudaErrorMemoryAllocation;
  b.reservation = static_cast<unsigned char*>(r);
  fill_with_ones(b.reservation + page, b.reserved - 2 * page);
  unsigned char* const at = b.reservation + b.reserved - page - round_up(bytes, alignment);
  poison(b, at, true);
  if (s.open > 0) protect(b, PROT_READ | PROT_WRITE);
  s.device.emplace(reinterpret_cast<std::uintptr_t>(at), b);
  s.bytes += bytes;
  s.peak = std::max(s.peak, s.bytes);
  *p = at;
  return cudaSuccess;
}

cudaError_t cudaFree(void* p) {
  entry const e("cudaFree", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  if (int const status = unsafe_in_capture()) return static_cast<cudaError_t>(status);
  // "If devPtr is 0, no operation is performed."
  if (p == nullptr) return cudaSuccess;
  state& s = self();
  auto const it = s.device.find(reinterpret_cast<std::uintptr_t>(p));
  if (it == s.device.end()) {
    // It "must have been returned by a previous call to one of the following memory allocation
    // APIs", and "If cudaFree(devPtr) has already been called before, an error is returned."
    bool const again = s.freed.contains(reinterpret_cast<std::uintptr_t>(p));
    stop(again ? "cudaFree: this memory was freed before"
               : "cudaFree: not an address that cudaMalloc returned");
  }
  // cuBLAS, Scalar Parameters: "cudaFree() does an implicit cudaDeviceSynchronize()", but cudaFree
  // says that it "may perform implicit synchronization": so queued work has used the memory, and no
  // copy arrives and no stream has waited because of it.
  auto const freed = *it;
  s.device.erase(it);
  s.bytes -= freed.second.bytes;
  for (CUstream_st* stream : s.busy_streams) {
    region const whole{freed.first, freed.second.bytes, freed.second.bytes, 1};
    std::erase_if(stream->uses, [&](auto const& u) { return overlap(u.first.first, whole); });
  }
  forget_idle_streams();
  poison(freed.second, static_cast<unsigned char*>(p), false);
  ::mmap(freed.second.reservation, freed.second.reserved, PROT_NONE,
         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  s.freed.insert(freed);
  s.freed_in_order.push_back(freed.first);
  if (s.freed.size() > most_freed) {
    auto const oldest = s.freed.find(s.freed_in_order.front());
    ::munmap(oldest->second.reservation, oldest->second.reserved);
    s.freed.erase(oldest);
    s.freed_in_order.pop_front();
  }
  return cudaSuccess;
}

cudaError_t cudaHostAlloc(void** p, std::size_t bytes, unsigned int) {
  entry const e("cudaHostAlloc", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  if (int const status = unsafe_in_capture()) return static_cast<cudaError_t>(status);
  *p = std::malloc(std::max<std::size_t>(bytes, 1));
  if (*p == nullptr) return cudaErrorMemoryAllocation;
  // Nothing says that page-locked memory is cleared, so it is not.
  std::memset(*p, 0xFF, bytes);
  self().pinned.emplace(reinterpret_cast<std::uintptr_t>(*p), bytes);
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* p) {
  entry const e("cudaFreeHost", entry::needs::device);
  if (e.refused() != 0) return static_cast<cudaError_t>(e.refused());
  if (int const status = unsafe_in_capture()) return static_cast<cudaError_t>(status);
  // Of null only cudaFree says that "no operation is performed"; it is harmless here too.
  if (p == nullptr) return cudaSuccess;
  // It "must have been returned by a previous call to cudaMallocHost() or cudaHostAlloc()".
  auto const it = self().pinned.find(reinterpret_cast<std::uintptr_t>(p));
  if (it == self().pinned.end()) stop("cudaFreeHost: not an address that cudaHostAlloc returned");
  // "For all other transfers, the function should be fully asynchronous", and cudaFreeHost does not
  // say that it waits for them.
  region const whole{it->first, it->second, it->second, 1};
  for (CUstream_st const* stream : self().busy_streams)
    for (auto const& [clock, d] : stream->pending)
      if (stream->alive && overlap(d.host, whole))
        stop("cudaFreeHost: a copy of this memory is not waited for");
  self().pinned.erase(it);
  std::free(p);
  return cudaSuccess;
}

}  // extern "C"
