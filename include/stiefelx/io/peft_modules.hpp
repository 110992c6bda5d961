// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <stiefelx/core/matrix.hpp>
#include <stiefelx/io/format_error.hpp>
#include <stiefelx/io/peft_config.hpp>
#include <stiefelx/io/safetensors_header.hpp>

namespace stiefelx {

/// \brief One adapted module of a PEFT folder.
/// \ingroup io
struct peft_module {
  std::string name;        ///< of the module in the model, for example `layers.0.mlp.up_proj`
  index_t d_in = 0;        ///< width of the input
  index_t d_out = 0;       ///< width of the output
  index_t rank = 0;        ///< r; E r for fused experts
  bool magnitude = false;  ///< whether there are magnitudes of rows (DoRA)
};

namespace detail {

// The tensors of one module.
struct peft_parts {
  std::string prefix = {};  // full name without the factor's
  stored_tensor const* a = nullptr;
  stored_tensor const* b = nullptr;
  stored_tensor const* magnitude = nullptr;
};

// What the tensors of a folder are. It refers to their descriptions.
struct peft_content {
  std::map<std::string, peft_parts, std::less<>> parts = {};
  std::vector<peft_module> modules = {};
  std::vector<std::string> others = {};
};

// Tells what every tensor is and holds it against the configuration. Reader and writer share it, so
// what one refuses the other does not write.
class peft_sorter {
 public:
  peft_sorter(peft_config const& config, std::string_view origin)
      : config_(config), origin_(origin) {}

  peft_content sort(std::vector<stored_tensor> const& tensors) && {
    for (stored_tensor const& t : tensors) sort_in(t);
    if (content_.parts.empty())
      throw_format(format_fault::missing_tensor, origin_, "no adapter in any tensor",
                   "lora_A.weight and lora_B.weight of a module");
    for (auto const& [name, found] : content_.parts) check(name, found);
    return std::move(content_);
  }

 private:
  void sort_in(stored_tensor const& t) {
    std::string_view const name = t.name;
    constexpr std::string_view model = "base_model.model.";
    auto const part = [&](std::string_view ending) -> peft_parts* {
      if (!name.ends_with(ending)) return nullptr;
      std::string_view prefix = name.substr(0, name.size() - ending.size());
      std::string_view const module =
          prefix.starts_with(model) ? prefix.substr(model.size()) : prefix;
      peft_parts& p = content_.parts[std::string(module)];
      if (!p.prefix.empty() && p.prefix != prefix)
        fail(module, "under two names", "one tensor of a factor");
      p.prefix = prefix;
      return &p;
    };
    if (peft_parts* const p = part(".lora_A.weight")) {
      p->a = &t;
    } else if (peft_parts* const q = part(".lora_B.weight")) {
      q->b = &t;
    } else if (peft_parts* const v = part(".lora_magnitude_vector")) {
      set_magnitude(*v, t);
    } else if (peft_parts* const w = part(".lora_magnitude_vector.weight")) {
      set_magnitude(*w, t);
    } else {
      expect_no_adapter(name);
      content_.others.push_back(t.name);
    }
  }

  void set_magnitude(peft_parts& p, stored_tensor const& tensor) const {
    if (p.magnitude != nullptr) fail(p.prefix, "with two tensors of magnitudes", "one");
    p.magnitude = &tensor;
  }

  // What is left may not be a part of an adapter: without it the adapter is another one. Such are
  // embeddings (lora_embedding_A), biases of a factor, and names that still hold the adapter's.
  void expect_no_adapter(std::string_view name) const {
    if (name.starts_with("lora_") || name.find(".lora_") != name.npos)
      throw_format(format_fault::name, origin_,
                   "a tensor " + in_quotes(name) + " of an adapter, which is not read here",
                   "lora_A.weight, lora_B.weight or lora_magnitude_vector of a module");
  }

  // Whether a target parameter is one of a module. As for PEFT it is the end of a name, so one without
  // a dot may be in any module.
  static bool is_in(std::string_view module, std::string_view parameter) {
    std::size_t const dot = parameter.rfind('.');
    return dot == parameter.npos ||
           is_end_of_name(parameter.substr(0, dot), without_wrappers(module));
  }

  // PEFT looks for a fused parameter's name in the patterns. The files do not say which parameter a
  // module's factors are for, so a pattern that treats one on its own cannot be followed.
  void expect_no_pattern(peft_module const& m, std::string_view parameter) const {
    std::string const key = std::string(without_wrappers(m.name)) + "." +
                            std::string(parameter.substr(parameter.rfind('.') + 1));
    index_t const rank = config_.rank_of(m.name);
    double const alpha = config_.alpha_of(m.name);
    if (first_match(config_.rank_pattern, key, rank) != rank ||
        first_match(config_.alpha_pattern, key, alpha) != alpha)
      fail(m.name, "with a pattern for the parameter " + in_quotes(key),
           "its module's rank and alpha");
  }

  void check(std::string const& name, peft_parts const& found) {
    if (found.a == nullptr || found.b == nullptr)
      fail(name, found.a == nullptr ? "without lora_A" : "without lora_B", "both factors");
    tensor_shape const &a = found.a->shape, &b = found.b->shape;
    if (a.rank() != 2 || b.rank() != 2 || a[0] != b[1])
      fail(name, "with factors " + a.text() + " and " + b.text(), "[r, d_in] and [d_out, r]");
    auto const size = [](std::uint64_t n) { return static_cast<index_t>(n); };
    peft_module const m{name, size(a[1]), size(b[0]), size(a[0]), found.magnitude != nullptr};
    index_t const rank = config_.rank_of(name);
    bool fused = false;
    for (std::string const& parameter : config_.target_parameters) {
      bool const is_one = (m.rank != rank || parameter.find('.') != parameter.npos) &&
                          m.rank >= rank && m.rank % rank == 0 && is_in(name, parameter);
      if (is_one) expect_no_pattern(m, parameter);
      fused = fused || is_one;
    }
    if (m.rank != rank && !fused)
      fail(name, "of rank " + std::to_string(m.rank),
           "the configuration's " + std::to_string(rank));
    if (config_.dora != m.magnitude)
      fail(name, m.magnitude ? "with magnitudes" : "without magnitudes",
           config_.dora ? "some, since use_dora is true" : "none, since use_dora is false");
    if (m.magnitude && found.magnitude->count() != static_cast<std::uint64_t>(m.d_out))
      fail(name, "with " + std::to_string(found.magnitude->count()) + " magnitudes",
           std::to_string(m.d_out));
    content_.modules.push_back(m);
  }

  [[noreturn]] void fail(std::string_view module, std::string_view found,
                         std::string_view expected) const {
    throw_format(format_fault::shape, origin_, in_quotes(module) + " " + std::string(found),
                 expected);
  }

  peft_config const& config_;
  std::string_view origin_;
  peft_content content_;
};

}  // namespace detail

}  // namespace stiefelx
