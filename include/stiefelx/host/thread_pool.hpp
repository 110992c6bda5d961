// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include <stiefelx/core/matrix.hpp>

namespace stiefelx::host {

/// \brief Threads that wait, asleep, for a loop to share.
/// \ingroup host
///
/// The calling thread works too, so a pool of one has no thread of its own. Waiting is blocking:
/// spinning threads cost whole scheduler ticks on a shared machine.
class thread_pool {
 public:
  /// \param[in] threads  workers, the caller included; at least 1
  explicit thread_pool(int threads)
      : size_(threads < 1 ? 1 : threads), threads_(static_cast<std::size_t>(size_ - 1)) {
    for (int worker = 1; worker < size_; ++worker)
      threads_[static_cast<std::size_t>(worker - 1)] =
          std::thread([this, worker] { serve(worker); });
  }
  thread_pool(thread_pool const&) = delete;
  thread_pool& operator=(thread_pool const&) = delete;
  ~thread_pool() {
    {
      std::lock_guard const lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& t : threads_) t.join();
  }

  /// \returns the number of workers, the caller included
  int size() const { return size_; }

  /// \brief Calls f(index, worker) for every index below count, in any order.
  /// \param[in] count  number of calls
  /// \param[in] f      worker is below count and size(), and no two calls run at once with the same
  ///                   worker
  /// \throws whatever f throws; the first one, after all workers have stopped
  template <class F>
  void for_each_index(index_t count, F const& f) {
    if (size_ == 1 || count <= 1) {
      for (index_t i = 0; i < count; ++i) f(i, 0);
      return;
    }
    {
      std::lock_guard const lock(mutex_);
      call_ = [](void const* g, index_t i, int worker) { (*static_cast<F const*>(g))(i, worker); };
      state_ = &f;
      next_ = 0;
      count_ = count;
      busy_ = size_ - 1;
      error_ = nullptr;
      ++round_;
    }
    wake_.notify_all();
    work(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void work(int worker) {
    for (;;) {
      index_t index;
      {
        std::lock_guard const lock(mutex_);
        // Callers keep memory for as many workers as there are calls.
        if (next_ >= count_ || worker >= count_) return;
        index = next_++;
      }
      try {
        call_(state_, index, worker);
      } catch (...) {
        std::lock_guard const lock(mutex_);
        if (!error_) error_ = std::current_exception();
        next_ = count_;
      }
    }
  }

  void serve(int worker) {
    long seen = 0;
    for (;;) {
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stop_ || round_ != seen; });
        if (stop_) return;
        seen = round_;
      }
      work(worker);
      std::lock_guard const lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  int size_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  void (*call_)(void const*, index_t, int) = nullptr;
  void const* state_ = nullptr;
  index_t next_ = 0, count_ = 0;
  int busy_ = 0;
  long round_ = 0;
  bool stop_ = false;
  std::exception_ptr error_;
  std::vector<std::thread> threads_;
};

}  // namespace stiefelx::host
