// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "examples/support/text.hpp"

namespace example::detail {

inline constexpr double picture_width = 860;
inline constexpr double picture_height = 480;

// The palette of Okabe and Ito, which stays distinct for colour-blind eyes; its yellow is left out,
// because a thin line of it is lost on white.
inline constexpr std::array<std::string_view, 7> palette{"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                         "#e69f00", "#56b4e9", "#000000"};
inline constexpr std::array<std::string_view, 3> dashes{"", "7 4", "2 3"};

inline std::string escape_xml(std::string_view raw) {
  std::string text;
  for (char const c : valid_utf8(raw)) {
    switch (c) {
      case '&':
        text += "&amp;";
        break;
      case '<':
        text += "&lt;";
        break;
      case '>':
        text += "&gt;";
        break;
      case '"':
        text += "&quot;";
        break;
      case '\'':
        text += "&apos;";
        break;
      // XML has no way to write the other control characters.
      default:
        text += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return text;
}

// A length in pixels, to a hundredth, without zeros at the end; what is far outside stays outside.
inline std::string pixels(double v) {
  auto text = to_fixed(std::clamp(v, -1e5, 1e5), 2);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

// About what a text takes in a common sans-serif font.
inline double text_width(std::string_view text, double size) {
  auto const continuation = [](char c) { return (static_cast<unsigned char>(c) & 0xC0u) == 0x80u; };
  auto const bytes = std::count_if(text.begin(), text.end(), continuation);
  return 0.6 * size * (static_cast<double>(text.size()) - static_cast<double>(bytes));
}

// The text of an SVG picture, element by element.
class canvas {
 public:
  using attributes = std::vector<std::pair<std::string_view, std::string>>;

  explicit canvas(std::string_view title) {
    auto const width = pixels(picture_width);
    auto const height = pixels(picture_height);
    text_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + width + " " + height +
            "\" role=\"img\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"13\" "
            "fill=\"#333333\">\n";
    text_ += "<title>" + escape_xml(title) + "</title>\n";
    element("rect", {{"width", width}, {"height", height}, {"fill", "#ffffff"}});
    text(24, 34, title, "start", {{"font-size", "18"}, {"font-weight", "bold"}});
  }

  void element(std::string_view name, attributes const& list) {
    text_.append("<").append(name);
    append(list);
    text_ += "/>\n";
  }

  void line(double x1, double y1, double x2, double y2, attributes list) {
    attributes const ends{
        {"x1", pixels(x1)}, {"y1", pixels(y1)}, {"x2", pixels(x2)}, {"y2", pixels(y2)}};
    list.insert(list.begin(), ends.begin(), ends.end());
    element("line", list);
  }

  void text(double x, double y, std::string_view content, std::string_view anchor,
            attributes const& list = {}) {
    text_ += "<text";
    append({{"x", pixels(x)}, {"y", pixels(y)}, {"text-anchor", std::string(anchor)}});
    append(list);
    text_ += ">" + escape_xml(content) + "</text>\n";
  }

  // What lies outside of a rectangle until end_clip is not drawn; coordinates start at its corner.
  void begin_clip(double x, double y, double width, double height) {
    text_ += "<svg";
    append({{"x", pixels(x)},
            {"y", pixels(y)},
            {"width", pixels(width)},
            {"height", pixels(height)},
            {"overflow", "hidden"}});
    text_ += ">\n";
  }
  void end_clip() { text_ += "</svg>\n"; }

  std::string finish() { return std::move(text_) + "</svg>\n"; }

 private:
  void append(attributes const& list) {
    for (auto const& [name, content] : list) {
      text_.append(" ").append(name).append("=\"").append(escape_xml(content)).append("\"");
    }
  }

  std::string text_;
};

inline canvas::attributes const grid{{"stroke", "#e4e4e4"}};
inline canvas::attributes const quiet{{"fill", "#666666"}};

}  // namespace example::detail
