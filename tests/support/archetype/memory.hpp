// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <complex>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <stiefelx/core/matrix.hpp>

namespace archetype {

using stiefelx::index_t;

/// What an allocation is for: scratch dies before its context, an owner may outlive it.
enum class purpose { scratch, owner };

/// Allocations of one context, as context::counts() reports them.
struct statistics {
  index_t live_scratch = 0;         ///< scratch matrices that exist now
  index_t live_owners = 0;          ///< owning matrices that exist now
  index_t scratch_allocations = 0;  ///< scratch matrices ever made
  index_t owner_allocations = 0;    ///< owning matrices ever made
};

/// Prints what was violated and ends the program: a destructor must not throw.
[[noreturn]] inline void stop(std::string const& message) {
  std::fprintf(stderr, "archetype: %s\n", message.c_str());
  std::abort();
}

/// Throws the error of an access or an argument that the archetype refuses.
[[noreturn]] inline void refuse(std::string const& message) {
  throw std::logic_error("archetype: " + message);
}

/// What every allocation of a context has, whatever its scalar.
class allocation {
 public:
  allocation() = default;
  allocation(allocation const&) = delete;
  allocation& operator=(allocation const&) = delete;
  virtual ~allocation() = default;

  /// Ends the program if a gap entry was written.
  virtual void check() const = 0;
};

/// The live allocations of one context, shared with owners that outlive it.
struct ledger {
  statistics counts;
  std::vector<allocation const*> live;
};

/// Value of entries nobody has written: a read of it shows in the result.
template <class S>
[[nodiscard]] S unwritten() {
  if constexpr (std::is_floating_point_v<S>) {
    return std::numeric_limits<S>::quiet_NaN();
  } else if constexpr (stiefelx::NarrowScalar<S>) {
    return S(unwritten<float>());
  } else if constexpr (std::is_integral_v<S>) {
    return std::numeric_limits<S>::min();
  } else {
    using real = typename S::value_type;
    return S(unwritten<real>(), unwritten<real>());
  }
}

/// \brief Column-major memory with a guarded gap before, between and after its columns.
///
/// Column j starts at `gap + j * stride` and `stride = rows + gap`, so no two columns touch and
/// code that takes a stride for the number of rows writes into a gap. Gap entries hold a canary.
template <class S>
class storage final : public allocation {
 public:
  static constexpr index_t gap = 3;              ///< guarded entries between two columns
  static constexpr unsigned char canary = 0xA5;  ///< byte that fills a gap

  storage(std::shared_ptr<ledger> book, purpose use, index_t rows, index_t cols)
      : book_(std::move(book)), use_(use), rows_(rows), cols_(cols) {
    if (rows < 0 || cols < 0) refuse("negative size " + shape());
    entries_ = std::make_unique<S[]>(static_cast<std::size_t>(length()));
    std::memset(static_cast<void*>(entries_.get()), canary, bytes(length()));
    for (index_t j = 0; j < cols_; ++j) {
      std::fill_n(entries_.get() + gap + j * stride(), rows_, unwritten<S>());
    }
    book_->live.push_back(this);
    ++live();
    ++(use_ == purpose::scratch ? book_->counts.scratch_allocations
                                : book_->counts.owner_allocations);
  }

  ~storage() override { release(); }

  [[nodiscard]] index_t rows() const { return rows_; }
  [[nodiscard]] index_t cols() const { return cols_; }
  [[nodiscard]] index_t stride() const { return rows_ + gap; }
  [[nodiscard]] std::string shape() const {
    return std::to_string(rows_) + "x" + std::to_string(cols_);
  }

  /// Entry (i, j). \throws std::logic_error outside the matrix, or once its owner is gone
  [[nodiscard]] S& at(index_t i, index_t j) {
    if (!entries_) refuse("a view is used after its matrix is gone");
    if (i < 0 || i >= rows_ || j < 0 || j >= cols_) {
      refuse("entry (" + std::to_string(i) + ", " + std::to_string(j) + ") of a " + shape() +
             " matrix");
    }
    return entries_[static_cast<std::size_t>(gap + j * stride() + i)];
  }

  /// Address of entry (i, j), which may lie one past the last row or column of the matrix.
  [[nodiscard]] S* address(index_t i, index_t j) {
    if (!entries_) refuse("a view is used after its matrix is gone");
    return entries_.get() + gap + j * stride() + i;
  }

  void check() const override {
    if (!entries_) return;
    expect_canary(0, gap);
    for (index_t j = 0; j < cols_; ++j) expect_canary(gap + j * stride() + rows_, gap);
  }

  /// Frees the memory; views that still exist refuse every access from now on.
  void release() noexcept {
    if (!entries_) return;
    check();
    std::erase(book_->live, static_cast<allocation const*>(this));
    --live();
    entries_.reset();
  }

 private:
  [[nodiscard]] index_t& live() {
    return use_ == purpose::scratch ? book_->counts.live_scratch : book_->counts.live_owners;
  }
  [[nodiscard]] index_t length() const { return gap + cols_ * stride(); }
  [[nodiscard]] static std::size_t bytes(index_t count) {
    return static_cast<std::size_t>(count) * sizeof(S);
  }

  void expect_canary(index_t first, index_t count) const {
    auto const* begin = reinterpret_cast<unsigned char const*>(entries_.get() + first);
    bool const intact =
        std::all_of(begin, begin + bytes(count), [](unsigned char c) { return c == canary; });
    if (!intact) stop("memory outside a " + shape() + " matrix was written");
  }

  std::shared_ptr<ledger> book_;
  purpose use_;
  index_t rows_;
  index_t cols_;
  std::unique_ptr<S[]> entries_;
};

/// \brief Where archetype verbs run: an account of the memory that its matrices use.
///
/// The library's algorithms see nothing of it; tests read counts() and call check().
class context {
 public:
  context() : book_(std::make_shared<ledger>()) {}
  context(context const&) = delete;
  context& operator=(context const&) = delete;

  /// Ends the program if scratch is still alive, or a gap of a live matrix was written.
  ~context() {
    check();
    if (book_->counts.live_scratch != 0) {
      stop("a context ends while " + std::to_string(book_->counts.live_scratch) +
           " scratch matrices are alive");
    }
  }

  /// What a test may choose.
  struct choices {
    std::ptrdiff_t dense_expert_columns = 0;  ///< of the verb of that name
  } options;

  /// How many matrices exist, and how many were ever made.
  [[nodiscard]] statistics const& counts() const { return book_->counts; }

  /// Ends the program if a gap of any live matrix was written.
  void check() const {
    for (allocation const* each : book_->live) each->check();
  }

 private:
  friend struct access;
  std::shared_ptr<ledger> book_;
};

/// Columns of a bank of experts up to which tokens are multiplied with every expert.
[[nodiscard]] inline std::ptrdiff_t dense_expert_columns(context const& ctx) {
  return ctx.options.dense_expert_columns;
}

}  // namespace archetype
