// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <algorithm>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <stiefelx/io/atomic_file.hpp>
#include <stiefelx/io/flat_experts.hpp>
#include <stiefelx/io/peft_config.hpp>
#include <stiefelx/io/peft_modules.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

namespace stiefelx {

/// \brief Collects adapters and writes them as a PEFT folder.
/// \ingroup io
///
/// PEFT knows no router, so a folder holds factors alone: one adapter a module, experts as modules of
/// their own or fused. What mixes them (gates, Gram-Schmidt) has to be kept elsewhere, for example in
/// a checkpoint. Matrices are not copied: they stay where they are until write(), but for magnitudes
/// and the up of fused experts. So a temporary that owns its entries does not compile for the others.
class peft_writer {
 public:
  /// \brief Begins a folder.
  /// \param[in] config  what adapter_config.json is to say; target_modules is filled in from the
  ///                    added modules where it is empty, and else has to name each of them; ranks that
  ///                    differ from config.rank become patterns
  explicit peft_writer(peft_config config) : config_(std::move(config)) {}

  /// \brief Adds the factors of a module.
  /// \param[in] name  its name in the model
  /// \param[in] down  d_in x r, column-major, any stride
  /// \param[in] up    r x d_out, column-major, any stride
  /// \param[in] as    type in the file
  /// \throws shape_error   if the ranks differ, or are 0
  /// \throws format_error  if the name is taken or not UTF-8
  template <class Down, class Up>
    requires detail::OutlivesTheCall<Down> && detail::OutlivesTheCall<Up>
  void add(std::string const& name, Down&& down, Up&& up,
           dtype as = dtype_of<scalar_t<decltype(column_major(down))>>) {
    auto const a = column_major(down);
    auto const b = column_major(up);
    expect_rank(a.rows, a.cols);
    if (a.cols != b.rows)
      detail::throw_shape("peft_writer", "up", b.rows, b.cols,
                          std::to_string(a.cols) + " rows, the rank of down");
    tensors_.add_columns_as_rows(full(name) + ".lora_A.weight", a, as);
    tensors_.add_columns_as_rows(full(name) + ".lora_B.weight", b, as);
    modules_.push_back(name);
    if (a.cols != config_.rank_of(name)) set_rank("^" + name, a.cols);
  }

  /// \brief Adds the magnitudes of a module with DoRA.
  /// \param[in] name       the module
  /// \param[in] magnitude  1 x d_out, which write() compares with the module
  /// \throws shape_error   if it has more or fewer rows than one
  /// \throws format_error  if there are some already, or there are fused experts, with which PEFT has
  ///                       no DoRA
  template <class M>
  void add_magnitude(std::string const& name, M const& magnitude) {
    if (!config_.target_parameters.empty()) refuse_beside_fused("DoRA");
    auto const view = column_major(magnitude);
    if (view.rows != 1)
      detail::throw_shape("peft_writer", "magnitude", view.rows, view.cols,
                          "one row with an entry for each output");
    using T = std::remove_const_t<scalar_t<decltype(view)>>;
    auto& values = kept_.emplace_back(sizeof(T) * static_cast<std::size_t>(view.cols));
    for (index_t j = 0; j < view.cols; ++j) {
      T const value = view(0, j);
      std::copy_n(reinterpret_cast<std::byte const*>(&value), sizeof(T),
                  values.begin() + static_cast<std::ptrdiff_t>(sizeof(T)) * j);
    }
    tensors_.add_bytes(full(name) + ".lora_magnitude_vector", dtype_of<T>,
                       {static_cast<std::uint64_t>(view.cols)}, values);
    config_.dora = true;
  }

  /// \brief Adds the experts of a bank as modules of their own, PREFIX + e.
  /// \param[in] prefix  what their names begin with
  /// \param[in] count   E
  /// \param[in] down    d_in x (E r), column-major
  /// \param[in] up      (E r) x d_out, column-major
  /// \throws shape_error   if E does not divide the columns, or the ranks differ or are 0
  /// \throws format_error  if a name is taken or not UTF-8
  template <class Down, class Up>
    requires detail::OutlivesTheCall<Down> && detail::OutlivesTheCall<Up>
  void add_experts(std::string const& prefix, index_t count, Down&& down, Up&& up) {
    auto const a = column_major(down);
    auto const b = column_major(up);
    index_t const rank = bank_rank(count, a.rows, a.cols, b.rows, b.cols);
    for (index_t e = 0; e < count; ++e)
      add(prefix + std::to_string(e),
          matrix_ref{a.data + e * rank * a.stride, a.rows, rank, a.stride},
          matrix_ref{b.data + e * rank, rank, b.cols, b.stride});
  }

  /// \brief Adds the experts of a bank as one fused parameter, A [E r, d_in] and B [d_out, E r].
  ///
  /// A module may have several, for example gate_up_proj and down_proj. PEFT stores the factors of the
  /// last one, in the order of the model's named_parameters(), under the module's name, and those of
  /// the one before under that name and `.base_layer`, and so on.
  /// \param[in] parameter  its name, for example `mlp.experts.up_proj`; config.target_parameters gets it,
  ///                       and the factors are stored under the module before the last dot
  /// \param[in] count      E; config.rank has to be r
  /// \param[in] layout     order of B's columns; `rank_major` is what PEFT reads. The file says it for
  ///                       read_flat_experts()
  /// \param[in] down       d_in x (E r), column-major
  /// \param[in] up         (E r) x d_out, column-major; it is copied
  /// \param[in] wrapped    how many fused parameters of the same module come after it; read_flat_experts()
  ///                       is given the module's name with so many `.base_layer`
  /// \throws shape_error   if E does not divide the columns, the ranks differ or are 0, or r is not
  ///                       config.rank
  /// \throws format_error  if the name has no dot, is taken or not UTF-8, wrapped is negative, or the
  ///                       configuration has dropout or DoRA, with which PEFT loads no fused experts
  template <class Down, class Up>
    requires detail::OutlivesTheCall<Down>
  void add_flat_experts(std::string const& parameter, index_t count, flat_layout layout,
                        Down&& down, Up const& up, index_t wrapped = 0) {
    auto const a = column_major(down);
    auto const b = column_major(up);
    using T = std::remove_const_t<scalar_t<decltype(b)>>;
    index_t const rank = bank_rank(count, a.rows, a.cols, b.rows, b.cols);
    std::size_t const dot = parameter.rfind('.');
    if (dot == parameter.npos)
      detail::throw_format(format_fault::name, "peft_writer", detail::in_quotes(parameter),
                           "module.parameter");
    if (wrapped < 0)
      detail::throw_format(format_fault::name, "peft_writer", "wrapped " + std::to_string(wrapped),
                           "a number of parameters");
    if (config_.dropout != 0) refuse_beside_fused("dropout");
    if (config_.dora) refuse_beside_fused("DoRA");
    std::string name = parameter.substr(0, dot);
    for (index_t k = 0; k < wrapped; ++k) name += detail::peft_wrapper;
    expect_rank(a.rows, a.cols);
    if (rank != config_.rank_of(name))
      detail::throw_shape(
          "peft_writer", "down", a.rows, a.cols,
          std::to_string(count * config_.rank_of(name)) + " columns for the configuration's rank");
    auto& bytes = kept_.emplace_back(sizeof(T) * static_cast<std::size_t>(b.rows * b.cols));
    matrix_ref<T> ordered{reinterpret_cast<T*>(bytes.data()), b.rows, b.cols, b.rows};
    for (index_t j = 0; j < b.cols; ++j)
      for (index_t i = 0; i < b.rows; ++i) ordered(i, j) = b(i, j);
    if (layout == flat_layout::rank_major) reorder_flat_experts(count, false, ordered);
    tensors_.add_columns_as_rows(full(name) + ".lora_A.weight", a);
    tensors_.add_columns_as_rows(full(name) + ".lora_B.weight", ordered);
    tensors_.add_metadata(flat_layout_entry(name), std::string(name_of(layout)));
    fused_.push_back(name);
    auto& targets = config_.target_parameters;
    if (std::find(targets.begin(), targets.end(), parameter) == targets.end())
      targets.push_back(parameter);
  }

  /// \brief Writes the two files into a folder that exists.
  ///
  /// Both are brought to the disk before the first is renamed, so a folder that cannot take them keeps
  /// both old ones. The factors are renamed first: a crash between the two renames leaves the new
  /// factors beside the old configuration, each whole. peft_folder refuses such a pair where modules or
  /// ranks contradict each other; a changed \f$ \alpha \f$ it cannot see, so a folder is written again
  /// after a crash.
  /// \param[in] folder  its path
  /// \throws format_error  if a file cannot be written, and then both are as before, unless that shows
  ///                       after the first rename; or, before a file is opened, if peft_folder would
  ///                       refuse the folder or PEFT would not load all of it: there is no module, the
  ///                       configuration has a value that is refused in a file, a module of another
  ///                       rank has a name that is no pattern, target_modules leaves a module out,
  ///                       magnitudes are missing, too many, of another width or of no module, or a
  ///                       fused parameter is missing that wraps another one
  void write(std::string const& folder) const {
    peft_config config = config_;
    if (config.target_modules.empty()) config.target_modules = modules_;
    expect_targets(config);
    expect_wrapping();
    std::string const text = write_peft_config(config);
    expect_readable(text);
    atomic_file tensors(folder + "/adapter_model.safetensors");
    atomic_file description(folder + "/adapter_config.json");
    tensors_.write(tensors);
    description.write(std::string_view(text));
    tensors.sync();
    description.sync();
    tensors.publish();
    description.publish();
  }

 private:
  static std::string full(std::string const& name) { return "base_model.model." + name; }

  // An expression for all names is PEFT's to match.
  void expect_targets(peft_config const& config) const {
    if (config.target_is_expression && config.target_modules.size() == 1) return;
    for (std::string const& name : modules_) {
      auto const names_it = [&](std::string const& end) {
        return detail::is_end_of_name(end, name);
      };
      if (std::none_of(config.target_modules.begin(), config.target_modules.end(), names_it))
        detail::throw_format(format_fault::member, "peft_writer",
                             detail::in_quotes(name) + " outside of target_modules",
                             "the end of its name there, without which PEFT does not load it");
    }
  }

  void expect_wrapping() const {
    for (std::string const& name : fused_) {
      std::string const outer = name.substr(0, name.rfind('.'));
      if (name.ends_with(detail::peft_wrapper) &&
          std::find(fused_.begin(), fused_.end(), outer) == fused_.end())
        detail::throw_format(
            format_fault::missing_tensor, "peft_writer", detail::in_quotes(name) + " alone",
            "the parameter of " + detail::in_quotes(outer) + " that comes after it");
    }
  }

  // Reads the configuration again and holds it against the tensors, as peft_folder does.
  void expect_readable(std::string const& text) const {
    peft_config const config = read_peft_config(text, "peft_writer", {.accept_changed_base = true});
    detail::peft_sorter(config, "peft_writer").sort(tensors_.tensors());
  }

  static void expect_rank(index_t rows, index_t cols) {
    if (cols < 1)
      detail::throw_shape("peft_writer", "down", rows, cols, "at least one column, the rank");
  }

  [[noreturn]] static void refuse_beside_fused(std::string const& option) {
    detail::throw_format(
        format_fault::member, "peft_writer", option + " beside fused experts",
        "none: PEFT refuses it for them, since their factors are added to the weight");
  }

  // The first pattern that names a module counts, and a name stands once in the file.
  void set_rank(std::string const& pattern, index_t rank) {
    std::erase_if(config_.rank_pattern, [&](auto const& p) { return p.first == pattern; });
    config_.rank_pattern.emplace(config_.rank_pattern.begin(), pattern, rank);
  }

  static index_t bank_rank(index_t count, index_t down_rows, index_t down_cols, index_t up_rows,
                           index_t up_cols) {
    if (count < 1 || down_cols % count != 0)
      detail::throw_shape("peft_writer", "down", down_rows, down_cols,
                          "columns that are a multiple of " + std::to_string(count));
    if (down_cols != up_rows)
      detail::throw_shape("peft_writer", "up", up_rows, up_cols,
                          std::to_string(down_cols) + " rows, the columns of down");
    return down_cols / count;
  }

  peft_config config_;
  safetensors_writer tensors_;
  std::vector<std::string> modules_, fused_;
  std::deque<std::vector<std::byte>> kept_;  // what the tensors above refer to
};

}  // namespace stiefelx
