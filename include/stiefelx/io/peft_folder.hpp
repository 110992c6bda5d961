// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <stiefelx/io/flat_experts.hpp>
#include <stiefelx/io/peft_config.hpp>
#include <stiefelx/io/peft_modules.hpp>
#include <stiefelx/io/safetensors.hpp>

namespace stiefelx {

/// \brief A PEFT adapter folder that is open for reading.
/// \ingroup io
///
/// Reads `adapter_config.json` and the header of `adapter_model.safetensors`, and checks one against
/// the other: every module has both factors, of one rank, and that rank is the configuration's. A
/// folder without an adapted module is refused, and so is one with a tensor of an adapter that is not
/// read here, such as the factors of an embedding.
/// The factors are read when they are asked for. A row-major lora_A [r, d_in] is the column-major d_in x r
/// matrix that layers here call down, and a lora_B [d_out, r] the r x d_out matrix up, so nothing is
/// transposed.
///
/// Pickled files (adapter_model.bin) can run code and are not read; examples/convert_moe_peft.py makes
/// such a folder one that is read here, with the experts of MixLoRA, LoRAMoE and MoLA fused.
class peft_folder {
 public:
  /// \brief Opens a folder.
  /// \param[in] folder   its path
  /// \param[in] options  what is accepted
  /// \throws format_error  if a file is missing, unsound, or contradicts the other
  explicit peft_folder(std::string const& folder, peft_options options = {})
      // Braces: the configuration is read first.
      : peft_folder{read_config(folder + "/adapter_config.json", options),
                    safetensors_file(tensors_of(folder))} {}

  /// \brief Looks at the content of both files in memory.
  /// \param[in] config   the text of adapter_config.json
  /// \param[in] tensors  the bytes of adapter_model.safetensors, which stay there while this is used
  /// \param[in] options  what is accepted
  /// \throws format_error  if one is unsound, or contradicts the other
  peft_folder(std::string_view config, std::span<std::byte const> tensors,
              peft_options options = {})
      : peft_folder{read_peft_config(config, "adapter_config.json", options),
                    safetensors_file(tensors)} {}

  /// What the configuration says.
  /// \returns it
  peft_config const& config() const { return config_; }
  /// The adapted modules, by name.
  /// \returns their descriptions
  std::vector<peft_module> const& modules() const { return content_.modules; }
  /// Names of tensors that belong to no adapter, such as a router's.
  /// \returns full names, for file()
  std::vector<std::string> const& others() const { return content_.others; }
  /// The tensors behind it.
  /// \returns the open file
  safetensors_file const& file() const { return file_; }

  /// \brief A module that has to be there.
  /// \param[in] name  its name
  /// \returns its description
  /// \throws format_error  if there is none of this name
  peft_module const& at(std::string_view name) const {
    for (peft_module const& m : content_.modules)
      if (m.name == name) return m;
    detail::throw_format(format_fault::missing_tensor, file_.origin(),
                         "no adapter of " + detail::in_quotes(name), "that module");
  }

  /// \brief Reads the factors of a module.
  ///
  /// Fused experts are refused, since the order of their rows in up is not asked for here: see
  /// read_flat_experts().
  /// \param[in]  name  the module
  /// \param[out] down  d_in x r, column-major, any stride
  /// \param[out] up    r x d_out, column-major, any stride: r rows of a bank as well
  /// \param[in]  how   whether numbers may be rounded to the entries
  /// \throws format_error  if there is no such module, it has more than one fused expert, its shape is
  ///                       another, or its values do not fit; then both are as before
  template <class Down, class Up>
  void read(std::string_view name, Down&& down, Up&& up, conversion how = conversion::exact) const {
    peft_module const& m = at(name);
    expect_not_fused(m);
    read_factors(m, column_major(down), column_major(up), how);
  }

  /// \brief Reads the magnitudes of a module with DoRA.
  /// \param[in]  name       the module
  /// \param[out] magnitude  1 x d_out
  /// \param[in]  how        whether numbers may be rounded to the entries
  /// \throws format_error  if there are none, or they do not fit; then magnitude is as before
  template <class M>
  void read_magnitude(std::string_view name, M&& magnitude,
                      conversion how = conversion::exact) const {
    peft_module const& m = at(name);
    stored_tensor const* const tensor = parts_of(m).magnitude;
    if (tensor == nullptr)
      detail::throw_format(format_fault::missing_tensor, file_.origin(),
                           "no magnitudes of " + detail::in_quotes(name), "an adapter with DoRA");
    auto const view = column_major(magnitude);
    expect_size(m, 1, m.d_out, view.rows, view.cols, "lora_magnitude_vector");
    std::vector<scalar_t<decltype(view)>> values(static_cast<std::size_t>(m.d_out));
    file_.read_entries(tensor->name, std::span(values), how);
    for (index_t j = 0; j < m.d_out; ++j) view(0, j) = values[static_cast<std::size_t>(j)];
  }

  /// \brief Reads experts that are modules of their own into a bank.
  ///
  /// Expert e is the module PREFIX + e, for example `layers.0.mlp.up_proj.experts.` and 0, 1, ...
  /// \param[in]  prefix  what the experts' names begin with
  /// \param[in]  count   E, at least 1
  /// \param[out] down    d_in x (E r), column-major
  /// \param[out] up      (E r) x d_out, column-major
  /// \param[in]  how     whether numbers may be rounded to the entries
  /// \throws format_error  if E is below 1, or an expert is missing, has another shape, magnitudes (DoRA),
  ///                       for which a bank has no place, or fused experts of its own; then both are as
  ///                       before
  template <class Down, class Up>
  void read_experts(std::string const& prefix, index_t count, Down&& down, Up&& up,
                    conversion how = conversion::exact) const {
    auto const a = column_major(down);
    auto const b = column_major(up);
    if (count < 1)
      detail::throw_format(
          format_fault::shape, file_.origin(),
          detail::in_quotes(prefix) + " with " + std::to_string(count) + " experts",
          "at least one");
    index_t const rank = a.cols / count;
    for (index_t e = 0; e < count; ++e) {
      peft_module const& m = at(prefix + std::to_string(e));
      if (m.magnitude)
        fail(m.name, "with magnitudes, for which a bank has no place",
             "an expert without DoRA; read() and read_magnitude() read one with it");
      expect_not_fused(m);
      expect_size(m, m.d_in, count * m.rank, a.rows, a.cols, "the bank of lora_A");
      expect_size(m, count * m.rank, m.d_out, b.rows, b.cols, "the bank of lora_B");
      expect_type<scalar_t<decltype(b)>>(m, how);
    }
    for (index_t e = 0; e < count; ++e) {
      matrix_ref down_e{a.data + e * rank * a.stride, a.rows, rank, a.stride};
      matrix_ref up_e{b.data + e * rank, rank, b.cols, b.stride};
      read(prefix + std::to_string(e), down_e, up_e, how);
    }
  }

  /// \brief Reads fused experts, one A [E r, d_in] and one B [d_out, E r], into a bank.
  ///
  /// Where a module has several fused parameters, PEFT stores the factors of its last parameter
  /// under the module, and those of the one before under that name and `.base_layer`, and so on.
  /// Which parameter that is the file does not say. Nor does it say of a square parameter, d_in =
  /// d_out, whether the factors are those of its transpose: they have the same shapes, and the
  /// caller has to know.
  /// \param[in]  name    the module
  /// \param[in]  count   E, which the configuration fixes: all rows over the rank of the module
  /// \param[in]  layout  order of B's columns; files do not say it, so it has no default
  /// \param[out] down    d_in x (E r), column-major
  /// \param[out] up      (E r) x d_out, column-major
  /// \param[in]  how     whether numbers may be rounded to the entries
  /// \throws format_error  if there is no such module, it has another number of experts, its shape is
  ///                       another (the text says so if it is that of the transposed parameter), its
  ///                       values do not fit, or the file does say the layout and it is another; then
  ///                       both are as before
  template <class Down, class Up>
  void read_flat_experts(std::string_view name, index_t count, flat_layout layout, Down&& down,
                         Up&& up, conversion how = conversion::exact) const {
    auto const a = column_major(down);
    auto const b = column_major(up);
    peft_module const& m = at(name);
    if (count != experts_of(m))
      detail::throw_format(
          format_fault::shape, file_.origin(),
          detail::in_quotes(name) + " asked for as " + std::to_string(count) + " experts",
          std::to_string(experts_of(m)) + " of rank " + std::to_string(config_.rank_of(m.name)) +
              ", as the configuration says");
    if (m.d_in != m.d_out && m.d_in == b.cols && m.d_out == a.rows)
      detail::throw_format(
          format_fault::shape, file_.origin(),
          detail::in_quotes(name) + " with the factors of the transposed parameter",
          std::to_string(a.rows) + " inputs and " + std::to_string(b.cols) + " outputs");
    std::string const* const said = file_.metadata(flat_layout_entry(name));
    if (said != nullptr && *said != name_of(layout))
      detail::throw_format(
          format_fault::member, file_.origin(),
          detail::in_quotes(name) + " asked for as " + std::string(name_of(layout)),
          "the file's " + detail::in_quotes(*said));
    read_factors(m, a, b, how);
    if (layout == flat_layout::rank_major) reorder_flat_experts(count, true, b);
  }

 private:
  peft_folder(peft_config config, safetensors_file file)
      : config_(std::move(config)),
        file_(std::move(file)),
        content_(detail::peft_sorter(config_, file_.origin()).sort(file_.tensors())) {}

  // The file with the tensors, or the reason why there is none.
  static std::string tensors_of(std::string const& folder) {
    std::string path = folder + "/adapter_model.safetensors";
    std::string const pickled = folder + "/adapter_model.bin";
    if (::access(path.c_str(), F_OK) != 0 && ::access(pickled.c_str(), F_OK) == 0)
      detail::throw_format(format_fault::cannot_open, pickled, "a pickled file, which can run code",
                           "adapter_model.safetensors; examples/convert_moe_peft.py writes it");
    return path;
  }

  static peft_config read_config(std::string const& path, peft_options options) {
    byte_source const source{std::string(path)};
    constexpr std::uint64_t most = 1'000'000;
    if (source.size() > most)
      detail::throw_format(format_fault::header_length, path,
                           std::to_string(source.size()) + " bytes", "at most 1000000");
    std::string text(static_cast<std::size_t>(source.size()), '\0');
    source.read(0, std::as_writable_bytes(std::span(text)));
    return read_peft_config(text, path, options);
  }

  [[noreturn]] void fail(std::string_view module, std::string_view found,
                         std::string_view expected) const {
    detail::throw_format(format_fault::shape, file_.origin(),
                         detail::in_quotes(module) + " " + std::string(found), expected);
  }

  detail::peft_parts const& parts_of(peft_module const& m) const {
    return content_.parts.find(m.name)->second;
  }

  // The rows of a module over the configuration's rank: 1, or what is fused.
  index_t experts_of(peft_module const& m) const { return m.rank / config_.rank_of(m.name); }

  void expect_not_fused(peft_module const& m) const {
    if (experts_of(m) != 1)
      fail(m.name,
           "with " + std::to_string(experts_of(m)) + " fused experts, in an order to be asked for",
           "read_flat_experts()");
  }

  template <class A, class B>
  void read_factors(peft_module const& m, matrix_ref<A> a, matrix_ref<B> b, conversion how) const {
    expect_size(m, m.d_in, m.rank, a.rows, a.cols, "lora_A");
    expect_size(m, m.rank, m.d_out, b.rows, b.cols, "lora_B");
    expect_type<B>(m, how);
    detail::peft_parts const& p = parts_of(m);
    file_.read_rows_as_columns(p.a->name, a, how);
    file_.read_rows_as_columns(p.b->name, b, how);
  }

  void expect_size(peft_module const& m, index_t rows, index_t cols, index_t found_rows,
                   index_t found_cols, char const* what) const {
    if (rows == found_rows && cols == found_cols) return;
    fail(m.name,
         std::string("with ") + what + " for " + std::to_string(rows) + "x" + std::to_string(cols),
         "one for " + std::to_string(found_rows) + "x" + std::to_string(found_cols));
  }

  // Refuses the values of both factors before memory is written.
  template <class T>
  void expect_type(peft_module const& m, conversion how) const {
    detail::peft_parts const& p = parts_of(m);
    for (stored_tensor const* t : {p.a, p.b})
      detail::expect_conversion(file_.origin(), t->name, t->type, dtype_of<T>, how);
  }

  peft_config config_;
  safetensors_file file_;
  detail::peft_content content_;  // refers to the tensors' descriptions in file_
};

}  // namespace stiefelx
