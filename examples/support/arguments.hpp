// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

namespace example {

/// A command line the program does not understand; the text is one line.
class usage_error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The numbers an option accepts, both ends included; narrowed further by the variable's type.
struct number_range {
  std::int64_t least = std::numeric_limits<std::int64_t>::min();   ///< smallest
  std::uint64_t most = std::numeric_limits<std::uint64_t>::max();  ///< largest
};

/// \brief Reads options from a command line into variables.
///
/// Each option is declared with the variable it sets; the usage text follows from the
/// declarations. `--name value` and `--name=value` mean the same, and the last one counts.
class argument_parser {
 public:
  /// Where a value goes: a switch, a text or a whole number.
  using target = std::variant<bool*, std::string*, int*, std::uint64_t*>;

  /// \brief Starts with no options.
  /// \param[in] program  name shown in the usage
  /// \param[in] summary  one sentence on what the program does
  argument_parser(std::string program, std::string summary)
      : program_(std::move(program)), summary_(std::move(summary)) {}

  /// \brief Declares an option.
  /// \param[in] name         with its dashes: `--seed`
  /// \param[in] placeholder  what the usage shows for the value; empty for a switch
  /// \param[in] text         what the option does
  /// \param[in] variable     set by parse; lives as long as this object
  /// \param[in] range        accepted values of a number
  void add(std::string name, std::string placeholder, std::string text, target variable,
           number_range range = {}) {
    options_.push_back({std::move(name), std::move(placeholder), std::move(text), variable, range});
  }

  /// \brief Sets the variables of the options given.
  /// \param[in] arguments  without the program's name
  /// \throws usage_error  on an unknown option, a missing or superfluous value, a number that is
  ///                      none or is out of range, and anything that is not an option
  void parse(std::span<std::string const> arguments) const {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      std::string_view const argument = arguments[i];
      if (argument.substr(0, 2) != "--") {
        throw usage_error("unexpected argument '" + std::string(argument) + "'");
      }
      auto const equals = argument.find('=');
      bool const attached = equals != std::string_view::npos;
      auto const& option = find(argument.substr(0, equals));
      if (auto* const* flag = std::get_if<bool*>(&option.variable)) {
        if (attached) throw usage_error("option " + option.name + " takes no value");
        **flag = true;
        continue;
      }
      std::string_view value;
      if (attached) {
        value = argument.substr(equals + 1);
      } else if (i + 1 < arguments.size() && arguments[i + 1].compare(0, 2, "--") != 0) {
        value = arguments[++i];
      }
      if (value.empty()) {
        throw usage_error("option " + option.name + " needs a value: " + option.placeholder);
      }
      std::visit([&](auto* variable) { assign(option, value, *variable); }, option.variable);
    }
  }

  /// \brief Sets the variables of the options given to `main`.
  /// \param[in] argc  as main receives it
  /// \param[in] argv  as main receives it
  /// \throws usage_error  as for a list of arguments
  void parse(int argc, char const* const* argv) const {
    std::vector<std::string> arguments;
    for (int i = 1; i < argc; ++i) arguments.emplace_back(argv[i]);
    parse(arguments);
  }

  /// Describes every option, for lines of 80 columns.
  std::string usage() const {
    std::size_t width = 0;
    for (auto const& option : options_) width = std::max(width, head(option).size());
    std::string text = "usage: " + program_ + " [options]\n" + summary_ + "\n\n";
    for (auto const& option : options_) {
      auto line = "  " + head(option);
      line.append(width - head(option).size(), ' ').append(" ");
      auto const indent = line.size();
      std::string_view rest = option.text;
      while (!rest.empty()) {
        auto const end = std::min(rest.find(' '), rest.size());
        if (line.size() > indent && line.size() + 1 + end > 80) {
          text += line + "\n";
          line.assign(indent, ' ');
        }
        line.append(" ").append(rest.substr(0, end));
        rest.remove_prefix(std::min(end + 1, rest.size()));
      }
      text += line + "\n";
    }
    return text;
  }

 private:
  struct declaration {
    std::string name;
    std::string placeholder;
    std::string text;
    target variable;
    number_range range;
  };

  static std::string head(declaration const& o) {
    return o.placeholder.empty() ? o.name : o.name + " " + o.placeholder;
  }

  declaration const& find(std::string_view name) const {
    for (auto const& option : options_) {
      if (option.name == name) return option;
    }
    throw usage_error("unknown option " + std::string(name));
  }

  static void assign(declaration const&, std::string_view, bool&) {}

  static void assign(declaration const&, std::string_view value, std::string& variable) {
    variable = value;
  }

  template <class Number>
  static void assign(declaration const& o, std::string_view value, Number& variable) {
    using limits = std::numeric_limits<Number>;
    auto const least =
        std::cmp_less(o.range.least, limits::min()) ? limits::min() : Number(o.range.least);
    auto const most =
        std::cmp_greater(o.range.most, limits::max()) ? limits::max() : Number(o.range.most);
    Number number{};
    auto const [end, code] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (code != std::errc{} || end != value.data() + value.size() || number < least ||
        number > most) {
      throw usage_error("option " + o.name + " needs a whole number from " + std::to_string(least) +
                        " to " + std::to_string(most) + ", not '" + std::string(value) + "'");
    }
    variable = number;
  }

  std::string program_;
  std::string summary_;
  std::vector<declaration> options_;
};

/// \brief Splits the value of an option at its commas into words from a fixed choice.
/// \param[in] name     the option, for the message
/// \param[in] value    words with commas between them
/// \param[in] choices  the words allowed
/// \return the words in the order given, each once
/// \throws usage_error  on a word that is not among the choices, or one given twice
inline std::vector<std::string> parse_list(std::string_view name, std::string_view value,
                                           std::span<std::string const> choices) {
  std::vector<std::string> words;
  auto const holds = [](std::span<std::string const> list, std::string_view word) {
    return std::find(list.begin(), list.end(), word) != list.end();
  };
  for (std::size_t from = 0; from <= value.size();) {
    auto const to = std::min(value.find(',', from), value.size());
    std::string const word(value.substr(from, to - from));
    from = to + 1;
    if (holds(words, word)) {
      throw usage_error("option " + std::string(name) + " has '" + word + "' twice");
    }
    if (!holds(choices, word)) {
      std::string known;
      for (auto const& choice : choices) known += (known.empty() ? "" : ", ") + choice;
      std::string message("option ");
      message.append(name).append(" knows ").append(known);
      throw usage_error(message.append(", not '").append(word).append("'"));
    }
    words.push_back(word);
  }
  return words;
}

}  // namespace example
