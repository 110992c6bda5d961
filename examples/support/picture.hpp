// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "examples/support/canvas.hpp"
#include "examples/support/file.hpp"
#include "examples/support/text.hpp"

namespace example {

// g++ takes a member without an initializer for one that a designated list forgot.
// NOLINTBEGIN(readability-redundant-member-init)

/// What an axis of numbers shows.
struct chart_axis {
  std::string label{};            ///< what the numbers are
  bool percent = false;           ///< writes 0.85 as 85 %
  std::optional<double> least{};  ///< where the axis starts; from the numbers if not given
  std::optional<double> most{};   ///< where the axis ends; from the numbers if not given
};

/// A line of a line chart.
struct chart_series {
  std::string name{};           ///< shown in the legend
  std::vector<double> x{};      ///< in ascending order
  std::vector<double> y{};      ///< as many as x; the line has a gap where one is not finite
  std::vector<double> error{};  ///< half height of the band around the line; none if empty
};

/// Lines over a common axis.
struct line_chart {
  std::string title{};                 ///< above the picture
  chart_axis x{};                      ///< horizontal axis
  chart_axis y{};                      ///< vertical axis
  std::vector<chart_series> series{};  ///< the lines
};

/// One bar for every category.
struct bar_group {
  std::string name{};                           ///< shown in the legend
  std::vector<std::optional<double>> values{};  ///< one a category; a dash where there is none
  std::vector<double> errors{};                 ///< half length of the whiskers; none if empty
};

/// Horizontal bars: a row for every category, in it a bar for every group.
struct bar_chart {
  std::string title{};                    ///< above the picture
  chart_axis axis{};                      ///< of the values
  std::vector<std::string> categories{};  ///< names of the rows, from the top
  std::vector<bar_group> groups{};        ///< the bars of a row, from the top
  int decimals = 2;                       ///< of the number written at each bar
};

// NOLINTEND(readability-redundant-member-init)

namespace detail {

// Numbers below 1e100 on axes longer than 1e-100 cannot overflow anywhere on their way to pixels.
inline bool drawable(double v) { return std::isfinite(v) && std::abs(v) < 1e100; }

inline double number(std::optional<double> const& maybe) {
  return maybe.value_or(std::numeric_limits<double>::quiet_NaN());
}

// An interval of numbers with round marks.
struct scale {
  double low;
  double high;
  std::vector<double> marks;
  int decimals = 0;

  double part(double v) const { return (v - low) / (high - low); }

  std::string text(double v, bool percent) const {
    if (percent) return to_fixed(100 * v, std::max(decimals - 2, 0)) + "%";
    bool const plain = decimals <= 6 && std::abs(v) < 1e7;
    return plain ? to_fixed(v, decimals) : to_significant(v, 6);
  }
};

// Marks are multiples of 1, 2 or 5 times a power of ten; an end that is not given is moved out to
// the next mark if `round`.
inline scale make_scale(double low, double high, chart_axis const& axis, bool round) {
  double const least = number(axis.least);
  double const most = number(axis.most);
  if (drawable(least)) low = least;
  if (drawable(most)) high = most;
  if (!(low <= high)) low = 0, high = 1;
  double const size = std::max(std::abs(low), std::abs(high));
  // Equal ends, or so close that marks between them would be the same number.
  if (high - low < 1e-9 * size || high - low < 1e-100) {
    double const margin = size < 1e-90 ? 0.5 : 0.1 * size;
    low -= margin;
    high += margin;
  }
  double const rough = (high - low) / 5;
  int const exponent = static_cast<int>(std::floor(std::log10(rough)));
  double const power = std::pow(10.0, exponent);
  double const lead = rough / power;
  double const step = power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
  // A millionth of a step absorbs the rounding of ends that are marks themselves.
  double const first = std::floor(low / step + 1e-6);
  double const last = std::ceil(high / step - 1e-6);
  if (round && !drawable(least)) low = std::min(low, first * step);
  if (round && !drawable(most)) high = std::max(high, last * step);
  scale result{low, high, {}, std::max(0, lead > 5 ? -exponent - 1 : -exponent)};
  for (int i = 0; i <= static_cast<int>(last - first); ++i) {
    double const mark = (first + i) * step;
    if (mark >= low - 1e-6 * step && mark <= high + 1e-6 * step) result.marks.push_back(mark);
  }
  return result;
}

struct extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void add(double v) {
    if (!drawable(v)) return;
    low = std::min(low, v);
    high = std::max(high, v);
  }
};

inline double error_at(std::vector<double> const& errors, std::size_t i) {
  return errors.empty() || !drawable(errors[i]) ? 0 : std::abs(errors[i]);
}

inline void expect_size(std::string_view what, std::string const& name, std::size_t found,
                        std::size_t expected) {
  if (found == expected) return;
  throw std::invalid_argument("picture: '" + name + "' has " + std::to_string(found) + " " +
                              std::string(what) + ", expected " + std::to_string(expected));
}

inline std::string colour(std::size_t i) { return std::string(palette[i % palette.size()]); }

inline std::string dash(std::size_t i) {
  return std::string(dashes[i / palette.size() % dashes.size()]);
}

// The stretches of a series between its gaps, as pixels: x, y and half the height of the band.
inline std::vector<std::vector<std::array<double, 3>>> stretches(chart_series const& s,
                                                                 scale const& x, scale const& y,
                                                                 double width, double height) {
  std::vector<std::vector<std::array<double, 3>>> result(1);
  for (std::size_t i = 0; i < s.x.size(); ++i) {
    if (drawable(s.x[i]) && drawable(s.y[i])) {
      result.back().push_back({width * x.part(s.x[i]), height * (1 - y.part(s.y[i])),
                               height * error_at(s.error, i) / (y.high - y.low)});
    } else if (!result.back().empty()) {
      result.emplace_back();
    }
  }
  if (result.back().empty()) result.pop_back();
  return result;
}

inline void draw_series(canvas& picture, chart_series const& s, std::size_t index, scale const& x,
                        scale const& y, double width, double height) {
  for (auto const& points : stretches(s, x, y, width, height)) {
    std::string upper;
    std::string lower;
    std::string middle;
    for (auto const& [px, py, half] : points) {
      middle += pixels(px) + "," + pixels(py) + " ";
      upper += pixels(px) + "," + pixels(py - half) + " ";
      lower.insert(0, pixels(px) + "," + pixels(py + half) + " ");
    }
    middle.pop_back();
    lower.pop_back();
    auto const& [px, py, half] = points.front();
    if (points.size() == 1) {
      if (half > 0) picture.line(px, py - half, px, py + half, {{"stroke", colour(index)}});
      picture.element(
          "circle", {{"cx", pixels(px)}, {"cy", pixels(py)}, {"r", "3"}, {"fill", colour(index)}});
      continue;
    }
    if (!s.error.empty()) {
      picture.element(
          "polygon",
          {{"points", upper + lower}, {"fill", colour(index)}, {"fill-opacity", "0.13"}});
    }
    canvas::attributes list{{"points", middle},
                            {"fill", "none"},
                            {"stroke", colour(index)},
                            {"stroke-width", "2"},
                            {"stroke-linejoin", "round"}};
    if (!dash(index).empty()) list.emplace_back("stroke-dasharray", dash(index));
    picture.element("polyline", list);
  }
}

}  // namespace detail

/// \brief Draws lines as an SVG picture of 860 x 480, on white, with a legend.
///
/// The legend is ordered as the lines are at their right ends, from the top. The same input gives
/// the same bytes in any locale.
///
/// \param[in] chart  what to draw
/// \throws std::invalid_argument  if the lengths of a series differ
inline std::string draw(line_chart const& chart) {
  using namespace detail;
  extent horizontal;
  extent vertical;
  double legend = 0;
  for (auto const& s : chart.series) {
    expect_size("values of y", s.name, s.y.size(), s.x.size());
    if (!s.error.empty()) expect_size("errors", s.name, s.error.size(), s.x.size());
    legend = std::max(legend, text_width(s.name, 13));
    for (std::size_t i = 0; i < s.x.size(); ++i) {
      if (!drawable(s.x[i]) || !drawable(s.y[i])) continue;
      horizontal.add(s.x[i]);
      vertical.add(s.y[i] - error_at(s.error, i));
      vertical.add(s.y[i] + error_at(s.error, i));
    }
  }
  auto const x = make_scale(horizontal.low, horizontal.high, chart.x, false);
  auto const y = make_scale(vertical.low, vertical.high, chart.y, true);
  double labels = 0;
  for (double const mark : y.marks) {
    labels = std::max(labels, text_width(y.text(mark, chart.y.percent), 13));
  }
  double const left = 24 + labels + 10;
  double const top = 78;
  double const width = picture_width - left - std::min(legend, 260.0) - 76;
  double const height = picture_height - top - 60;

  canvas picture(chart.title);
  picture.text(24, 60, chart.y.label, "start", quiet);
  for (double const mark : y.marks) {
    double const py = top + height * (1 - y.part(mark));
    picture.line(left, py, left + width, py, grid);
    picture.text(left - 10, py + 4.5, y.text(mark, chart.y.percent), "end", quiet);
  }
  for (double const mark : x.marks) {
    double const px = left + width * x.part(mark);
    picture.line(px, top + height, px, top + height + 5, {{"stroke", "#888888"}});
    picture.text(px, top + height + 21, x.text(mark, chart.x.percent), "middle", quiet);
  }
  picture.line(left, top + height, left + width, top + height, {{"stroke", "#888888"}});
  picture.text(left + width / 2, top + height + 44, chart.x.label, "middle", quiet);

  picture.begin_clip(left, top, width, height);
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    draw_series(picture, chart.series[i], i, x, y, width, height);
  }
  picture.end_clip();

  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    auto const& values = chart.series[i].y;
    auto const last = std::find_if(values.rbegin(), values.rend(), drawable);
    order.emplace_back(last == values.rend() ? std::numeric_limits<double>::infinity() : -*last, i);
  }
  std::sort(order.begin(), order.end());
  double row = top + 6;
  for (auto const& [key, i] : order) {
    canvas::attributes list{{"stroke", colour(i)}, {"stroke-width", "3"}};
    if (!dash(i).empty()) list.emplace_back("stroke-dasharray", dash(i));
    picture.line(left + width + 22, row, left + width + 46, row, list);
    picture.text(left + width + 54, row + 4.5, chart.series[i].name, "start");
    row += 22;
  }
  return picture.finish();
}

/// \brief Draws horizontal bars as an SVG picture of 860 x 480, on white, with a legend.
///
/// A value that is missing or not finite is shown as a dash. The same input gives the same bytes in
/// any locale.
///
/// \param[in] chart  what to draw
/// \throws std::invalid_argument  if a group has not one value, and one error if any, a category
inline std::string draw(bar_chart const& chart) {
  using namespace detail;
  extent range;
  range.add(0);
  for (auto const& group : chart.groups) {
    expect_size("values", group.name, group.values.size(), chart.categories.size());
    if (!group.errors.empty()) {
      expect_size("errors", group.name, group.errors.size(), chart.categories.size());
    }
    for (std::size_t i = 0; i < group.values.size(); ++i) {
      double const value = number(group.values[i]);
      range.add(value - error_at(group.errors, i));
      range.add(value + error_at(group.errors, i));
    }
  }
  if (range.low == range.high) range.add(1);
  auto const values = make_scale(range.low, range.high, chart.axis, true);
  double names = 0;
  for (auto const& name : chart.categories) names = std::max(names, text_width(name, 13));
  double const left = 24 + std::min(names, 300.0) + 12;
  double const top = 78;
  double const width = picture_width - left - 70;
  double const height = picture_height - top - 60;
  auto const place = [&](double v) { return left + width * std::clamp(values.part(v), 0.0, 1.0); };

  canvas picture(chart.title);
  double legend = 24;
  for (std::size_t g = 0; g < chart.groups.size(); ++g) {
    picture.element("rect", {{"x", pixels(legend)},
                             {"y", "49"},
                             {"width", "12"},
                             {"height", "12"},
                             {"fill", colour(g)}});
    picture.text(legend + 18, 60, chart.groups[g].name, "start");
    legend += 18 + text_width(chart.groups[g].name, 13) + 24;
  }
  for (double const mark : values.marks) {
    picture.line(place(mark), top, place(mark), top + height, grid);
    picture.text(place(mark), top + height + 20, values.text(mark, chart.axis.percent), "middle",
                 quiet);
  }
  picture.text(left + width / 2, top + height + 44, chart.axis.label, "middle", quiet);

  double const zero = std::clamp(0.0, values.low, values.high);
  double const band =
      height / static_cast<double>(std::max<std::size_t>(chart.categories.size(), 1));
  double const gap = 0.22 * band;
  double const bar =
      (band - gap) / static_cast<double>(std::max<std::size_t>(chart.groups.size(), 1));
  double const small = std::clamp(bar * 0.8, 6.0, 12.0);
  for (std::size_t c = 0; c < chart.categories.size(); ++c) {
    double const start = top + band * static_cast<double>(c) + gap / 2;
    picture.text(left - 12, start + (band - gap) / 2 + 4.5, chart.categories[c], "end");
    for (std::size_t g = 0; g < chart.groups.size(); ++g) {
      auto const& group = chart.groups[g];
      double const y = start + bar * static_cast<double>(g);
      double const middle = y + bar / 2;
      canvas::attributes const label{{"font-size", pixels(small)}, {"fill", "#666666"}};
      double const value = number(group.values[c]);
      if (!drawable(value)) {
        picture.text(place(zero) + 6, middle + 0.36 * small, "\u2014", "start", label);
        continue;
      }
      double const from = std::min(place(zero), place(value));
      double const to = std::max(place(zero), place(value));
      picture.element("rect", {{"x", pixels(from)},
                               {"y", pixels(y)},
                               {"width", pixels(to - from)},
                               {"height", pixels(0.92 * bar)},
                               {"fill", colour(g)}});
      double const half = error_at(group.errors, c);
      if (half > 0) {
        picture.line(place(value - half), middle, place(value + half), middle,
                     {{"stroke", "#333333"}, {"stroke-width", "1.5"}});
      }
      auto const number = chart.axis.percent
                              ? to_fixed(100 * value, std::max(chart.decimals - 2, 0)) + "%"
                              : to_fixed(value, chart.decimals);
      // A negative bar has its number on the far side of zero, where it covers nothing.
      picture.text(std::max(to, place(value + half)) + 6, middle + 0.36 * small, number, "start",
                   label);
    }
  }
  picture.line(place(zero), top, place(zero), top + height, {{"stroke", "#888888"}});
  return picture.finish();
}

}  // namespace example
