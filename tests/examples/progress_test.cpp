// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "examples/support/progress.hpp"

#include <boost/test/unit_test.hpp>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace {

using example::progress_display;
using example::progress_options;
using example::progress_style;

// A display with a clock that stands still until a test moves it.
struct fixture {
  double now = 100;
  std::ostringstream out;

  progress_options options(progress_style style, std::size_t runs = 1) {
    return {.style = style, .runs = runs, .clock = [this] { return now; }};
  }
  // What was shown since the last call.
  std::string shown() {
    auto text = out.str();
    out.str("");
    return text;
  }
};

std::vector<std::string> split(std::string const& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(progress, fixture)

BOOST_AUTO_TEST_CASE(quiet_display_shows_nothing) {
  progress_display display(out, options(progress_style::none, 2));
  {
    auto job = display.start("a", 10);
    for (std::size_t step = 0; step <= 10; ++step, now += 5) job.update(step, 1, 1);
    job.finish();
  }
  display.note("text");
  display.finish();
  BOOST_TEST(shown() == "");
}

BOOST_AUTO_TEST_CASE(line_shows_step_loss_rate_and_time_left) {
  progress_display display(out, options(progress_style::lines));
  auto job = display.start("pre-training", 200);
  now += 10;
  job.update(50, 1.23456, 0.0081);
  BOOST_TEST(shown() == " 25%  0:30 left  pre-training  50/200 loss 1.2346 rate 8.1e-03\n");
  now += 10;
  job.update(100);
  BOOST_TEST(shown() == " 50%  0:20 left  pre-training 100/200\n");
}

BOOST_AUTO_TEST_CASE(several_jobs_share_the_display) {
  progress_display display(out, options(progress_style::lines, 4));
  auto a = display.start("a", 10);
  auto b = display.start("b", 10);
  now += 3600;
  a.update(5, 0.0001, 0.01);
  BOOST_TEST(shown() ==
             " 12%  0/4 runs  7:00:00 left  a  5/10 loss 1.00e-04 rate 1.0e-02  b  0/10\n");
  now += 3600;
  a.finish();
  BOOST_TEST(shown() == " 25%  1/4 runs  6:00:00 left  b  0/10\n");
}

BOOST_AUTO_TEST_CASE(lines_are_two_seconds_and_one_percent_apart) {
  progress_display display(out, options(progress_style::lines));
  auto job = display.start("a", 1000);
  double last = now;
  int percent = 0;
  std::size_t count = 0;
  for (std::size_t step = 1; step <= 1000; ++step) {
    // Fast, then slow: both limits get their turn.
    now += step <= 500 ? 0.01 : 1.0;
    job.update(step);
    for (auto const& line : split(shown())) {
      BOOST_TEST(now - last >= 2);
      BOOST_TEST(std::stoi(line) > percent);
      last = now;
      percent = std::stoi(line);
      ++count;
    }
  }
  BOOST_TEST(count > 40u);
  BOOST_TEST(count <= 53u);
}

BOOST_AUTO_TEST_CASE(terminal_line_is_redrawn_ten_times_a_second) {
  progress_display display(out, options(progress_style::redrawn));
  auto job = display.start("a", 4);
  now += 1;
  job.update(1, 0.5, 0.01);
  BOOST_TEST(shown() ==
             "\r[#######......................]  25%  0:03 left  a 1/4 loss 0.5000 rate 1.0e-02"
             "\x1b[K");
  now += 0.09;
  job.update(2, 0.5, 0.01);
  BOOST_TEST(shown() == "");
  now += 0.02;
  job.update(2, 0.5, 0.01);
  BOOST_TEST(shown() ==
             "\r[##############...............]  50%  0:01 left  a 2/4 loss 0.5000 rate 1.0e-02"
             "\x1b[K");
}

BOOST_AUTO_TEST_CASE(terminal_line_never_exceeds_the_width) {
  for (std::size_t const width : {0u, 20u, 40u, 80u, 140u}) {
    auto how = options(progress_style::redrawn, 27);
    how.width = width;
    progress_display display(out, how);
    auto a = display.start("a-long-name-for-a-method seed 1", 1000);
    auto b = display.start("another-name seed 2", 1000);
    shown();
    now += 1;
    a.update(500, 0.5, 0.01);
    auto const line = shown();
    BOOST_TEST(line.size() - std::string("\r\x1b[K").size() < std::max<std::size_t>(width, 20));
    BOOST_TEST((line.find("another-name") != std::string::npos) == (width == 140));
  }
}

BOOST_AUTO_TEST_CASE(end_of_the_display_replaces_the_line) {
  {
    progress_display display(out, options(progress_style::redrawn, 2));
    auto job = display.start("a", 4);
    job.update(1);
    now += 61.6;
    job.finish();
    shown();
    display.finish();
    BOOST_TEST(shown() == "\r\x1b[K1/2 runs in 1:02\n");
  }
  BOOST_TEST(shown() == "");
  {
    progress_display display(out, options(progress_style::lines));
    now += 3;
    display.finish();
    BOOST_TEST(shown() == "done in 0:03\n");
  }
}

BOOST_AUTO_TEST_CASE(display_that_is_abandoned_ends_its_line) {
  {
    progress_display display(out, options(progress_style::redrawn));
    display.start("a", 4).update(1);
    shown();
  }
  BOOST_TEST(shown() == "\n");
}

BOOST_AUTO_TEST_CASE(note_stands_above_the_line) {
  progress_display display(out, options(progress_style::redrawn));
  auto job = display.start("a", 4);
  job.update(1);
  shown();
  display.note("text");
  BOOST_TEST(shown() == "\r\x1b[Ktext\n");
  job.update(2);
  BOOST_TEST(shown().find("a 2/4") != std::string::npos);
  progress_display plain(out, options(progress_style::lines));
  plain.note("text");
  BOOST_TEST(shown() == "text\n");
}

BOOST_AUTO_TEST_CASE(job_that_is_dropped_is_not_counted) {
  progress_display display(out, options(progress_style::lines, 2));
  auto kept = display.start("kept", 10);
  {
    auto const dropped = display.start("dropped", 10, 5);
    now += 3;
  }
  kept.update(5);
  BOOST_TEST(shown() == " 25%  0/2 runs  0:09 left  kept  5/10\n");
}

BOOST_AUTO_TEST_CASE(moved_job_reports_once) {
  progress_display display(out, options(progress_style::lines, 2));
  auto first = display.start("a", 10);
  auto second = std::move(first);
  now += 3;
  first.update(9);
  first.finish();
  BOOST_TEST(shown() == "");
  second.finish();
  BOOST_TEST(shown() == " 50%  1/2 runs  0:03 left\n");
  second.finish();
  second.update(1);
  now += 3;
  display.finish();
  BOOST_TEST(shown() == "1/2 runs in 0:06\n");
}

BOOST_AUTO_TEST_CASE(work_done_before_does_not_count_for_the_time_left) {
  progress_display display(out, options(progress_style::lines, 4));
  display.skip(2, 2);
  auto job = display.start("a", 100, 50);
  now += 10;
  job.update(75);  // a quarter of a run in ten seconds, five quarters are left
  BOOST_TEST(shown() == " 68%  2/4 runs  0:50 left  a  75/100\n");
}

BOOST_AUTO_TEST_CASE(cost_weighs_the_jobs) {
  auto how = options(progress_style::lines, 2);
  how.work = 10;
  progress_display display(out, how);
  auto cheap = display.start("cheap", 0, 0, 1);
  auto dear = display.start("dear", 9, 0, 9);
  now += 3;
  cheap.finish();
  BOOST_TEST(shown() == " 10%  1/2 runs  0:27 left  dear 0/9\n");
  now += 3;
  dear.update(3);
  BOOST_TEST(shown() == " 40%  1/2 runs  0:09 left  dear 3/9\n");
}

BOOST_AUTO_TEST_CASE(job_beyond_its_steps_is_one_run) {
  progress_display display(out, options(progress_style::lines, 2));
  auto job = display.start("a", 10);
  now += 3;
  job.update(20);
  BOOST_TEST(shown() == " 50%  0/2 runs  0:03 left  a 20/10\n");
}

BOOST_AUTO_TEST_CASE(odd_numbers_are_shown) {
  progress_display display(out, options(progress_style::lines));
  auto job = display.start("a", 10);
  now += 1e12;
  job.update(1, std::numeric_limits<double>::quiet_NaN(), 0);
  BOOST_TEST(shown() == " 10%  2400:00:00 left  a  1/10 loss nan rate 0.0e+00\n");
  now += 3;
  job.update(2, -12345.6, 1);
  BOOST_TEST(shown() == " 20%  2400:00:00 left  a  2/10 loss -1.23e+04 rate 1.0e+00\n");
  now += 3;
  job.update(11, 0, 1);
  BOOST_TEST(shown() == "100%  0:00 left  a 11/10 loss 0.0000 rate 1.0e+00\n");
}

BOOST_AUTO_TEST_CASE(threads_may_report_at_once) {
  progress_display display(out, {.style = progress_style::redrawn, .runs = 8});
  auto const work = [&](int which) {
    for (int run = 0; run < 4; ++run) {
      auto job = display.start(which == 0 ? "a" : "b", 500);
      for (std::size_t step = 1; step <= 500; ++step) job.update(step, 1, 1);
      job.finish();
    }
  };
  {
    std::thread other(work, 1);
    work(0);
    other.join();
  }
  display.finish();
  BOOST_TEST(shown().find("\r\x1b[K8/8 runs in 0:0") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(style_follows_the_stream) {
  auto* const file = std::tmpfile();
  BOOST_REQUIRE(file != nullptr);
  BOOST_TEST((example::choose_progress_style(file, false) == progress_style::lines));
  BOOST_TEST((example::choose_progress_style(file, true) == progress_style::none));
  BOOST_TEST(example::terminal_width(file) == 80u);
  std::fclose(file);
}

BOOST_AUTO_TEST_SUITE_END()
