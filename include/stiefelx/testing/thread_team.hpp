// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

#include <stiefelx/core/matrix.hpp>

namespace stiefelx {

/// \brief What the lanes of a thread_team share: a barrier, and room for one sum.
/// \ingroup testing
///
/// The barrier is a mutex and a condition variable, so a thread sanitizer sees exactly the order
/// that the barrier gives and no more: a barrier that team text lacks is a race it reports.
class thread_team_state {
 public:
  /// \param[in] size  lanes, at least 1
  explicit thread_team_state(index_t size) : size_(size) {}

  /// \returns the number of lanes
  index_t size() const { return size_; }

  /// Waits until every lane has come.
  void wait() {
    std::unique_lock lock(mutex_);
    std::size_t const now = round_;
    if (++arrived_ == size_) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return round_ != now; });
    }
  }

  /// \brief The sum over the lanes, in the order of their ranks.
  /// \param[in] rank  the caller's
  /// \param[in] part  the caller's number
  /// \returns the same value for every lane
  template <class T>
  T sum(index_t rank, T part) {
    // Each lane's number stays on its own stack until every lane has read it.
    {
      std::lock_guard lock(mutex_);
      if (parts_.empty()) parts_.resize(static_cast<std::size_t>(size_));
      parts_[static_cast<std::size_t>(rank)] = &part;
    }
    wait();
    T total = T(0);
    for (void const* each : parts_) total += *static_cast<T const*>(each);
    wait();
    return total;
  }

 private:
  index_t size_;
  index_t arrived_ = 0;
  std::size_t round_ = 0;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<void const*> parts_;
};

/// \brief One lane of a team of host threads.
/// \ingroup testing
///
/// Runs team text as a device runs it, several lanes at once, where a thread sanitizer finds
/// missing barriers. It is for tests: a barrier costs microseconds.
class thread_team {
 public:
  /// \param[in,out] state  shared by the lanes
  /// \param[in]     rank   number of this lane
  thread_team(thread_team_state& state, index_t rank) : state_(&state), rank_(rank) {}

  /// \returns the number of this lane
  index_t rank() const { return rank_; }
  /// \returns the number of lanes
  index_t size() const { return state_->size(); }
  /// \brief Sum over the lanes.
  /// \param[in] part  this lane's number
  /// \returns the same value for every lane
  template <class T>
  T sum(T part) const {
    return state_->sum(rank_, part);
  }
  /// Waits for every lane.
  void barrier() const { state_->wait(); }

 private:
  thread_team_state* state_;
  index_t rank_;
};

/// \brief Runs team text with several lanes, each on a thread of its own.
/// \ingroup testing
/// \param[in] lanes  threads, at least 1
/// \param[in] text   callable(thread_team const&); it must not throw
template <class Text>
void run_thread_team(index_t lanes, Text const& text) {
  thread_team_state state(lanes);
  std::vector<std::thread> threads;
  for (index_t rank = 0; rank < lanes; ++rank)
    threads.emplace_back([&state, &text, rank] { text(thread_team(state, rank)); });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace stiefelx
