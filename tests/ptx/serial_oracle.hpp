// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What team text gives with one lane, an item after the other: the values that a launch of it has
// to find. Nothing here is compiled by nvcc.
#pragma once

#include <ptx/recording.hpp>

#if !defined(__CUDACC__)

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <vector>

#include <cxxabi.h>

#include <fake_cuda/fake.hpp>
#include <stiefelx/cuda/batch.hpp>
#include <stiefelx/team/team.hpp>

namespace recording {

/// Lanes that every team has at least. run_batch() gives an item of few entries one warp, whose
/// lanes never meet another warp's.
inline unsigned least_lanes = stiefelx::cuda::warp_lanes;

/// \brief Bytes of the matrices that a body may write.
class written_matrices {
 public:
  template <class... Ref>
  void save(Ref const&... refs) {
    saved_.clear();
    (save_one(refs), ...);
  }

  template <class... Ref>
  void restore(Ref const&... refs) const {
    std::size_t k = 0;
    (restore_one(refs, k), ...);
  }

 private:
  template <class T>
  void save_one(stiefelx::matrix_ref<T> const& a) {
    if constexpr (!std::is_const_v<T>)
      for (index_t j = 0; j < a.cols; ++j) {
        auto const* const from = reinterpret_cast<unsigned char const*>(a.column(j));
        saved_.emplace_back(from, from + static_cast<std::size_t>(a.rows) * sizeof(T));
      }
  }

  template <class T>
  void restore_one(stiefelx::matrix_ref<T> const& a, std::size_t& k) const {
    if constexpr (!std::is_const_v<T>)
      for (index_t j = 0; j < a.cols; ++j, ++k)
        std::copy(saved_[k].begin(), saved_[k].end(),
                  reinterpret_cast<unsigned char*>(a.column(j)));
  }

  std::vector<std::vector<unsigned char>> saved_;
};

/// \brief The size of the rounding errors of a launch: unit roundoff of its coarsest numbers, terms
/// of the longest sum, largest number.
class error_scale {
 public:
  template <class T>
  void see(stiefelx::matrix_ref<T> const& a, index_t items) {
    using Number = std::remove_const_t<T>;
    terms_ = std::max(terms_, a.rows * a.cols / items);
    if constexpr (std::is_floating_point_v<Number>) {
      unit_ = std::max(unit_, static_cast<double>(std::numeric_limits<Number>::epsilon()) / 2);
      for (index_t j = 0; j < a.cols; ++j)
        for (index_t i = 0; i < a.rows; ++i) {
          double const size = std::abs(static_cast<double>(a(i, j)));
          if (std::isfinite(size)) largest_ = std::max(largest_, size);
        }
    }
  }

  double bound() const { return 4 * unit_ * static_cast<double>(terms_ + 8) * largest_; }

 private:
  double unit_ = 0, largest_ = 1;
  index_t terms_ = 1;
};

/// Says that a launch has to leave these entries, up to rounding errors of this size.
void expected(std::string const& name, bytes_view a, double bound);

/// "gram_schmidt_body" of stiefelx::gram_schmidt_body, with template arguments.
template <class Body>
std::string body_name() {
  int status = 0;
  char* const text = abi::__cxa_demangle(typeid(Body).name(), nullptr, nullptr, &status);
  std::string name = status == 0 ? text : typeid(Body).name();
  std::free(text);
  std::erase(name, ' ');
  return name;
}

/// \brief Runs every item with one lane, prints what it leaves, and puts back what was there.
template <class Kernel>
class serial_items {
 public:
  explicit serial_items(Kernel const& kernel) : kernel_(kernel) {}

  template <class... Ref>
  void operator()(Ref const&... refs) {
    written_matrices before;
    before.save(refs...);
    (scale_.see(refs, kernel_.count), ...);
    for (index_t item = 0; item < kernel_.count; ++item) {
      // Nothing of another item, and nothing that a body may read before it has written it.
      // One lane may need more than many.
      auto const size = std::max(kernel_.work_size, kernel_.body.scratch_size());
      std::vector<double> work(static_cast<std::size_t>(size),
                               std::numeric_limits<double>::quiet_NaN());
      kernel_.body(stiefelx::serial_team{}, item, work.data(), refs...);
    }
    (scale_.see(refs, kernel_.count), ...);
    after_.save(refs...);
    before.restore(refs...);
  }

  /// After the launch: the expected values of each matrix that it may write.
  template <class... Ref>
  void tell(Ref const&... refs) const {
    written_matrices own;
    own.save(refs...);
    after_.restore(refs...);
    int number = 0;
    (tell_one(refs, number++), ...);
    own.restore(refs...);
  }

 private:
  template <class T>
  void tell_one(stiefelx::matrix_ref<T> const& a, int number) const {
    if constexpr (!std::is_const_v<T>)
      if (a.rows * a.cols > 0)
        expected(body_name<decltype(kernel_.body)>() + "#" + std::to_string(number),
                 {a.data, a.rows, a.cols, a.stride, sizeof(T), letter_of<T>()}, scale_.bound());
  }

  Kernel const& kernel_;
  error_scale scale_;
  written_matrices after_;
};

/// Calls serial_items::tell().
template <class Items>
struct telling {
  Items const& items;
  template <class... Ref>
  void operator()(Ref const&... refs) const {
    items.tell(refs...);
  }
};

/// Calls serial_items::operator().
template <class Items>
struct running {
  Items& items;
  template <class... Ref>
  void operator()(Ref const&... refs) const {
    items(refs...);
  }
};

}  // namespace recording

namespace stiefelx::cuda::detail {

// Found by run_teams() before the launch of any kernel, since it is made for this one.
template <class Body, class... Ref>
void launch(stream_ref stream, launch_shape shape, batch_kernel<Body, Ref...> const& kernel) {
  recording::serial_items<batch_kernel<Body, Ref...>> items(kernel);
  {
    fake_cuda::device_access const open;
    kernel.references.apply(recording::running<decltype(items)>{items});
  }
  unsigned const lanes = std::max(shape.threads, recording::least_lanes);
  shape.shared_bytes += block_team::shared_bytes(lanes) - block_team::shared_bytes(shape.threads);
  shape.threads = lanes;
  cuda::launch(stream, shape, kernel);
  fake_cuda::device_access const open;
  kernel.references.apply(recording::telling<decltype(items)>{items});
}

}  // namespace stiefelx::cuda::detail

#endif
