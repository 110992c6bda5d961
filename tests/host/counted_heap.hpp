// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

/// Counts what the whole test program takes from the heap, by replacing the C library's functions.
/// The definitions are weak, so that several files of a program may include this one.

// Other libraries define __has_feature for compilers that lack it, so that comes second.
#if defined(__SANITIZE_ADDRESS__)
#define STIEFELX_TEST_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STIEFELX_TEST_ADDRESS_SANITIZER
#endif
#endif

namespace support {

/// Calls that allocated, and the bytes that they asked for, since the program started.
inline std::atomic<long> heap_calls{0}, heap_bytes{0};

inline void count_heap(std::size_t size) {
  ++heap_calls;
  heap_bytes += static_cast<long>(size);
}

}  // namespace support

#if defined(STIEFELX_TEST_ADDRESS_SANITIZER)

extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(void const volatile*,
                                                                  std::size_t),
                                                         void (*)(void const volatile*));

namespace support {

inline int const heap_is_hooked = __sanitizer_install_malloc_and_free_hooks(
    [](void const volatile*, std::size_t size) { count_heap(size); }, [](void const volatile*) {});

}  // namespace support

#else

// The C library's own functions under their other names; operator new calls one of those below.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

[[gnu::weak]] void* malloc(std::size_t size) noexcept {
  support::count_heap(size);
  return __libc_malloc(size);
}
[[gnu::weak]] void* calloc(std::size_t count, std::size_t size) noexcept {
  support::count_heap(count * size);
  return __libc_calloc(count, size);
}
[[gnu::weak]] void* realloc(void* memory, std::size_t size) noexcept {
  support::count_heap(size);
  return __libc_realloc(memory, size);
}
[[gnu::weak]] void* memalign(std::size_t alignment, std::size_t size) noexcept {
  support::count_heap(size);
  return __libc_memalign(alignment, size);
}
[[gnu::weak]] void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  support::count_heap(size);
  return __libc_memalign(alignment, size);
}
[[gnu::weak]] int posix_memalign(void** memory, std::size_t alignment, std::size_t size) noexcept {
  support::count_heap(size);
  *memory = __libc_memalign(alignment, size);
  return *memory == nullptr ? ENOMEM : 0;
}
}

#endif
