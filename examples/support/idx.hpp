// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
#pragma once

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "examples/support/file.hpp"
#include "examples/support/images.hpp"

namespace example {

/// The two parts of Fashion-MNIST: 60,000 and 10,000 images of 28 x 28 in ten classes.
struct fashion_mnist {
  labelled_images train;  ///< 60,000 images
  labelled_images test;   ///< 10,000 images
};

namespace detail {

// An IDX file, gzipped or plain: gzread passes bytes through when there is no gzip header.
class idx_file {
 public:
  explicit idx_file(std::filesystem::path path) : path_(std::move(path)) {
    errno = 0;
    file_.reset(gzopen(path_.c_str(), "rb"));
    if (!file_) fail("an IDX file", "nothing (" + error_text(errno == 0 ? ENOMEM : errno) + ")");
    gzbuffer(file_.get(), 1u << 17);
  }

  [[noreturn]] void fail(std::string_view expected, std::string_view found) const {
    throw file_error(path_, expected, found);
  }

  // Reads the magic number of unsigned bytes with as many dimensions, then the dimensions.
  template <std::size_t Dimensions>
  std::array<std::size_t, Dimensions> read_header() {
    std::array<std::uint8_t, 4> magic{};
    std::array<std::uint8_t, 4> const wanted{0, 0, 8, static_cast<std::uint8_t>(Dimensions)};
    auto const length = read(magic);
    if (magic != wanted) {
      fail("the first bytes " + hex(wanted) +
               " (IDX, unsigned bytes, dimensions: " + std::to_string(Dimensions) + ")",
           length == 0 ? ending() : hex(std::span(magic).first(length)));
    }
    std::array<std::uint8_t, 4 * Dimensions> bytes{};
    auto const found = read(bytes);
    if (found < bytes.size()) fail_length(bytes.size(), "the dimensions", found);
    std::array<std::size_t, Dimensions> sizes{};
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      sizes[i / 4] = (sizes[i / 4] << 8) | bytes[i];
    }
    return sizes;
  }

  // Reads exactly `size` bytes up to the end of the file.
  std::vector<std::uint8_t> read_rest(std::size_t size, std::string_view what) {
    // The size comes from the file, so memory grows with the bytes that are really there.
    std::size_t constexpr piece = std::size_t{1} << 24;
    std::vector<std::uint8_t> bytes;
    while (bytes.size() < size) {
      auto const before = bytes.size();
      bytes.resize(std::min(size, before + piece));
      auto const found = before + read(std::span(bytes).subspan(before));
      if (found < bytes.size()) fail_length(size, what, found);
    }
    // This read also makes zlib compare the checksum at the end.
    std::array<std::uint8_t, 1> beyond{};
    if (read(beyond) != 0) fail(amount(size, what), "a longer file");
    if (broken()) fail(amount(size, what) + " and the checksum", ending());
    return bytes;
  }

 private:
  struct closer {
    void operator()(gzFile_s* file) const { gzclose_r(file); }
  };

  static std::string hex(std::span<std::uint8_t const> bytes) {
    std::string text;
    for (auto const byte : bytes) {
      if (!text.empty()) text += ' ';
      text += "0123456789abcdef"[byte >> 4];
      text += "0123456789abcdef"[byte & 15];
    }
    return text;
  }

  static std::string amount(std::size_t size, std::string_view what) {
    return std::to_string(size) + " bytes of " + std::string(what);
  }

  [[noreturn]] void fail_length(std::size_t size, std::string_view what, std::size_t found) const {
    fail(amount(size, what), std::to_string(found) + " bytes, then " + ending());
  }

  // Fills `bytes` as far as the file goes and returns how many there are.
  std::size_t read(std::span<std::uint8_t> bytes) {
    std::size_t done = 0;
    while (done < bytes.size()) {
      auto const wanted =
          static_cast<unsigned>(std::min<std::size_t>(bytes.size() - done, 1 << 20));
      errno = 0;
      int const count = gzread(file_.get(), bytes.data() + done, wanted);
      if (count < 0) fail("readable content", ending());
      if (count == 0) break;
      done += static_cast<std::size_t>(count);
    }
    return done;
  }

  bool broken() const {
    int code = Z_OK;
    gzerror(file_.get(), &code);
    return code != Z_OK;
  }

  // Why nothing more can be read, in zlib's or the system's words.
  std::string ending() const {
    int const system = errno;
    int code = Z_OK;
    std::string_view text = gzerror(file_.get(), &code);
    if (code == Z_OK) return "the end of the file";
    if (code == Z_ERRNO) return error_text(system);
    auto const prefix = path_.string() + ": ";
    if (text.substr(0, prefix.size()) == prefix) text.remove_prefix(prefix.size());
    return "a damaged gzip file (" + std::string(text) + ")";
  }

  std::filesystem::path path_;
  std::unique_ptr<gzFile_s, closer> file_;
};

inline void expect_count(idx_file const& file, std::size_t expected, std::size_t found,
                         std::string const& what) {
  if (expected == 0 || found == expected) return;
  file.fail(std::to_string(expected) + " " + what, std::to_string(found));
}

}  // namespace detail

/// \brief Reads images from an IDX file, gzipped or plain.
///
/// Bytes after the last gzip member are ignored, as gzip itself does.
///
/// \param[in] path            the file
/// \param[in] expected_count  how many images it has to hold; 0: any number
/// \param[in] rows            height of every image
/// \param[in] cols            width of every image
/// \throws file_error  if the file is missing, damaged, too short, too long, not IDX, or of other
///                     sizes; memory is never claimed on the word of the header alone
inline image_set read_images(std::filesystem::path const& path, std::size_t expected_count,
                             std::size_t rows = 28, std::size_t cols = 28) {
  detail::idx_file file(path);
  auto const [count, height, width] = file.read_header<3>();
  detail::expect_count(file, expected_count, count, "images");
  if (height != rows || width != cols) {
    file.fail("images of " + std::to_string(rows) + " x " + std::to_string(cols),
              std::to_string(height) + " x " + std::to_string(width));
  }
  return {count, rows, cols, file.read_rest(count * rows * cols, "pixels")};
}

/// \brief Reads class labels from an IDX file, gzipped or plain.
/// \param[in] path            the file
/// \param[in] expected_count  how many labels it has to hold; 0: any number
/// \param[in] classes         every label is below this number
/// \throws file_error  as read_images, and if a label is out of range
inline std::vector<std::uint8_t> read_labels(std::filesystem::path const& path,
                                             std::size_t expected_count, std::size_t classes) {
  detail::idx_file file(path);
  auto const [count] = file.read_header<1>();
  detail::expect_count(file, expected_count, count, "labels");
  auto labels = file.read_rest(count, "labels");
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < classes) continue;
    file.fail("labels below " + std::to_string(classes),
              std::to_string(labels[i]) + " at position " + std::to_string(i));
  }
  return labels;
}

/// \brief Reads Fashion-MNIST from a folder with its four files under their usual names.
/// \param[in] folder  holds `train-images-idx3-ubyte.gz` and the three others; a file without
///                    `.gz` is taken where there is none with it
/// \throws file_error  names the first file that is not as it should be
inline fashion_mnist read_fashion_mnist(std::filesystem::path const& folder) {
  auto const find = [&](std::string const& name) {
    std::error_code ignored;
    auto const plain = folder / name;
    auto const zipped = folder / (name + ".gz");
    bool const only_plain =
        !std::filesystem::exists(zipped, ignored) && std::filesystem::exists(plain, ignored);
    return only_plain ? plain : zipped;
  };
  auto const part = [&](std::string const& name, std::size_t count) {
    return labelled_images{read_images(find(name + "-images-idx3-ubyte"), count),
                           read_labels(find(name + "-labels-idx1-ubyte"), count, 10)};
  };
  return {part("train", 60000), part("t10k", 10000)};
}

}  // namespace example
