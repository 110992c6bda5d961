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
#include <stiefelx/io/safetensors_writer.hpp>

namespace stiefelx {

/// \brief Collects adapters and writes them as a PEFT folder.
/// \ingroup io
///
/// PEFT knows no router, so a folder holds factors alone: one adapter a module, experts as modules of
/// their own or fused. What mixes them (gates, Gram-Schmidt) has to be kept elsewhere, for example in
/// a checkpoint. Matrices are not copied: they stay where they are until write(), but for magnitudes
/// and fused experts in PEFT's order.
class peft_writer {
 public:
  /// \brief Begins a folder.
  /// \param[in] config  what adapter_config.json is to say; target_modules is filled in from the
  ///                    added modules where it is empty, ranks that differ from config.rank become
  ///                    patterns
  explicit peft_writer(peft_config config) : config_(std::move(config)) {}

  /// \brief Adds the factors of a module.
  /// \param[in] name  its name in the model
  /// \param[in] down  d_in x r, column-major, any stride
  /// \param[in] up    r x d_out, column-major, any stride
  /// \param[in] as    type in the file
  /// \throws shape_error   if the ranks differ
  /// \throws format_error  if the name is taken or not UTF-8
  template <class Down, class Up>
  void add(std::string const& name, Down const& down, Up const& up,
           dtype as = dtype_of<scalar_t<Down>>) {
    auto const a = column_major(down);
    auto const b = column_major(up);
    if (a.cols != b.rows)
      detail::throw_shape("peft_writer", "up", b.rows, b.cols,
                          std::to_string(a.cols) + " rows, the rank of down");
    tensors_.add_columns_as_rows(full(name) + ".lora_A.weight", down, as);
    tensors_.add_columns_as_rows(full(name) + ".lora_B.weight", up, as);
    modules_.push_back(name);
    if (a.cols != config_.rank_of(name)) config_.rank_pattern.emplace_back("^" + name, a.cols);
  }

  /// \brief Adds the magnitudes of a module with DoRA.
  /// \param[in] name       the module
  /// \param[in] magnitude  1 x d_out
  /// \throws format_error  if there are some already
  template <class M>
  void add_magnitude(std::string const& name, M const& magnitude) {
    auto const view = column_major(magnitude);
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
  /// \throws shape_error   if E does not divide the columns, or the ranks differ
  /// \throws format_error  if a name is taken or not UTF-8
  template <class Down, class Up>
  void add_experts(std::string const& prefix, index_t count, Down const& down, Up const& up) {
    auto const a = column_major(down);
    auto const b = column_major(up);
    index_t const rank = bank_rank(count, a.rows, a.cols, b.rows, b.cols);
    for (index_t e = 0; e < count; ++e)
      add(prefix + std::to_string(e),
          matrix_ref{a.data + e * rank * a.stride, a.rows, rank, a.stride},
          matrix_ref{b.data + e * rank, rank, b.cols, b.stride});
  }

  /// \brief Adds the experts of a bank as one fused parameter, A [E r, d_in] and B [d_out, E r].
  /// \param[in] parameter  its name, for example `mlp.experts.up_proj`; config.target_parameters gets it,
  ///                       and the factors are stored under the module before the last dot
  /// \param[in] count      E; config.rank has to be r
  /// \param[in] layout     order of B's columns; `rank_major` is what PEFT reads. The file says it for
  ///                       read_flat_experts()
  /// \param[in] down       d_in x (E r), column-major
  /// \param[in] up         (E r) x d_out, column-major
  /// \throws shape_error   if E does not divide the columns, the ranks differ, or r is not config.rank
  /// \throws format_error  if the name has no dot, is taken or not UTF-8
  template <class Down, class Up>
  void add_flat_experts(std::string const& parameter, index_t count, flat_layout layout,
                        Down const& down, Up const& up) {
    auto const a = column_major(down);
    auto const b = column_major(up);
    using T = std::remove_const_t<scalar_t<decltype(b)>>;
    index_t const rank = bank_rank(count, a.rows, a.cols, b.rows, b.cols);
    std::size_t const dot = parameter.rfind('.');
    if (dot == parameter.npos)
      detail::throw_format(format_fault::name, "peft_writer", detail::in_quotes(parameter),
                           "module.parameter");
    std::string const name = parameter.substr(0, dot);
    if (rank != config_.rank_of(name))
      detail::throw_shape(
          "peft_writer", "down", a.rows, a.cols,
          std::to_string(count * config_.rank_of(name)) + " columns for the configuration's rank");
    auto& bytes = kept_.emplace_back(sizeof(T) * static_cast<std::size_t>(b.rows * b.cols));
    matrix_ref<T> ordered{reinterpret_cast<T*>(bytes.data()), b.rows, b.cols, b.rows};
    for (index_t j = 0; j < b.cols; ++j)
      for (index_t i = 0; i < b.rows; ++i) ordered(i, j) = b(i, j);
    if (layout == flat_layout::rank_major) reorder_flat_experts(count, false, ordered);
    tensors_.add_columns_as_rows(full(name) + ".lora_A.weight", down);
    tensors_.add_columns_as_rows(full(name) + ".lora_B.weight", ordered);
    tensors_.add_metadata(flat_layout_entry(name), std::string(name_of(layout)));
    config_.target_parameters.push_back(parameter);
  }

  /// \brief Writes the two files into a folder that exists.
  ///
  /// Each file is replaced in one step, the factors first: a crash between the two leaves new factors
  /// beside the old configuration, both whole.
  /// \param[in] folder  its path
  /// \throws format_error  if a file cannot be written; then that one is as before
  void write(std::string const& folder) const {
    peft_config config = config_;
    if (config.target_modules.empty()) config.target_modules = modules_;
    std::string const text = write_peft_config(config);
    tensors_.write(folder + "/adapter_model.safetensors");
    atomic_file file(folder + "/adapter_config.json");
    file.write(std::string_view(text));
    file.publish();
  }

 private:
  static std::string full(std::string const& name) { return "base_model.model." + name; }

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
  std::vector<std::string> modules_;
  std::deque<std::vector<std::byte>> kept_;  // what the tensors above refer to
};

}  // namespace stiefelx
