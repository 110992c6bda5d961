// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <stiefelx/cuda/runtime.hpp>

#include "bench/support/suite.hpp"

namespace bench {

/// \brief What is timed on the device, and a look at its result.
struct device_call {
  stiefelx::cuda::stream_ref queue;    ///< where the call queues its work
  std::function<void()> call;          ///< queues the work; does not wait
  std::function<std::string()> fault;  ///< empty when the result of the last call is right
};

/// \brief The cases of one program on the device: its command line, its timing and its rows.
///
/// \code
///   PROGRAM [--list] [--filter TEXT] [--small]
/// \endcode
/// prints one JSON object a line for each row whose `case/shape/scalar` contains TEXT, with the
/// fields of bench::suite but `threads`. `--small` takes sizes that a test can afford. Times are the
/// device's own, between two events around the call; before each, memory larger than any L2 is
/// written, so the call starts with a cold, dirty cache while the host is already ahead of the device.
class device_suite {
 public:
  /// \brief Reads the command line; a wrong one is told on standard error and exits with 2.
  device_suite(int argc, char** argv);

  /// True if sizes are those of a test.
  bool small() const { return small_; }

  /// \brief Adds a row.
  /// \param[in] what  its names
  /// \param[in] cost  its work
  /// \param[in] make  called once, if the row is chosen: sets up all that is not timed
  void add(combination what, work cost, std::function<device_call()> make);

  /// \brief Times what was chosen and prints the rows, each as soon as it is complete.
  ///
  /// Each is called once before and its result is looked at. One that is wrong or throws is refused
  /// with the reason, on standard error, and the others go on.
  /// \returns the exit status: 1 if something was refused
  int run();

 private:
  struct entry {
    combination what;
    work cost;
    std::function<device_call()> make;
  };

  std::string filter_;
  bool list_ = false;
  bool small_ = false;
  std::vector<entry> entries_;
};

}  // namespace bench
