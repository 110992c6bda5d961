// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <list>
#include <mutex>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>

#include "examples/support/text.hpp"

namespace example {

/// How progress is shown.
enum class progress_style : std::uint8_t {
  none,    ///< not at all
  lines,   ///< a line now and then, for files and pipes
  redrawn  ///< one line drawn over and over, for terminals
};

/// \brief Chooses the style that fits a stream.
/// \param[in] stream  where the progress goes
/// \param[in] quiet   show nothing
inline progress_style choose_progress_style(std::FILE* stream, bool quiet) {
  if (quiet) return progress_style::none;
  char const* const terminal = std::getenv("TERM");
  bool const plain = terminal == nullptr || std::string_view(terminal) == "dumb";
  return ::isatty(::fileno(stream)) == 0 || plain ? progress_style::lines : progress_style::redrawn;
}

/// \brief Returns the columns of a terminal, 80 where they are unknown.
/// \param[in] stream  where the progress goes
inline std::size_t terminal_width(std::FILE* stream) {
  winsize size{};
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

/// Returns seconds since an arbitrary moment; never goes back.
inline double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// What a progress display counts, and how it is drawn.
struct progress_options {
  progress_style style = progress_style::lines;    ///< how to show it
  std::size_t runs = 1;                            ///< how many jobs will finish in all
  double work = 0;                                 ///< sum of their costs; 0: one each
  std::size_t width = 80;                          ///< columns of the terminal
  std::function<double()> clock = steady_seconds;  ///< seconds
};

/// \brief Shows how far several jobs have come, where they stand and how long it will still take.
///
/// A terminal has one line drawn over at most ten times a second. Elsewhere lines are at least two
/// seconds apart, and there is at most one a percent. Jobs may report from different threads.
class progress_display {
 public:
  class job;

  /// \brief Starts the clock; nothing is shown yet.
  /// \param[in] out      lives as long as this object
  /// \param[in] options  see there
  progress_display(std::ostream& out, progress_options options)
      : out_(out), options_(std::move(options)), begin_(options_.clock()), drawn_(begin_) {
    if (options_.work <= 0) options_.work = static_cast<double>(options_.runs);
  }
  progress_display(progress_display const&) = delete;
  progress_display(progress_display&&) = delete;
  progress_display& operator=(progress_display const&) = delete;
  progress_display& operator=(progress_display&&) = delete;
  /// Ends a line that is still open.
  ~progress_display() {
    if (line_open_) out_ << '\n' << std::flush;
  }

  /// \brief Counts runs that were finished before this program started.
  /// \param[in] runs  how many
  /// \param[in] cost  of all of them, in the unit of progress_options::work
  void skip(std::size_t runs, double cost) {
    std::lock_guard const lock(mutex_);
    finished_ += runs;
    done_ += cost;
    before_ += cost;
  }

  /// \brief Starts a job.
  /// \param[in] name   short; shown
  /// \param[in] steps  how many steps it has
  /// \param[in] first  steps done before this program started
  /// \param[in] cost   its part of progress_options::work
  job start(std::string name, std::size_t steps, std::size_t first = 0, double cost = 1);

  /// \brief Shows a line of text that stays.
  /// \param[in] text  without a line end
  void note(std::string_view text) {
    std::lock_guard const lock(mutex_);
    if (options_.style == progress_style::none) return;
    erase();
    out_ << text << '\n' << std::flush;
  }

  /// Replaces the display by one last line with the time taken.
  void finish() {
    std::lock_guard const lock(mutex_);
    if (options_.style == progress_style::none) return;
    erase();
    out_ << (options_.runs == 1 ? "done" : count()) << " in " << duration(options_.clock() - begin_)
         << '\n'
         << std::flush;
  }

 private:
  struct state {
    std::string name;
    std::size_t steps;
    std::size_t first;
    double cost;
    std::size_t step;
    std::optional<std::pair<double, double>> figures;

    double part(std::size_t n) const {
      if (steps == 0) return 0;
      return cost * static_cast<double>(std::min(n, steps)) / static_cast<double>(steps);
    }
  };
  using place = std::list<state>::iterator;

  void update(place which, std::size_t step, std::optional<std::pair<double, double>> figures) {
    std::lock_guard const lock(mutex_);
    which->step = step;
    which->figures = figures;
    draw();
  }

  void end(place which, bool complete) {
    std::lock_guard const lock(mutex_);
    if (complete) {
      ++finished_;
      done_ += which->cost;
    } else {
      before_ -= which->part(which->first);
    }
    jobs_.erase(which);
    draw();
  }

  void draw() {
    if (options_.style == progress_style::none) return;
    double const now = options_.clock();
    auto const percent = static_cast<int>(100 * fraction());
    if (options_.style == progress_style::redrawn) {
      if (line_open_ && now - drawn_ < 0.1) return;
      out_ << '\r' << bar_line(now, percent) << "\x1b[K" << std::flush;
      line_open_ = true;
    } else {
      if (now - drawn_ < 2 || percent <= percent_) return;
      auto line = summary(now, percent);
      for (auto const& entry : jobs_) line += "  " + describe(entry);
      out_ << line << '\n' << std::flush;
    }
    drawn_ = now;
    percent_ = percent;
  }

  // As many jobs as fit the terminal, the first one always; the bar takes what is left.
  std::string bar_line(double now, int percent) const {
    std::size_t constexpr shortest = 10;
    std::size_t constexpr longest = 30;
    std::size_t const room = std::max<std::size_t>(options_.width, 20) - 1;
    auto const head = summary(now, percent);
    std::string tail;
    for (auto const& entry : jobs_) {
      auto const next = "  " + describe(entry);
      if (!tail.empty() && shortest + 3 + head.size() + tail.size() + next.size() > room) break;
      tail += next;
    }
    auto const used = head.size() + tail.size() + 3;
    auto const length = std::clamp(used < room ? room - used : 0, shortest, longest);
    auto const full =
        std::min(length, static_cast<std::size_t>(fraction() * static_cast<double>(length)));
    auto line = "[" + std::string(full, '#') + std::string(length - full, '.') + "] " + head + tail;
    return line.substr(0, room);
  }

  std::string summary(double now, int percent) const {
    auto text = std::to_string(percent) + "%";
    text.insert(0, 4 - std::min<std::size_t>(4, text.size()), ' ');
    if (options_.runs != 1) text += "  " + count();
    double const elapsed = now - begin_;
    double const gained = fraction() - before_ / options_.work;
    if (elapsed > 0 && gained > 0) {
      text += "  " + duration(elapsed * (1 - fraction()) / gained) + " left";
    }
    return text;
  }

  std::string count() const {
    return std::to_string(finished_) + "/" + std::to_string(options_.runs) + " runs";
  }

  double fraction() const {
    double sum = done_;
    for (auto const& entry : jobs_) sum += entry.part(entry.step);
    return std::clamp(sum / options_.work, 0.0, 1.0);
  }

  static std::string describe(state const& job) {
    auto const total = std::to_string(job.steps);
    auto step = std::to_string(job.step);
    // The line keeps its length while the step grows.
    step.insert(0, total.size() - std::min(total.size(), step.size()), ' ');
    auto text = job.name + " " + step + "/" + total;
    if (!job.figures) return text;
    auto const [loss, rate] = *job.figures;
    bool const readable = std::abs(loss) < 1e4 && std::abs(loss) >= 1e-3;
    text += " loss " + (readable || loss == 0 ? to_fixed(loss, 4) : to_scientific(loss, 2));
    return text + " rate " + to_scientific(rate, 1);
  }

  static std::string duration(double seconds) {
    auto const two = [](long n) { return (n < 10 ? "0" : "") + std::to_string(n); };
    // Beyond a hundred days the figure means nothing, and it has to fit the integer.
    long const s = std::lround(std::clamp(seconds, 0.0, 8.64e6));
    auto const minutes = s / 60 % 60;
    auto const hours = s / 3600;
    return (hours > 0 ? std::to_string(hours) + ":" + two(minutes) : std::to_string(minutes)) +
           ":" + two(s % 60);
  }

  void erase() {
    if (line_open_) out_ << "\r\x1b[K";
    line_open_ = false;
  }

  std::mutex mutex_;
  std::ostream& out_;
  progress_options options_;
  double begin_;
  double drawn_;
  int percent_ = 0;
  bool line_open_ = false;
  std::size_t finished_ = 0;
  double done_ = 0;    // cost of what is finished
  double before_ = 0;  // cost of what was done before this program started
  std::list<state> jobs_;
};

/// \brief One job of a progress display; disappears from it when destroyed.
///
/// Must not outlive the display.
class progress_display::job {
 public:
  /// Takes the place of another, which then stands for nothing.
  job(job&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)), place_(other.place_) {}
  job(job const&) = delete;
  job& operator=(job const&) = delete;
  job& operator=(job&&) = delete;
  /// Leaves the display without being counted, if it was not finished.
  ~job() { end(false); }

  /// \brief Reports a step without figures.
  /// \param[in] step  steps done
  void update(std::size_t step) {
    if (owner_ != nullptr) owner_->update(place_, step, std::nullopt);
  }
  /// \brief Reports a step.
  /// \param[in] step  steps done
  /// \param[in] loss  the loss there
  /// \param[in] rate  the learning rate there
  void update(std::size_t step, double loss, double rate) {
    if (owner_ != nullptr) owner_->update(place_, step, std::pair(loss, rate));
  }
  /// Counts the job as done and takes it off the display.
  void finish() { end(true); }

 private:
  friend class progress_display;
  job(progress_display* owner, place where) : owner_(owner), place_(where) {}

  void end(bool complete) {
    if (auto* const owner = std::exchange(owner_, nullptr)) owner->end(place_, complete);
  }

  progress_display* owner_;
  place place_;
};

inline progress_display::job progress_display::start(std::string name, std::size_t steps,
                                                     std::size_t first, double cost) {
  std::lock_guard const lock(mutex_);
  jobs_.push_back({std::move(name), steps, first, cost, first, std::nullopt});
  before_ += jobs_.back().part(first);
  return {this, std::prev(jobs_.end())};
}

}  // namespace example
