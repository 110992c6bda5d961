// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/io/format_error.hpp>
#include <stiefelx/io/json.hpp>
#include <stiefelx/io/json_writer.hpp>

namespace stiefelx {

namespace detail {

// Whether a name is an end or the whole of another one, whose parts are separated by dots.
inline bool is_end_of_name(std::string_view end, std::string_view name) {
  if (!name.ends_with(end)) return false;
  return name.size() == end.size() || name[name.size() - end.size() - 1] == '.';
}

// What PEFT appends to a module's name for each fused parameter that comes after one.
inline constexpr std::string_view peft_wrapper = ".base_layer";

inline std::string_view without_wrappers(std::string_view module) {
  while (module.ends_with(peft_wrapper)) module.remove_suffix(peft_wrapper.size());
  return module;
}

// The value of the first pattern that names a module. PEFT takes a pattern as a regular expression for
// the end of a name, behind a dot or the start; only literal ones are read, and ^ for the whole name.
template <class T>
T first_match(std::vector<std::pair<std::string, T>> const& patterns, std::string_view name,
              T standard) {
  for (auto const& [pattern, value] : patterns) {
    bool const is_whole = pattern.starts_with('^');
    if (is_whole ? name == std::string_view(pattern).substr(1) : is_end_of_name(pattern, name))
      return value;
  }
  return standard;
}

}  // namespace detail

/// \brief What PEFT's adapter_config.json says of low-rank adapters, as far as it changes numbers.
/// \ingroup io
///
/// Options that change what the factors mean and that are not read here make read_peft_config()
/// refuse the file; options without an effect on a trained adapter are left out; unknown names are
/// listed, so that a program can tell its user.
struct peft_config {
  index_t rank = 8;              ///< r, of modules that no pattern names
  double alpha = 8;              ///< \f$ \alpha \f$, of modules that no pattern names
  double dropout = 0;            ///< rate of dropout in training
  bool rank_stabilized = false;  ///< whether s is \f$ \alpha / \sqrt r \f$
  bool dora = false;             ///< whether there are magnitudes of rows
  std::string base_model = {};   ///< name of the model that the adapter belongs to, or nothing
  std::vector<std::string> target_modules = {};  ///< ends of the names of the adapted modules
  /// Whether target_modules is one regular expression for whole names, or PEFT's word `all-linear`.
  bool target_is_expression = false;
  std::vector<std::string> target_parameters = {};  ///< likewise for fused parameters
  std::vector<std::pair<std::string, index_t>> rank_pattern = {};  ///< ranks of some modules
  /// \f$ \alpha \f$ of some modules
  std::vector<std::pair<std::string, double>> alpha_pattern = {};
  /// How the factors were drawn. For `pissa`, `olora` and others the frozen weight is not the
  /// published one, see peft_options::accept_changed_base.
  std::string initialization = {};
  std::vector<std::string> unknown = {};  ///< names in the file that are not understood

  /// \brief Rank of a module.
  /// \param[in] module  its name; `.base_layer` at its end, of a fused parameter, does not count
  /// \returns that of the first pattern that names the module, or rank
  index_t rank_of(std::string_view module) const {
    return detail::first_match(rank_pattern, detail::without_wrappers(module), rank);
  }
  /// \brief \f$ \alpha \f$ of a module.
  /// \param[in] module  its name
  /// \returns that of the first pattern that names the module, or alpha
  double alpha_of(std::string_view module) const {
    return detail::first_match(alpha_pattern, detail::without_wrappers(module), alpha);
  }
  /// \brief Factor of a module's update.
  /// \param[in] module  its name
  /// \returns s, by its rank and \f$ \alpha \f$
  double scaling(std::string_view module) const {
    auto const r = static_cast<double>(rank_of(module));
    return alpha_of(module) / (rank_stabilized ? std::sqrt(r) : r);
  }
};

/// What read_peft_config() accepts.
/// \ingroup io
struct peft_options {
  /// Whether an adapter is taken whose initialization changed the frozen weights. It is right on
  /// such weights alone, so the default refuses it.
  bool accept_changed_base = false;
};

namespace detail {

class peft_config_reader {
 public:
  peft_config_reader(json_value const& file, std::string_view origin)
      : file_(file), origin_(origin) {
    if (file.kind() != json_kind::object) fail("no object", "an object");
  }

  peft_config read(peft_options const& options) {
    expect_lora(text("peft_type"));
    peft_config config;
    config.rank = integer("r");
    config.alpha = number("lora_alpha", 8);
    config.dropout = number("lora_dropout", 0);
    config.rank_stabilized = truth("use_rslora");
    config.dora = truth("use_dora");
    config.base_model = text("base_model_name_or_path");
    config.target_modules = texts("target_modules");
    config.target_is_expression = is_text("target_modules");
    config.target_parameters = texts("target_parameters");
    read_patterns(config);
    if (config.rank < 1) fail("r " + std::to_string(config.rank), "a number of at least 1");
    if (!(config.dropout >= 0 && config.dropout < 1))
      fail("lora_dropout " + std::to_string(config.dropout), "a number in [0, 1)");
    read_initialization(config, options);
    refuse_the_rest();
    for (json_member const& m : file_.members())
      if (!is_known(m.name)) config.unknown.push_back(m.name);
    return config;
  }

 private:
  [[noreturn]] void fail(std::string_view found, std::string_view expected) const {
    throw_format(format_fault::member, origin_, found, expected);
  }
  void expect_lora(std::string const& type) const {
    if (type == "LORA") return;
    bool const is_mixture = type == "MIXLORA" || type == "LORAMOE" || type == "MOLA";
    fail("peft_type " + in_quotes(type),
         is_mixture ? "LORA; examples/convert_moe_peft.py makes a folder of that type" : "LORA");
  }
  json_value const* find(char const* name) const {
    json_value const* const found = file_.find(name);
    return found == nullptr || found->is_null() ? nullptr : found;
  }
  void expect(char const* name, json_value const& value, json_kind kind,
              std::string_view expected) const {
    if (value.kind() != kind) fail(std::string(name) + " of another type", expected);
  }
  std::string text(char const* name) const {
    json_value const* const found = find(name);
    if (found == nullptr) return {};
    expect(name, *found, json_kind::text, "a text");
    return found->text();
  }
  bool truth(char const* name) const {
    json_value const* const found = find(name);
    if (found == nullptr) return false;
    expect(name, *found, json_kind::boolean, "true or false");
    return found->boolean();
  }
  double number_of(char const* name, json_value const& value) const {
    if (value.kind() != json_kind::integer) expect(name, value, json_kind::number, "a number");
    return value.number();
  }
  double number(char const* name, double standard) const {
    json_value const* const found = find(name);
    return found == nullptr ? standard : number_of(name, *found);
  }
  index_t integer_of(char const* name, json_value const& value) const {
    expect(name, value, json_kind::integer, "a whole number");
    return static_cast<index_t>(value.integer());
  }
  index_t integer(char const* name) const {
    json_value const* const found = find(name);
    if (found == nullptr) fail("no " + std::string(name), "a whole number");
    return integer_of(name, *found);
  }
  bool is_text(char const* name) const {
    json_value const* const found = find(name);
    return found != nullptr && found->kind() == json_kind::text;
  }
  // A list of names, or one text, which PEFT takes as an expression for all names.
  std::vector<std::string> texts(char const* name) const {
    json_value const* const found = find(name);
    if (found == nullptr) return {};
    if (found->kind() == json_kind::text) return {found->text()};
    expect(name, *found, json_kind::array, "a list of texts");
    std::vector<std::string> all;
    for (json_value const& value : found->elements()) {
      expect(name, value, json_kind::text, "a list of texts");
      all.push_back(value.text());
    }
    return all;
  }

  void read_patterns(peft_config& config) const {
    auto const each = [&](char const* name, auto const& add) {
      json_value const* const found = find(name);
      if (found == nullptr) return;
      expect(name, *found, json_kind::object, "an object");
      for (json_member const& m : found->members()) {
        std::string_view const literal = std::string_view(m.name).substr(m.name[0] == '^' ? 1 : 0);
        if (literal.find_first_of("^$*+?()[]{}|\\") != std::string_view::npos)
          fail(std::string(name) + " " + in_quotes(m.name), "the end of a name, not an expression");
        add(m);
      }
    };
    each("rank_pattern", [&](json_member const& m) {
      index_t const r = integer_of("rank_pattern", m.value);
      if (r < 1) fail("rank_pattern " + std::to_string(r), "a number of at least 1");
      config.rank_pattern.emplace_back(m.name, r);
    });
    each("alpha_pattern", [&](json_member const& m) {
      config.alpha_pattern.emplace_back(m.name, number_of("alpha_pattern", m.value));
    });
  }

  void read_initialization(peft_config& config, peft_options const& options) const {
    json_value const* const found = find("init_lora_weights");
    if (found == nullptr || found->kind() == json_kind::boolean) return;
    config.initialization = text("init_lora_weights");
    for (std::string_view const harmless : {"gaussian", "eva", "orthogonal"})
      if (config.initialization == harmless) return;
    if (!options.accept_changed_base)
      fail("init_lora_weights " + in_quotes(config.initialization) +
               ", which changed the base weights",
           "an adapter of the published base, or accept_changed_base");
  }

  // Options that make the tensors mean something else, and their values without an effect.
  void refuse_the_rest() const {
    for (char const* const name :
         {"layer_replication", "modules_to_save", "trainable_token_indices",
          "alora_invocation_tokens", "arrow_config", "use_bdlora", "kasa_config", "velora_config",
          "monteclora_config"})
      if (find(name) != nullptr)
        fail(std::string("a value of ") + name, "null: it is not read here");
    for (char const* const name : {"lora_bias", "use_qalora"})
      if (truth(name)) fail(std::string(name) + " true", "false: it is not read here");
    std::string const bias = text("bias");
    if (!bias.empty() && bias != "none") fail("bias " + in_quotes(bias), "none");
  }

  static bool is_known(std::string_view name) {
    constexpr std::string_view known[] = {"alora_invocation_tokens",
                                          "alpha_pattern",
                                          "arrow_config",
                                          "auto_mapping",
                                          "base_model_name_or_path",
                                          "bias",
                                          "corda_config",
                                          "ensure_weight_tying",
                                          "eva_config",
                                          "exclude_modules",
                                          "fan_in_fan_out",
                                          "inference_mode",
                                          "init_lora_weights",
                                          "kasa_config",
                                          "layer_replication",
                                          "layers_pattern",
                                          "layers_to_transform",
                                          "loftq_config",
                                          "lora_alpha",
                                          "lora_bias",
                                          "lora_dropout",
                                          "lora_ga_config",
                                          "megatron_config",
                                          "megatron_core",
                                          "modules_to_save",
                                          "monteclora_config",
                                          "peft_type",
                                          "peft_version",
                                          "qalora_group_size",
                                          "r",
                                          "rank_pattern",
                                          "revision",
                                          "runtime_config",
                                          "target_modules",
                                          "target_parameters",
                                          "task_type",
                                          "trainable_token_indices",
                                          "use_bdlora",
                                          "use_dora",
                                          "use_qalora",
                                          "use_rslora",
                                          "velora_config"};
    return std::find(std::begin(known), std::end(known), name) != std::end(known);
  }

  json_value const& file_;
  std::string_view origin_;
};

}  // namespace detail

/// \brief Reads the text of an adapter_config.json.
/// \ingroup io
/// \param[in] text     the whole file
/// \param[in] origin   its name, for the text of errors
/// \param[in] options  what is accepted
/// \returns what it says
/// \throws format_error  if it is no JSON, of another kind than LORA, contradicts itself, or asks for
///                       what is not read here; the text names the member
inline peft_config read_peft_config(std::string_view text,
                                    std::string_view origin = "adapter_config.json",
                                    peft_options options = {}) {
  json_value const file = read_json(text, origin);
  return detail::peft_config_reader(file, origin).read(options);
}

/// \brief The text of an adapter_config.json that PEFT reads.
/// \ingroup io
/// \param[in] config  what it says; unknown is left out, and so are options of an initialization, without
///                    which PEFT takes no `loftq`
/// \returns the text
/// \throws format_error  if a text is not UTF-8 or a number is not finite
inline std::string write_peft_config(peft_config const& config) {
  auto const list = [](std::vector<std::string> const& names) {
    json_value::array all;
    for (std::string const& name : names) all.emplace_back(name);
    return json_value(std::move(all));
  };
  json_value::object ranks, alphas;
  for (auto const& [name, r] : config.rank_pattern)
    ranks.push_back({name, json_value(static_cast<std::int64_t>(r))});
  for (auto const& [name, alpha] : config.alpha_pattern)
    alphas.push_back({name, json_value(alpha)});
  auto const modules = [&] {
    bool const is_one = config.target_is_expression && config.target_modules.size() == 1;
    return is_one ? json_value(config.target_modules[0]) : list(config.target_modules);
  };
  auto const or_null = [](bool present, json_value value) {
    return present ? std::move(value) : json_value();
  };
  return write_json(json_value::object{
      {"alpha_pattern", std::move(alphas)},
      {"base_model_name_or_path", or_null(!config.base_model.empty(), config.base_model)},
      {"bias", "none"},
      {"fan_in_fan_out", false},
      {"inference_mode", true},
      {"init_lora_weights",
       config.initialization.empty() ? json_value(true) : json_value(config.initialization)},
      {"lora_alpha", config.alpha},
      {"lora_dropout", config.dropout},
      {"peft_type", "LORA"},
      {"r", static_cast<std::int64_t>(config.rank)},
      {"rank_pattern", std::move(ranks)},
      {"target_modules", or_null(!config.target_modules.empty(), modules())},
      {"target_parameters",
       or_null(!config.target_parameters.empty(), list(config.target_parameters))},
      {"task_type", json_value()},
      {"use_dora", config.dora},
      {"use_rslora", config.rank_stabilized}});
}

}  // namespace stiefelx
