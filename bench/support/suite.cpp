// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "bench/support/suite.hpp"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <map>
#include <regex>
#include <set>
#include <string_view>
#include <utility>

#include <benchmark/benchmark.h>

namespace bench {

namespace {

// An odd number of repetitions has a median that was measured.
constexpr int repetitions = 11;

[[noreturn]] void refuse_arguments(std::string const& reason) {
  std::cerr << reason << "\nusage: PROGRAM [--list] [--filter REGEX] [--threads N]"
            << " [--bytes N,N,...]\n";
  std::exit(2);
}

template <class T>
T positive_number(std::string_view option, std::string_view text) {
  T number{};
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < 1) {
    refuse_arguments(std::string(option) + ": \"" + std::string(text) +
                     "\" is no positive whole number");
  }
  return number;
}

std::vector<long> positive_numbers(std::string_view option, std::string_view text) {
  std::vector<long> numbers;
  while (!text.empty()) {
    std::size_t const comma = std::min(text.find(','), text.size());
    numbers.push_back(positive_number<long>(option, text.substr(0, comma)));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return numbers;
}

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char const c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

std::string shortest(double number) {
  char text[32];
  return std::string(text, std::to_chars(text, text + sizeof text, number).ptr);
}

struct timing {
  double median;
  double least;
};

struct row {
  combination what;
  work cost;
  int threads;
  std::string version;

  std::string name() const {
    return what.name + '/' + what.shape + '/' + what.scalar + '/' + std::to_string(threads);
  }

  void print(timing const* times) const {
    std::string line =
        "{\"case\":" + quoted(what.name) + ",\"impl\":" + quoted(what.implementation) +
        ",\"version\":" + quoted(version) + ",\"scalar\":" + quoted(what.scalar) +
        ",\"shape\":" + quoted(what.shape) + ",\"threads\":" + std::to_string(threads);
    if (times != nullptr) {
      line += ",\"median_ns\":" + shortest(times->median) + ",\"min_ns\":" + shortest(times->least);
    }
    line += ",\"flops\":" + shortest(cost.flops) + ",\"bytes\":" + shortest(cost.bytes) + "}\n";
    std::fputs(line.c_str(), stdout);
    std::fflush(stdout);
  }
};

// Collects the repetitions of each row, which arrive interleaved, and prints complete rows.
class row_reporter : public benchmark::BenchmarkReporter {
 public:
  explicit row_reporter(std::map<std::string, row> rows) : rows_(std::move(rows)) {}

  bool ReportContext(Context const&) override { return true; }

  void ReportRuns(std::vector<Run> const& runs) override {
    for (Run const& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.iterations == 0) continue;
      std::string const& key = run.run_name.function_name;
      auto& times = times_[key];
      times.push_back(1e9 * run.real_accumulated_time / static_cast<double>(run.iterations));
      if (times.size() != static_cast<std::size_t>(repetitions)) continue;
      std::sort(times.begin(), times.end());
      timing const result{times[times.size() / 2], times.front()};
      rows_.at(key).print(&result);
    }
  }

 private:
  std::map<std::string, row> rows_;
  std::map<std::string, std::vector<double>> times_;
};

}  // namespace

suite::suite(int argc, char** argv, std::string version, double seconds)
    : version_(std::move(version)), seconds_(seconds) {
  for (int i = 1; i < argc; ++i) {
    std::string_view const option = argv[i];
    if (option == "--list") {
      list_ = true;
      continue;
    }
    if (option != "--filter" && option != "--threads" && option != "--bytes") {
      refuse_arguments("unknown option " + std::string(option));
    }
    if (++i == argc) refuse_arguments(std::string(option) + " needs a value");
    if (option == "--filter") filter_ = argv[i];
    if (option == "--threads") threads_ = positive_number<int>(option, argv[i]);
    if (option == "--bytes") bytes_ = positive_numbers(option, argv[i]);
  }
}

void suite::add(combination what, work cost, std::function<timed_call()> make) {
  entries_.push_back({std::move(what), cost, std::move(make)});
}

int suite::run() {
  std::regex filter;
  try {
    filter = std::regex(filter_, std::regex::ECMAScript);
  } catch (std::regex_error const& error) {
    refuse_arguments("--filter: \"" + filter_ + "\" is no regular expression: " + error.what());
  }

  int status = 0;
  std::map<std::string, row> rows;
  std::set<std::string> listed;
  for (entry const& e : entries_) {
    row const r{e.what, e.cost, threads_, version_};
    if (!std::regex_search(r.name(), filter)) continue;
    if (list_) {
      // Several implementations of one combination make one row of the list.
      if (listed.insert(r.name()).second) r.print(nullptr);
      continue;
    }
    timed_call const timed = e.make();
    timed.call();
    if (std::string const fault = timed.fault ? timed.fault() : ""; !fault.empty()) {
      std::cerr << "refused " << r.what.implementation << " in " << r.name() << ", because "
                << fault << "\n";
      status = 1;
      continue;
    }
    std::string const key = r.name() + ' ' + r.what.implementation;
    rows.emplace(key, r);
    benchmark::RegisterBenchmark(key.c_str(),
                                 [call = timed.call](benchmark::State& state) {
                                   for ([[maybe_unused]] auto _ : state) {
                                     call();
                                     benchmark::ClobberMemory();
                                   }
                                 })
        ->UseRealTime()
        ->MinTime(seconds_)
        ->Repetitions(repetitions);
  }
  if (rows.empty()) return status;

  std::string interleave = "--benchmark_enable_random_interleaving=true";
  std::string program = "bench";
  char* arguments[] = {program.data(), interleave.data(), nullptr};
  int count = 2;
  benchmark::Initialize(&count, arguments);
  row_reporter reporter(std::move(rows));
  benchmark::RunSpecifiedBenchmarks(&reporter);
  return status;
}

}  // namespace bench
