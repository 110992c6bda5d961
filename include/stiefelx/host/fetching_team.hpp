// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/simd/interleave.hpp>

/// \file
/// \brief One lane a team that fetches the next group's memory while this group is computed.
/// \ingroup host

namespace stiefelx::host::detail {

// Addresses of whole cache lines.
struct line_range {
  static constexpr std::uintptr_t line = 64;
  std::uintptr_t next = 0, end = 0;
};

// The memory of the group behind g.
template <class T, std::ptrdiff_t W>
line_range range_behind(simd::item_group<T, W> g) {
  auto const first = reinterpret_cast<std::uintptr_t>(g.data);
  auto const bytes = static_cast<std::uintptr_t>(W * g.step) * sizeof(T);
  constexpr std::uintptr_t line = line_range::line;
  return {(first + bytes) / line * line, first + 2 * bytes};
}

// Asks for a share of the lines at every barrier and behind every piece of work: evenly spread, the
// requests wait neither for each other nor for memory. How many of these places a body has, its run
// for the group before tells.
template <std::size_t Count>
class fetching_team {
 public:
  // Ranges that start alike are one: bodies may write what they read.
  void expect(std::array<line_range, Count> const& ranges) {
    std::uintptr_t bytes = 0;
    count_ = at_ = 0;
    for (line_range const& r : ranges) {
      bool known = r.next >= r.end;
      for (std::size_t k = 0; k < count_; ++k) known = known || ranges_[k].next == r.next;
      if (known) continue;
      ranges_[count_++] = r;
      bytes += r.end - r.next;
    }
    // The last share of each range is a part of one.
    auto const places =
        static_cast<std::uintptr_t>(std::max<index_t>(1, places_ - index_t(count_)));
    share_ = (bytes / line_range::line / places + 1) * line_range::line;
    places_ = 0;
  }

  index_t rank() const { return 0; }
  index_t size() const { return 1; }
  template <class T>
  T sum(T v) const {
    return v;
  }
  void barrier() const { fetch(); }
  friend void finish_piece(fetching_team const& team) { team.fetch(); }

 private:
  void fetch() const {
    ++places_;
    if (at_ == count_) return;
    line_range& r = ranges_[at_];
    std::uintptr_t const first = r.next, stop = std::min(r.end, first + share_);
    for (std::uintptr_t at = first; at < stop; at += line_range::line)
      __builtin_prefetch(reinterpret_cast<void const*>(at), 0, 2);
    r.next = stop;
    if (stop == r.end) ++at_;
  }

  mutable std::array<line_range, Count> ranges_;
  mutable std::size_t at_ = 0;
  mutable index_t places_ = 32;
  std::size_t count_ = 0;
  std::uintptr_t share_ = 0;
};

}  // namespace stiefelx::host::detail
