// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace bench {

/// What a case cannot avoid: arithmetic, and bytes that are read or written at least once.
struct work {
  double flops;
  double bytes;
};

/// \brief What is timed, and a look at its result.
struct timed_call {
  std::function<void()> call;
  /// Empty when the result of the last call is right, else what is wrong with it.
  std::function<std::string()> fault;
};

/// One row: `name/shape/scalar/threads` of one implementation.
struct combination {
  std::string name;
  std::string shape;
  std::string scalar;
  std::string implementation;
};

/// \brief The cases of one program: its command line, its timing and its rows.
///
/// \code
///   PROGRAM [--list] [--filter REGEX] [--threads N] [--bytes N,N,...]
/// \endcode
/// prints one JSON object a line for each combination whose `name/shape/scalar/threads` contains a
/// match of REGEX (ECMAScript). With `--list` nothing is timed and the rows have no times.
/// `--bytes` is read by the limits alone.
class suite {
 public:
  /// \brief Reads the command line; a wrong one is told on standard error and exits with 2.
  /// \param[in] version  the library that is timed, with its BLAS
  /// \param[in] seconds  shortest time of a repetition
  suite(int argc, char** argv, std::string version, double seconds = 0.05);

  /// Threads that the cases are to use.
  int threads() const { return threads_; }
  /// The sizes given with `--bytes`.
  std::vector<long> const& bytes() const { return bytes_; }
  /// True if rows are only listed.
  bool lists() const { return list_; }

  /// \brief Adds a combination.
  /// \param[in] what  its names
  /// \param[in] cost  its work
  /// \param[in] make  called once, if the combination is chosen: sets up all that is not timed
  void add(combination what, work cost, std::function<timed_call()> make);

  /// \brief Times what was chosen and prints the rows, each as soon as it is complete.
  ///
  /// The repetitions of all combinations are interleaved at random, so that a disturbance of the
  /// machine does not meet one of them alone. Each is called once before and its result is looked
  /// at; a wrong one is refused with the reason.
  /// \returns the exit status: 1 if something was refused
  int run();

 private:
  struct entry {
    combination what;
    work cost;
    std::function<timed_call()> make;
  };

  std::string version_;
  double seconds_;
  std::string filter_;
  int threads_ = 1;
  bool list_ = false;
  std::vector<long> bytes_;
  std::vector<entry> entries_;
};

}  // namespace bench
