// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <stiefelx/core/random.hpp>
#include <stiefelx/io/json.hpp>
#include <stiefelx/io/json_writer.hpp>
#include <stiefelx/io/safetensors.hpp>
#include <stiefelx/io/safetensors_writer.hpp>

/// \file
/// \brief Everything that a training run needs to go on with the same bits, in one file.
/// \ingroup io
///
/// A checkpoint is a safetensors file whose metadata say `stiefelx.format` = 1, so other programs can
/// read its tensors. A matrix is a tensor with its columns as rows. Array A of state S is the tensor
/// `S/A`, complex ones with a last dimension of 2, and the metadata entry `state:S` names the optimizer and
/// the order of its arrays. Streams of random numbers are `stream:N` = "seed offset", whole numbers
/// `number:N`, texts `text:N`.

namespace stiefelx {

/// \brief A saved state of an optimizer: its name and named arrays of bytes, as save() returns it.
/// \ingroup io
template <class State>
concept SavedState = requires(State s) {
  { s.optimizer } -> std::convertible_to<std::string>;
  { s.arrays.begin()->name } -> std::convertible_to<std::string>;
  { s.arrays.begin()->scalar } -> std::convertible_to<std::string>;
  { s.arrays.begin()->rows } -> std::convertible_to<index_t>;
  { s.arrays.begin()->cols } -> std::convertible_to<index_t>;
  { s.arrays.begin()->bytes.data() } -> std::convertible_to<std::byte*>;
};

namespace detail {

inline constexpr std::string_view checkpoint_format = "stiefelx.format";

// How arrays of a state are stored: type in the file, and numbers an entry.
struct checkpoint_scalar {
  std::string_view name;
  dtype type;
  std::uint64_t parts;
};

inline checkpoint_scalar const* find_checkpoint_scalar(std::string_view name) {
  static constexpr checkpoint_scalar known[] = {{"float32", dtype::f32, 1},
                                                {"float64", dtype::f64, 1},
                                                {"complex64", dtype::f32, 2},
                                                {"complex128", dtype::f64, 2},
                                                {"int32", dtype::i32, 1}};
  for (checkpoint_scalar const& s : known)
    if (s.name == name) return &s;
  return nullptr;
}

}  // namespace detail

/// \brief Collects parameters, states and counters, and writes them to one file in one step.
/// \ingroup io
///
/// Matrices are not copied: they stay where they are until write(). States are.
class checkpoint_writer {
 public:
  /// Begins an empty checkpoint.
  checkpoint_writer() { tensors_.add_metadata(std::string(detail::checkpoint_format), "1"); }

  /// \brief Adds a matrix.
  /// \param[in] name  not used before
  /// \param[in] m     column-major, any stride; a temporary that owns its entries does not compile
  /// \throws format_error  if the name is taken, reserved or not UTF-8
  template <class M>
    requires detail::OutlivesTheCall<M>
  void add(std::string name, M&& m) {
    tensors_.add_columns_as_rows(std::move(name), m);
  }

  /// \brief Adds the state of an optimizer.
  /// \param[in] name   not used before
  /// \param[in] state  what save() returned; it is kept until write()
  /// \throws format_error  if a name is taken, or the state contradicts itself
  template <SavedState State>
  void add_state(std::string const& name, State const& state) {
    json_value::array order;
    for (auto const& a : state.arrays) {
      auto const* const scalar = detail::find_checkpoint_scalar(a.scalar);
      if (scalar == nullptr)
        detail::throw_format(format_fault::dtype, "checkpoint_writer",
                             detail::shown(name + "/" + a.name) + " of " + a.scalar,
                             "float32, float64, complex64, complex128 or int32");
      auto const size = [](index_t n) { return static_cast<std::uint64_t>(n); };
      tensor_shape shape{size(a.cols), size(a.rows)};
      if (scalar->parts > 1) shape.append(scalar->parts);
      kept_.emplace_back(a.bytes.begin(), a.bytes.end());
      tensors_.add_bytes(name + "/" + a.name, scalar->type, shape, kept_.back());
      order.emplace_back(a.name);
    }
    tensors_.add_metadata("state:" + name,
                          write_json(json_value::object{{"optimizer", std::string(state.optimizer)},
                                                        {"arrays", std::move(order)}}));
  }

  /// \brief Adds the counters of a stream of random numbers.
  /// \param[in] name    not used for a stream before
  /// \param[in] stream  seed and offset
  /// \throws format_error  if the name is taken
  void add_stream(std::string const& name, random_stream const& stream) {
    tensors_.add_metadata("stream:" + name,
                          std::to_string(stream.seed) + " " + std::to_string(stream.offset));
  }
  /// \brief Adds a whole number, such as the step.
  /// \param[in] name   not used for a number before
  /// \param[in] value  any
  /// \throws format_error  if the name is taken
  void add_number(std::string const& name, std::int64_t value) {
    tensors_.add_metadata("number:" + name, std::to_string(value));
  }
  /// \brief Adds a text, such as a configuration.
  /// \param[in] name   not used for a text before
  /// \param[in] value  UTF-8
  /// \throws format_error  if the name is taken, or the text is not UTF-8
  void add_text(std::string const& name, std::string value) {
    tensors_.add_metadata("text:" + name, std::move(value));
  }

  /// \brief Writes the file, or leaves the old one as it is.
  /// \param[in] path  the file; its folder exists
  /// \throws format_error  if it cannot be written
  void write(std::string const& path) const { tensors_.write(path); }

  /// \brief The bytes of the file.
  /// \returns what write() writes
  /// \throws format_error  if the header would be longer than the format allows
  std::vector<std::byte> bytes() const { return tensors_.bytes(); }

 private:
  safetensors_writer tensors_;
  std::deque<std::vector<std::byte>> kept_;  // what the tensors above refer to
};

/// \brief Reads what checkpoint_writer wrote.
/// \ingroup io
///
/// Every call checks before it writes, and one that throws changes nothing. To change nothing at all
/// unless the whole checkpoint fits, read into copies first.
class checkpoint_reader {
 public:
  /// \brief Opens a checkpoint.
  /// \param[in] path  the file
  /// \throws format_error  if it is no sound safetensors file, or no checkpoint of this version
  explicit checkpoint_reader(std::string path) : file_(std::move(path)) { expect_format(); }

  /// \brief Looks at a checkpoint in memory.
  /// \param[in] bytes  the whole file, which stays there while this is used
  /// \throws format_error  if it is no sound safetensors file, or no checkpoint of this version
  explicit checkpoint_reader(std::span<std::byte const> bytes) : file_(bytes) { expect_format(); }

  /// The tensors behind it.
  /// \returns the open file
  safetensors_file const& file() const { return file_; }

  /// \brief Reads a matrix.
  /// \param[in]  name  as it was added
  /// \param[out] m     of the same shape and scalar, column-major, any stride
  /// \throws format_error  if there is none of this name, or its shape or type is another
  template <class M>
  void read(std::string_view name, M&& m) const {
    using S = std::remove_const_t<scalar_t<decltype(column_major(m))>>;
    stored_tensor const& t = file_.at(name);
    if (t.type != dtype_of<S>)
      fail(format_fault::dtype,
           detail::in_quotes(name) + " of " + std::string(safetensors_name(t.type)),
           std::string(safetensors_name(dtype_of<S>)));
    file_.read_rows_as_columns(name, m);
  }

  /// \brief Reads the state of an optimizer, for load().
  /// \tparam State  optimizer_state
  /// \param[in] name  as it was added
  /// \returns the state; load() compares it with the optimizer
  /// \throws format_error  if there is none of this name, or it contradicts itself
  template <SavedState State>
  State state(std::string const& name) const {
    json_value const entry = read_json(text_of("state:" + name), file_.origin(), 4);
    State result;
    result.optimizer = entry.at("optimizer").text();
    // A name that is repeated would have its array's bytes as often: far more than the file has.
    std::set<std::string_view> names;
    for (json_value const& array : entry.at("arrays").elements()) {
      if (!names.insert(array.text()).second)
        fail(format_fault::duplicate_name,
             "array " + detail::in_quotes(array.text()) + " twice in state " +
                 detail::in_quotes(name),
             "every array once");
      auto& a = result.arrays.emplace_back();
      a.name = array.text();
      stored_tensor const& t = file_.at(name + "/" + a.name);
      bool const is_complex = t.shape.rank() == 3 && t.shape[2] == 2;
      if (t.shape.rank() != 2 && !is_complex)
        fail(format_fault::shape, detail::in_quotes(t.name) + " of shape " + t.shape.text(),
             "[columns, rows], or [columns, rows, 2]");
      a.scalar = scalar_of(t, is_complex);
      a.cols = static_cast<index_t>(t.shape[0]);
      a.rows = static_cast<index_t>(t.shape[1]);
      a.bytes.resize(static_cast<std::size_t>(t.end - t.begin));
      file_.read_bytes(t.name, std::span<std::byte>(a.bytes.data(), a.bytes.size()));
    }
    return result;
  }

  /// \brief Reads the counters of a stream of random numbers.
  /// \param[in] name  as it was added
  /// \returns seed and offset
  /// \throws format_error  if there is none of this name, or it is no pair of numbers
  random_stream stream(std::string const& name) const {
    std::string const& text = text_of("stream:" + name);
    std::size_t const blank = text.find(' ');
    random_stream found;
    if (blank == text.npos || !is_number(text.substr(0, blank), found.seed) ||
        !is_number(text.substr(blank + 1), found.offset))
      fail(format_fault::number, "stream " + detail::in_quotes(text), "seed and offset");
    return found;
  }
  /// \brief Reads a whole number.
  /// \param[in] name  as it was added
  /// \returns the number
  /// \throws format_error  if there is none of this name, or it is no number
  std::int64_t number(std::string const& name) const {
    std::string const& text = text_of("number:" + name);
    std::int64_t value = 0;
    if (!is_number(text, value))
      fail(format_fault::number, "number " + detail::in_quotes(text), "a whole number");
    return value;
  }
  /// \brief Reads a text.
  /// \param[in] name  as it was added
  /// \returns the text
  /// \throws format_error  if there is none of this name
  std::string const& text(std::string const& name) const { return text_of("text:" + name); }

 private:
  [[noreturn]] void fail(format_fault fault, std::string_view found,
                         std::string_view expected) const {
    detail::throw_format(fault, file_.origin(), found, expected);
  }

  void expect_format() const {
    std::string const* const format = file_.metadata(detail::checkpoint_format);
    if (format == nullptr)
      fail(format_fault::version, "no stiefelx.format in the metadata", "a checkpoint");
    if (*format != "1")
      fail(format_fault::version, "stiefelx.format " + detail::in_quotes(*format), "'1'");
  }

  std::string const& text_of(std::string const& name) const {
    std::string const* const found = file_.metadata(name);
    if (found == nullptr)
      fail(format_fault::member, "no " + detail::in_quotes(name) + " in the metadata",
           "that entry");
    return *found;
  }

  std::string scalar_of(stored_tensor const& t, bool is_complex) const {
    if (t.type == dtype::i32 && !is_complex) return "int32";
    if (t.type == dtype::f32) return is_complex ? "complex64" : "float32";
    if (t.type == dtype::f64) return is_complex ? "complex128" : "float64";
    fail(format_fault::dtype,
         detail::in_quotes(t.name) + " of " + std::string(safetensors_name(t.type)),
         "F32, F64 or I32");
  }

  template <class T>
  static bool is_number(std::string_view text, T& value) {
    auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
  }

  safetensors_file file_;
};

}  // namespace stiefelx
