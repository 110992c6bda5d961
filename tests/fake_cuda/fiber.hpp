// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Fibers: a stack each, all on one thread, switched by hand.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

#include "executor.hpp"

#if defined(FAKE_CUDA_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

namespace fake_cuda {

/// A stack behind a page that cannot be touched.
class fiber_stack {
 public:
  fiber_stack() {
    void* const at = mmap(nullptr, whole, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<unsigned char*>(at);
    mprotect(memory_, page, PROT_NONE);
  }
  ~fiber_stack() {
    if (memory_ != nullptr) munmap(memory_, whole);
  }
  fiber_stack(fiber_stack&& other) noexcept : memory_(std::exchange(other.memory_, nullptr)) {}
  fiber_stack& operator=(fiber_stack&& other) noexcept {
    std::swap(memory_, other.memory_);
    return *this;
  }

  unsigned char* bottom() const { return memory_ + page; }
  static constexpr std::size_t size() { return whole - page; }

 private:
  static constexpr std::size_t page = 4096, whole = 512 * 1024;
  unsigned char* memory_;
};

#if defined(__x86_64__)

/// Saves what a function must keep and the stack pointer in `from`, and goes on where `to` was saved.
__attribute__((naked, noinline)) inline void switch_stack(void** /*from*/, void* /*to*/) {
  asm("pushq %rbp\n\tpushq %rbx\n\tpushq %r12\n\tpushq %r13\n\tpushq %r14\n\tpushq %r15\n\t"
      "movq %rsp, (%rdi)\n\tmovq %rsi, %rsp\n\t"
      "popq %r15\n\tpopq %r14\n\tpopq %r13\n\tpopq %r12\n\tpopq %rbx\n\tpopq %rbp\n\tret");
}

/// Where one fiber or the thread itself stands.
class context {
 public:
  void start_on(fiber_stack const& stack, void (*entry)()) {
    auto** top = reinterpret_cast<void**>(stack.bottom() + stack.size()) - 2;
    top[1] = nullptr;
    top[0] = reinterpret_cast<void*>(entry);
    for (int k = 1; k <= 6; ++k) top[-k] = nullptr;
    pointer_ = top - 6;
  }
  void switch_to(context& other) { switch_stack(&pointer_, other.pointer_); }
  /// Below every frame of the stack, where this was saved.
  unsigned char const* lowest() const { return static_cast<unsigned char const*>(pointer_); }

 private:
  void* pointer_ = nullptr;
};

#else

class context {
 public:
  void start_on(fiber_stack const& stack, void (*entry)()) {
    getcontext(&state_);
    state_.uc_stack.ss_sp = stack.bottom();
    state_.uc_stack.ss_size = stack.size();
    state_.uc_link = nullptr;
    makecontext(&state_, entry, 0);
    bottom_ = stack.bottom();
  }
  void switch_to(context& other) { swapcontext(&state_, &other.state_); }
  unsigned char const* lowest() const { return bottom_; }

 private:
  ucontext_t state_{};
  unsigned char const* bottom_ = nullptr;
};

#endif

/// One line of execution with a stack of its own, or the thread that resumes them.
class fiber {
 public:
  /// Prepares a call of entry(), which must end with leave(true) and never return.
  void start_on(fiber_stack const& stack, void (*entry)()) {
    bottom_ = stack.bottom();
    size_ = stack.size();
#if defined(FAKE_CUDA_ASAN)
    frames_ = nullptr;
#endif
    context_.start_on(stack, entry);
  }

  /// Before another fiber starts on the stack: the last frames there never returned, and are
  /// poisoned.
  void clear_stack() {
#if defined(FAKE_CUDA_ASAN)
    unsigned char const* const from = context_.lowest();
    ASAN_UNPOISON_MEMORY_REGION(from, static_cast<std::size_t>(bottom_ + size_ - from));
#endif
  }

  /// From the thread into this fiber, until it leaves.
  void enter(fiber& thread) {
#if defined(FAKE_CUDA_ASAN)
    __sanitizer_start_switch_fiber(&thread.frames_, bottom_, size_);
#endif
    thread.context_.switch_to(context_);
#if defined(FAKE_CUDA_ASAN)
    __sanitizer_finish_switch_fiber(thread.frames_, nullptr, nullptr);
#endif
  }

  /// The first thing entry() calls.
  void arrive([[maybe_unused]] fiber& thread) {
#if defined(FAKE_CUDA_ASAN)
    void const* bottom = nullptr;
    __sanitizer_finish_switch_fiber(frames_, &bottom, &thread.size_);
    thread.bottom_ = static_cast<unsigned char const*>(bottom);
#endif
  }

  /// From this fiber back to the thread; for ever when it has finished.
  void leave(fiber& thread, [[maybe_unused]] bool finished) {
#if defined(FAKE_CUDA_ASAN)
    __sanitizer_start_switch_fiber(finished ? nullptr : &frames_, thread.bottom_, thread.size_);
#endif
    context_.switch_to(thread.context_);
    arrive(thread);
  }

 private:
  context context_;
  unsigned char const* bottom_ = nullptr;
  std::size_t size_ = 0;
#if defined(FAKE_CUDA_ASAN)
  void* frames_ = nullptr;
#endif
};

}  // namespace fake_cuda
