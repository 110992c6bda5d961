// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#include "examples/support/picture.hpp"

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tests/examples/temporary_folder.hpp"

namespace {

using namespace example;
using example_test::message_of;

double const not_a_number = std::numeric_limits<double>::quiet_NaN();
double const infinity = std::numeric_limits<double>::infinity();

std::size_t count(std::string_view text, std::string_view word) {
  std::size_t found = 0;
  for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1)) ++found;
  return found;
}

// Checks that every tag that opens is closed in order, that attributes are quoted, and that no bare
// `<`, `&` or quote is left over. Returns what is wrong.
std::string fault(std::string_view text) {
  std::vector<std::string> open;
  std::size_t at = 0;
  while (at < text.size()) {
    if (text[at] == '&') {
      auto const end = text.find(';', at);
      auto const name = text.substr(at, end - at + 1);
      std::string_view constexpr known = "&amp; &lt; &gt; &quot; &apos;";
      if (end == text.npos || known.find(name) == known.npos) return "bare &";
      at = end + 1;
      continue;
    }
    if (text[at] != '<') {
      if (open.empty() && text[at] != '\n') return "text outside";
      ++at;
      continue;
    }
    auto const end = text.find('>', at);
    if (end == text.npos) return "tag without end";
    auto tag = text.substr(at + 1, end - at - 1);
    if (tag.find('<') != tag.npos) return "tag in a tag";
    at = end + 1;
    if (tag.substr(0, 1) == "/") {
      if (open.empty() || open.back() != tag.substr(1)) return "wrong end " + std::string(tag);
      open.pop_back();
      continue;
    }
    bool const closed = tag.substr(tag.size() - 1) == "/";
    if (closed) tag.remove_suffix(1);
    auto const name = tag.substr(0, tag.find(' '));
    auto rest = tag.substr(name.size());
    while (!rest.empty()) {
      auto const equals = rest.find("=\"");
      if (rest[0] != ' ' || equals == rest.npos) return "attribute of " + std::string(name);
      auto const quote = rest.find('"', equals + 2);
      if (quote == rest.npos) return "quote in " + std::string(name);
      rest.remove_prefix(quote + 1);
    }
    if (!closed) open.emplace_back(name);
  }
  return open.empty() ? "" : "open " + open.back();
}

// Nothing that is no number may stand where a number belongs; names in these tests avoid the words.
void check_picture(std::string const& svg) {
  BOOST_TEST(fault(svg) == "");
  std::string_view constexpr start =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 480\" ";
  BOOST_TEST(svg.substr(0, start.size()) == start);
  BOOST_TEST(count(svg, "<rect width=\"860\" height=\"480\" fill=\"#ffffff\"/>") == 1u);
  BOOST_TEST(count(svg, "nan") == 0u);
  BOOST_TEST(count(svg, "inf") == 0u);
}

line_chart lines() {
  line_chart chart{.title = "Accuracy", .x = {.label = "step"}, .y = {.label = "accuracy"}};
  chart.series = {
      {.name = "one", .x = {0, 50, 100}, .y = {0.1, 0.5, 0.7}},
      {.name = "two", .x = {0, 50, 100}, .y = {0.1, 0.6, 0.9}, .error = {0, 0.1, 0.05}}};
  return chart;
}

bar_chart bars() {
  return {.title = "Similarity",
          .axis = {.label = "cosine"},
          .categories = {"lora", "moe"},
          .groups = {{.name = "before", .values = {std::nullopt, 0.625}, .errors = {0, 0.05}},
                     {.name = "after", .values = {std::nullopt, 0.25}}}};
}

std::vector<double> marks(double low, double high, bool round = true) {
  return example::detail::make_scale(low, high, {}, round).marks;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(picture)

BOOST_AUTO_TEST_CASE(checker_of_these_tests_finds_faults) {
  BOOST_TEST(fault("<a><b c=\"d\"/>x &amp; y</a>\n") == "");
  for (auto const* const bad : {"<a>", "</a>", "<a></b>", "<a", "<a b=c/>", "<a b=\"c/>",
                                "<a>&x</a>", "x", "<a><b></a></b>", "<a>&nbsp;</a>"}) {
    BOOST_TEST(fault(bad) != "", bad);
  }
}

BOOST_AUTO_TEST_CASE(line_chart_shows_every_line_with_legend_and_band) {
  auto const svg = draw(lines());
  check_picture(svg);
  BOOST_TEST(count(svg, "<polyline") == 2u);
  BOOST_TEST(count(svg, "<polygon") == 1u);
  for (auto const* const text : {"Accuracy", "step", "accuracy", "one", "two"}) {
    BOOST_TEST(count(svg, ">" + std::string(text) + "</text>") == 1u);
  }
  // The line that ends higher comes first.
  BOOST_TEST(svg.find(">two<") < svg.find(">one<"));
}

BOOST_AUTO_TEST_CASE(points_lie_where_the_axes_say) {
  line_chart chart;
  chart.series = {{.name = "", .x = {0, 5, 10}, .y = {0, 1, 0.5}}};
  chart.y.label = "";
  auto const svg = draw(chart);
  // The plot is 342 high; 0 is at the bottom, 1 at the top.
  auto const at = svg.find("<polyline points=\"0,342 ");
  BOOST_REQUIRE(at != svg.npos);
  auto const points = svg.substr(at, svg.find('"', at + 18) - at);
  BOOST_TEST(count(points, ",0 ") == 1u);
  BOOST_TEST(count(points, ",171") == 1u);
}

BOOST_AUTO_TEST_CASE(gap_breaks_the_line_and_a_single_point_is_a_dot) {
  line_chart chart;
  chart.series = {{.name = "a",
                   .x = {0, 1, 2, 3, 4, 5, 6},
                   .y = {1, 2, not_a_number, 3, infinity, 4, 5},
                   .error = {0, 0, not_a_number, 0.5, 0, infinity, -1}}};
  auto const svg = draw(chart);
  check_picture(svg);
  BOOST_TEST(count(svg, "<polyline") == 2u);
  BOOST_TEST(count(svg, "<circle") == 1u);
}

BOOST_AUTO_TEST_CASE(more_lines_than_colours_differ_by_dashes) {
  line_chart chart;
  for (int i = 0; i < 21; ++i) {
    chart.series.push_back({.name = "s", .x = {0, 1}, .y = {0, double(i)}});
  }
  auto const svg = draw(chart);
  std::vector<std::string> looks;
  for (auto at = svg.find("<polyline"); at != svg.npos; at = svg.find("<polyline", at + 1)) {
    auto const from = svg.find("stroke=", at);
    looks.push_back(svg.substr(from, svg.find("/>", from) - from));
  }
  BOOST_TEST(looks.size() == 21u);
  std::sort(looks.begin(), looks.end());
  BOOST_TEST((std::unique(looks.begin(), looks.end()) == looks.end()));
}

BOOST_AUTO_TEST_CASE(odd_numbers_never_reach_the_picture) {
  for (auto const& y : std::vector<std::vector<double>>{{},
                                                        {not_a_number},
                                                        {infinity, -infinity},
                                                        {0, 0},
                                                        {7, 7},
                                                        {1e308, -1e308},
                                                        {1e99, -1e99},
                                                        {0, 5e-324},
                                                        {0, 1e-99},
                                                        {1, 1 + 1e-15},
                                                        {-3, -2}}) {
    line_chart chart;
    std::vector<double> x(y.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<double>(i);
    chart.series = {{.name = "a", .x = x, .y = y, .error = std::vector<double>(y.size(), 1e99)},
                    {.name = "b", .x = y, .y = x}};
    check_picture(draw(chart));
    chart.y.least = 0;
    chart.y.most = 1e-90;
    check_picture(draw(chart));
    chart.y.most = -1;
    chart.x.least = not_a_number;
    check_picture(draw(chart));
    bar_chart bar;
    for (double const value : y) {
      bar.categories.emplace_back("c");
      bar.groups.resize(1);
      bar.groups[0].values.emplace_back(value);
    }
    check_picture(draw(bar));
  }
}

BOOST_AUTO_TEST_CASE(text_is_escaped) {
  std::string const odd = "<a href=\"x\">&'\x01\xff";
  std::string const escaped = "&lt;a href=&quot;x&quot;&gt;&amp;&apos; \xEF\xBF\xBD";
  auto chart = lines();
  chart.title = chart.x.label = chart.y.label = chart.series[0].name = odd;
  auto svg = draw(chart);
  check_picture(svg);
  BOOST_TEST(count(svg, ">" + escaped + "</") == 5u);
  auto bar = bars();
  bar.title = bar.axis.label = bar.categories[0] = bar.groups[0].name = odd;
  svg = draw(bar);
  check_picture(svg);
  BOOST_TEST(count(svg, ">" + escaped + "</") == 5u);
}

BOOST_AUTO_TEST_CASE(bar_chart_shows_values_and_dashes) {
  auto const svg = draw(bars());
  check_picture(svg);
  BOOST_TEST(count(svg, ">\u2014</text>") == 2u);
  BOOST_TEST(count(svg, ">0.62</text>") + count(svg, ">0.63</text>") == 1u);
  BOOST_TEST(count(svg, ">0.25</text>") == 1u);
  BOOST_TEST(count(svg, "stroke-width=\"1.5\"") == 1u);
  // Background, two legend marks, two bars.
  BOOST_TEST(count(svg, "<rect") == 5u);
  for (auto const* const text : {"Similarity", "cosine", "lora", "moe", "before", "after"}) {
    BOOST_TEST(count(svg, ">" + std::string(text) + "</text>") == 1u);
  }
}

BOOST_AUTO_TEST_CASE(value_that_is_not_finite_is_a_dash_too) {
  auto chart = bars();
  chart.groups[0].values[1] = not_a_number;
  chart.groups[1].values[1] = -infinity;
  auto const svg = draw(chart);
  check_picture(svg);
  BOOST_TEST(count(svg, ">\u2014</text>") == 4u);
}

BOOST_AUTO_TEST_CASE(bar_lengths_are_proportional) {
  bar_chart chart{.categories = {"a", "b", "c"}, .groups = {{.name = "g", .values = {1, 2, -1}}}};
  auto const svg = draw(chart);
  std::vector<double> widths;
  std::vector<double> starts;
  for (auto at = svg.find("<rect x="); at != svg.npos; at = svg.find("<rect x=", at + 1)) {
    starts.push_back(std::stod(svg.substr(at + 9)));
    widths.push_back(std::stod(svg.substr(svg.find("width=\"", at) + 7)));
  }
  BOOST_REQUIRE(widths.size() == 4u);  // the first is the legend
  BOOST_TEST(std::abs(widths[2] - 2 * widths[1]) < 0.02);
  BOOST_TEST(std::abs(widths[3] - widths[1]) < 0.02);
  BOOST_TEST(std::abs(starts[3] + widths[3] - starts[1]) < 0.02);
}

BOOST_AUTO_TEST_CASE(percent_axes_write_percent) {
  auto chart = lines();
  chart.y.percent = true;
  chart.y.least = 0;
  chart.y.most = 1;
  auto svg = draw(chart);
  BOOST_TEST(count(svg, ">0%</text>") == 1u);
  BOOST_TEST(count(svg, ">80%</text>") == 1u);
  BOOST_TEST(count(svg, ">100%</text>") == 1u);
  auto bar = bars();
  bar.axis.percent = true;
  bar.decimals = 3;
  svg = draw(bar);
  BOOST_TEST(count(svg, ">62.5%</text>") == 1u);
}

BOOST_AUTO_TEST_CASE(marks_are_round_numbers) {
  auto const same = [](std::vector<double> const& a, std::vector<double> const& b) {
    BOOST_REQUIRE(a.size() == b.size());
    for (std::size_t i = 0; i < a.size(); ++i) BOOST_TEST(std::abs(a[i] - b[i]) <= 1e-12);
  };
  same(marks(0, 1), {0, 0.2, 0.4, 0.6, 0.8, 1});
  same(marks(0.13, 0.87), {0, 0.2, 0.4, 0.6, 0.8, 1});
  same(marks(0.13, 0.87, false), {0.2, 0.4, 0.6, 0.8});
  same(marks(-3, 42), {-10, 0, 10, 20, 30, 40, 50});
  same(marks(0, 25), {0, 5, 10, 15, 20, 25});
  same(marks(7, 7), {6, 6.5, 7, 7.5, 8});
  auto const scale = example::detail::make_scale(0, 1, {}, true);
  BOOST_TEST(scale.text(0.6, false) == "0.6");
  BOOST_TEST(scale.text(0.6, true) == "60%");
  BOOST_TEST(example::detail::make_scale(0, 2e9, {}, true).text(5e8, false) == "5e+08");
}

BOOST_AUTO_TEST_CASE(axis_that_cannot_be_drawn_is_replaced) {
  using example::detail::make_scale;
  auto const spans = [](example::detail::scale const& s, double low, double high) {
    BOOST_TEST(std::abs(s.low - low) < 1e-12);
    BOOST_TEST(std::abs(s.high - high) < 1e-12);
    BOOST_TEST(s.marks.size() >= 4u);
  };
  spans(make_scale(3, 4, {.least = 0, .most = -1}, true), 0, 1);
  spans(make_scale(infinity, -infinity, {}, true), 0, 1);
  spans(make_scale(2, 4, {.least = not_a_number, .most = infinity}, true), 2, 4);
  spans(make_scale(1, 1 + 1e-15, {}, true), 0.9, 1.1);
  spans(make_scale(0, 1e-120, {}, true), -0.6, 0.6);
}

BOOST_AUTO_TEST_CASE(point_far_outside_stays_outside) {
  line_chart chart{.y = {.least = 0, .most = 1}};
  chart.series = {{.name = "a", .x = {0, 1}, .y = {0, 1e99}}};
  BOOST_TEST(count(draw(chart), ",-100000\"") == 1u);
}

BOOST_AUTO_TEST_CASE(same_input_gives_the_same_bytes) {
  BOOST_TEST(draw(lines()) == draw(lines()));
  BOOST_TEST(draw(bars()) == draw(bars()));
}

BOOST_AUTO_TEST_CASE(lengths_that_differ_are_refused) {
  auto chart = lines();
  chart.series[1].error.pop_back();
  BOOST_TEST(message_of<std::invalid_argument>([&] { (void)draw(chart); }) ==
             "picture: 'two' has 2 errors, expected 3");
  chart = lines();
  chart.series[0].y.push_back(1);
  BOOST_TEST(message_of<std::invalid_argument>([&] { (void)draw(chart); }) ==
             "picture: 'one' has 4 values of y, expected 3");
  auto bar = bars();
  bar.groups[1].values.pop_back();
  BOOST_TEST(message_of<std::invalid_argument>([&] { (void)draw(bar); }) ==
             "picture: 'after' has 1 values, expected 2");
  bar = bars();
  bar.groups[0].errors.pop_back();
  BOOST_TEST(message_of<std::invalid_argument>([&] { (void)draw(bar); }) ==
             "picture: 'before' has 1 errors, expected 2");
}

BOOST_AUTO_TEST_SUITE_END()
